//! Kubernetes' own end-to-end suite against this cluster: its program, and what it expects to find.
//!
//! It runs as a client behind the routers that reaches the API server as well. It wants a name server for the cluster, and the
//! image of its test program: that is built here from the program and from Debian's `sh`, `curl`, `wget`, `nc` and `hostname`.

use crate::bed::{Bed, HERALD, go_build};
use crate::images;
use crate::rig::net::Namespace;
use crate::rig::process::Process;
use crate::rig::{Outcome, Rig, run, wait_until, write_file};
use crate::topology::CONTROL_PLANE;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The list of the suite's tests that concern us.
const LIST: &str = include_str!("e2e.tsv");
/// Host number of the client that the suite runs on.
const OPERATOR: u8 = 50;
/// More than the longest test takes, a rolling update.
const LONGEST: Duration = Duration::from_secs(40 * 60);

/// When a test is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Always.
    Quick,
    /// With all the others.
    Long,
    /// Not applicable.
    Never,
}

/// What a test is run behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// Next hops chosen by addresses and ports.
    Ports,
    /// Next hops chosen by addresses.
    Addresses,
    /// As `Ports`, and an allocator that sets finalizers from now on.
    Finalizers,
}

/// A test of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// When it is run.
    pub when: When,
    /// What it wants.
    pub behind: Behind,
    /// Its full name.
    pub name: &'static str,
}

impl Test {
    /// Its name without the words that all have.
    pub fn short(&self) -> &'static str {
        let name = self.name.split_once("LoadBalancers ").map_or(self.name, |(_, rest)| rest);
        name.trim_end_matches(" [Slow]").trim_end_matches(" [LinuxOnly]")
    }
}

/// Every test of the list.
///
/// # Errors
/// A line is not as the list's head says.
pub fn listed() -> Outcome<Vec<Test>> {
    LIST.lines().filter(|line| !line.starts_with('#')).map(parse).collect()
}

fn parse(line: &'static str) -> Outcome<Test> {
    let wrong = || format!("e2e.tsv: what is {line:?}?");
    let [when, behind, name] = line.split('\t').collect::<Vec<_>>()[..] else {
        return Err(wrong());
    };
    let when = match when {
        "quick" => When::Quick,
        "long" => When::Long,
        "never" => When::Never,
        _ => return Err(wrong()),
    };
    let behind = match behind {
        "ports" => Behind::Ports,
        "addresses" => Behind::Addresses,
        "finalizers" => Behind::Finalizers,
        _ => return Err(wrong()),
    };
    Ok(Test { when, behind, name })
}

/// The suite, ready to run; dropping it ends the name server.
#[derive(Debug)]
pub struct Suite<'a> {
    bed: &'a Bed,
    space: Namespace,
    programs: PathBuf,
    _names: Process,
}

impl<'a> Suite<'a> {
    /// Builds and imports the test image, starts the name server and wires the client.
    ///
    /// # Errors
    /// Something could not be built or started.
    pub fn start(bed: &'a Bed) -> Outcome<Self> {
        let programs = go_build("e2e")?;
        let archive = test_image(&bed.rig, &programs)?;
        bed.nodes.iter().try_for_each(|node| node.import(&archive))?;
        let names = name_server(bed)?;
        let space = bed.topology.operator(&bed.rig, OPERATOR)?;
        Ok(Self { bed, space, programs, _names: names })
    }

    /// The names of all the tests that the program itself knows under the name of load balancers.
    ///
    /// # Errors
    /// It lists nothing.
    pub fn known(&self) -> Outcome<Vec<String>> {
        let mut command = Command::new(self.programs.join("e2e.test"));
        command.args(["--provider=skeleton", "--ginkgo.dry-run", "--ginkgo.v", "--ginkgo.no-color"]);
        let text = run(command.arg("--ginkgo.focus=LoadBalancers").current_dir(self.bed.rig.dir()))?;
        let lines = text.lines().filter(|line| line.starts_with("[sig-network] LoadBalancers"));
        // Behind the name stand the labels once more.
        let names: Vec<String> =
            lines.map(|line| line.rsplit_once(" [").map_or(line, |(name, _)| name).to_owned()).collect();
        if names.is_empty() { Err(format!("e2e.test lists no test:\n{text}")) } else { Ok(names) }
    }

    /// Sets everything up as some tests want it, from now on.
    ///
    /// # Errors
    /// A kernel parameter was refused, or the allocators did not start again.
    pub fn prepare(&self, behind: Behind) -> Outcome {
        match behind {
            Behind::Ports => self.choose_by(1),
            Behind::Addresses => self.choose_by(0),
            Behind::Finalizers => self.choose_by(1).and_then(|()| self.set_finalizers()),
        }
    }

    /// Makes routers and client hash by this policy of the kernel's: 0 for addresses, 1 for ports as well.
    fn choose_by(&self, policy: u8) -> Outcome {
        let settings = ["ipv4", "ipv6"].map(|family| format!("net.{family}.fib_multipath_hash_policy={policy}"));
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.bed.topology.routers.iter().chain([&self.space]).try_for_each(|space| space.sysctl(&settings))
    }

    fn set_finalizers(&self) -> Outcome {
        let allocator = ["-n", HERALD, "patch", "deployment", "herald-allocator", "--type=json", "-p"];
        let option = r#"[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"--cleanup-finalizer"}]"#;
        self.bed.kubectl().run(&[&allocator[..], &[option]].concat())?;
        let done = ["-n", HERALD, "rollout", "status", "deployment/herald-allocator", "--timeout=60s"];
        self.bed.kubectl().run(&done).map(drop)
    }

    /// Runs one test to its end; how long it took.
    ///
    /// # Errors
    /// It did not pass; the text holds what the suite said of it.
    pub fn run(&self, test: &Test) -> Outcome<Duration> {
        let begun = Instant::now();
        let mut command = self.space.command(&self.programs.join("e2e.test").display().to_string());
        command
            .args(["--provider=skeleton", "--num-nodes=3", "--minStartupPods=0", "--allowed-not-ready-nodes=0"])
            .args(["--ginkgo.v", "--ginkgo.no-color", "--ginkgo.timeout=40m", "--disable-log-dump"])
            .arg(format!("--ginkgo.focus={}$", literally(test.name)))
            .arg(format!("--kubeconfig={}", self.bed.kubeconfig().display()))
            .arg(format!("--kubectl-path={}", self.bed.programs().join("kubectl").display()))
            .env("HOME", self.bed.rig.dir())
            .current_dir(self.bed.rig.dir());
        let log: String = test.short().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let mut process = Process::start(&self.bed.rig, &format!("e2e-{log}"), command)?;
        let (status, _) = process.wait(LONGEST)?;
        let said = process.log();
        match status.success() && said.contains("1 Passed | 0 Failed") {
            true => Ok(begun.elapsed()),
            false => Err(format!("{} did not pass ({status}): {}", test.name, verdict(&said))),
        }
    }
}

/// A name as the suite's regular expression for exactly that name.
fn literally(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if !c.is_ascii_alphanumeric() && c != ' ' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// What the suite says of a failure.
fn verdict(log: &str) -> String {
    let failed: Vec<&str> = log.lines().filter(|line| line.contains("[FAILED]") || line.contains("Failed |")).collect();
    if failed.is_empty() { log.lines().rev().take(15).collect::<Vec<_>>().join("\n") } else { failed.join("\n") }
}

/// The name server of the cluster, beside the API server.
fn name_server(bed: &Bed) -> Outcome<Process> {
    let folder = bed.rig.folder("coredns", 0o755)?;
    let corefile = folder.join("Corefile");
    let text = format!(
        ".:53 {{
    bind {CONTROL_PLANE}
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {}
    }}
}}
",
        bed.kubeconfig().display()
    );
    write_file(&corefile, &text)?;
    let space = &bed.topology.control_plane;
    let mut command = space.command(&go_build("coredns")?.join("coredns").display().to_string());
    command.arg("-conf").arg(&corefile).current_dir(&folder);
    let mut process = Process::start(&bed.rig, "coredns", command)?;
    wait_until(Duration::from_secs(20), "the name server to be ready", || {
        process.alive()?;
        space.run("curl", &["-sf", "--max-time", "2", "http://127.0.0.1:8181/ready"])
    })?;
    Ok(process)
}

/// The suite's test image, under the name that the suite itself gives it.
fn test_image(rig: &Rig, programs: &Path) -> Outcome<PathBuf> {
    let images = run(Command::new(programs.join("e2e.test")).arg("--list-images").current_dir(rig.dir()))?;
    // It lists them in any order; besides the version that all tests use there is an older one, for tests of upgrades.
    let names = images.lines().filter(|line| line.contains("/e2e-test-images/agnhost:"));
    let name =
        names.max_by_key(|name| version(name)).ok_or_else(|| format!("the suite lists no agnhost:\n{images}"))?;
    let context = rig.folder("image-agnhost", 0o755)?;
    let root = rig.folder("image-agnhost/root", 0o755)?;
    copy(&programs.join("agnhost"), &root.join("agnhost"))?;
    for (program, name) in [
        ("dash", "sh"),
        ("curl", "curl"),
        ("wget", "wget"),
        ("nc.openbsd", "nc"),
        ("hostname", "hostname"),
        ("seq", "seq"),
    ] {
        with_libraries(program, name, &root)?;
    }
    // What the C library loads by itself to look up a name.
    for library in ["libnss_dns.so.2", "libnss_files.so.2"] {
        let path = Path::new("/lib/x86_64-linux-gnu").join(library);
        if path.exists() {
            copy(&path, &below(&root, &path))?;
        }
    }
    for (path, text) in [
        ("etc/nsswitch.conf", "hosts: files dns\n"),
        // One attempt, as the small wget of the suite's own image makes.
        ("etc/wgetrc", "tries = 1\n"),
        ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
        ("tmp/.keep", ""),
        ("uploads/.keep", ""),
    ] {
        let path = root.join(path);
        make_parent(&path)?;
        write_file(&path, text)?;
    }
    let dockerfile = context.join("Dockerfile");
    write_file(
        &dockerfile,
        "FROM scratch\nCOPY root/ /\nENV PATH=/bin:/usr/bin\nENTRYPOINT [\"/agnhost\"]\nCMD [\"pause\"]\n",
    )?;
    images::build(rig, name, &dockerfile, &context)
}

/// The numbers behind an image's name.
fn version(image: &str) -> Vec<u32> {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    tag.split('.').filter_map(|number| number.parse().ok()).collect()
}

/// Copies an installed program to `/bin/NAME` of an image, and the libraries that it is linked with to where they were.
fn with_libraries(program: &str, name: &str, root: &Path) -> Outcome {
    let found = run(Command::new("sh").args(["-c", &format!("command -v {program}")]))?;
    let path = Path::new(found.trim());
    copy(path, &root.join("bin").join(name))?;
    let linked = run(Command::new("ldd").arg(path))?;
    // `NAME => PATH (ADDRESS)`, and the loader as `PATH (ADDRESS)`.
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(library), &below(root, Path::new(library)))?;
    }
    Ok(())
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    make_parent(to)?;
    fs::copy(from, to).map(drop).map_err(|e| format!("{} could not be copied: {e}", from.display()))
}

fn make_parent(path: &Path) -> Outcome {
    path.parent().map_or(Ok(()), |parent| crate::rig::make_folder(parent, 0o755))
}
