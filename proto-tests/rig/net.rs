//! Network namespaces and the links between them.

use super::{Outcome, Rig, run};
use ipnetwork::IpNetwork;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::thread;

/// A network namespace of the suite's own. Removed by the rig, not by dropping this: a clone is only another name for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    name: String,
    short: String,
}

impl Namespace {
    /// Makes a namespace with loopback up, duplicate address detection off and reverse path filters off.
    ///
    /// # Errors
    /// A command failed.
    pub fn make(rig: &Rig, short: &str) -> Outcome<Self> {
        let name = format!("{}{short}", rig.prefix());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let space = Self { name, short: short.to_owned() };
        space.sysctl(&[
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
            "net.ipv6.conf.all.accept_dad=0",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.all.accept_ra=0",
            "net.ipv6.conf.default.accept_ra=0",
        ])?;
        space.ip(&["link set lo up"])?;
        Ok(space)
    }

    /// The name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that the suite gave it, without the prefix.
    pub fn short(&self) -> &str {
        &self.short
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// A command that will run inside. By `nsenter`, which leaves `/sys` and the cgroups alone; `ip netns exec` does not.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs a program inside, to its end.
    ///
    /// # Errors
    /// It failed; the text holds what it said.
    pub fn run(&self, program: &str, args: &[&str]) -> Outcome<String> {
        run(self.command(program).args(args))
    }

    /// Runs `ip` commands inside, all of them by one process. IPv6 routes need no flag: the address says the family.
    ///
    /// # Errors
    /// One of them failed; the text says which and why.
    pub fn ip(&self, commands: &[impl AsRef<str>]) -> Outcome {
        let text: String = commands.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        feed(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), &text)
            .map_err(|e| format!("in {}: {e}\n{text}", self.short))
    }

    /// Sets kernel parameters inside: `net.ipv4.ip_forward=1`.
    ///
    /// # Errors
    /// One of them was refused.
    pub fn sysctl(&self, settings: &[&str]) -> Outcome {
        self.run("sysctl", &[&["-q", "-w"], settings].concat()).map(drop)
    }

    /// Makes a router of it: forwarding, and flows spread over next hops by addresses and ports, for both families.
    ///
    /// # Errors
    /// A parameter was refused.
    pub fn forward(&self) -> Outcome {
        self.sysctl(&[
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.fib_multipath_hash_policy=1",
            "net.ipv6.fib_multipath_hash_policy=1",
        ])
    }

    /// Adds addresses to a link inside, at once usable.
    ///
    /// # Errors
    /// An address was refused.
    pub fn address(&self, link: &str, addresses: &[IpNetwork]) -> Outcome {
        let commands: Vec<String> = addresses
            .iter()
            .map(|address| match address {
                IpNetwork::V4(a) => format!("address add {a} dev {link}"),
                IpNetwork::V6(a) => format!("address add {a} dev {link} nodad"),
            })
            .collect();
        self.ip(&commands)
    }

    /// Routes that lead nowhere, at a metric that any real route beats: a withdrawn service must not leave the machine.
    ///
    /// # Errors
    /// A route was refused.
    pub fn dead_ends(&self, ranges: &[IpNetwork]) -> Outcome {
        let commands: Vec<String> =
            ranges.iter().map(|range| format!("route add unreachable {range} metric 4000000")).collect();
        self.ip(&commands)
    }

    /// A route over several next hops, used in equal shares, with a fixed source address.
    ///
    /// # Errors
    /// The route was refused.
    pub fn spread(&self, to: IpNetwork, via: &[IpAddr], source: Option<IpAddr>) -> Outcome {
        let source = source.map(|s| format!(" src {s}")).unwrap_or_default();
        let hops: String = via.iter().map(|hop| format!(" nexthop via {hop}")).collect();
        self.ip(&[format!("route add {to}{source}{hops}")])
    }

    /// Runs a closure on a new thread that lives in this namespace: sockets made there, and programs started there, are inside.
    pub fn thread<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<Outcome<T>> {
        let path = self.path();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let file = File::open(&path).map_err(|e| format!("{path} could not be opened: {e}"))?;
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .map_err(|e| format!("{path} could not be entered: {e}"))?;
                Ok(work())
            })
            .expect("a thread can be started")
    }

    /// Runs a closure inside this namespace and waits for its result.
    ///
    /// # Errors
    /// The namespace could not be entered, or the closure panicked.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Outcome<T> {
        self.thread("inside", work).join().unwrap_or_else(|_| Err(format!("a thread inside {} panicked", self.short)))
    }
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Where it is.
    pub space: Namespace,
    /// What the interface is called there.
    pub device: String,
}

/// A veth pair straight between two namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// One end.
    pub a: End,
    /// The other end.
    pub b: End,
}

impl Link {
    /// Makes the pair, gives each end its addresses and brings both up. Each interface is named after the far end.
    ///
    /// # Errors
    /// A command failed.
    pub fn make(a: (&Namespace, &[IpNetwork]), b: (&Namespace, &[IpNetwork])) -> Outcome<Self> {
        let (device_a, device_b) = (b.0.short().to_owned(), a.0.short().to_owned());
        run(Command::new("ip")
            .args(["link", "add", &device_a, "netns", a.0.name(), "type", "veth", "peer", "name"])
            .args([&device_b, "netns", b.0.name()]))?;
        for (end, device) in [(a, &device_a), (b, &device_b)] {
            end.0.ip(&[format!("link set {device} up")])?;
            end.0.address(device, end.1)?;
        }
        Ok(Self { a: End { space: a.0.clone(), device: device_a }, b: End { space: b.0.clone(), device: device_b } })
    }
}

/// Runs a program that reads its orders from its standard input.
///
/// # Errors
/// It failed; the text holds what it said.
pub fn feed(command: &mut Command, text: &str) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{command:?} could not be started: {e}"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(text.as_bytes()).map_err(|e| format!("{command:?} does not read its orders: {e}"))?;
    }
    let output = child.wait_with_output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end()))
}
