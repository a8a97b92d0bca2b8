//! What `deploy/` promises, read from its files: a configuration that announces nothing until somebody says so, rights as
//! reviewed, a pod without privileges. The cluster suite shows that it also runs.

use herald::advertise::policy::Classless;
use herald::config::Config;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The documents of a manifest.
fn documents(file: &str) -> Vec<Value> {
    let parse = |text: &str| serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    read(file).split("\n---\n").map(parse).collect()
}

fn document(file: &str, kind: &str) -> Value {
    let found = documents(file).into_iter().find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {file}"))
}

fn configuration() -> String {
    document("base/configmap.yaml", "ConfigMap")["data"]["herald.yaml"].as_str().expect("a text").to_owned()
}

fn parse(text: &str) -> Config {
    Config::parse("configmap.yaml", text).unwrap_or_else(|found| panic!("{found}")).0
}

#[test]
fn as_it_stands_nothing_is_announced() {
    let config = parse(&configuration());
    assert!(config.peers.is_empty() && config.policy.pools.is_empty() && config.policy.advertisements.is_empty());
}

#[test]
fn the_commented_lines_are_a_configuration_that_works() {
    let text: String = configuration()
        .lines()
        .map(|line| match line.strip_prefix("#  ") {
            Some(example) => format!("  {example}\n"),
            None => format!("{}\n", line.replace(": []", ":")),
        })
        .collect();
    let (config, found) = Config::parse("configmap.yaml", &text).unwrap_or_else(|found| panic!("{found}"));
    assert!(found.is_empty(), "{found}");
    assert_eq!((config.peers.len(), config.policy.pools.len(), config.policy.advertisements.len()), (2, 1, 1));
}

/// The rules of a role as lines of rights.txt, which begin with `who`.
fn granted(who: &str, role: &Value) -> BTreeSet<String> {
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let list = rule[key].as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
    };
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().expect("a list") {
        let name = texts(rule, "resourceNames").iter().map(|name| format!(" {name}")).collect::<String>();
        for group in texts(rule, "apiGroups") {
            let group = if group.is_empty() { "core".to_owned() } else { group };
            for resource in texts(rule, "resources") {
                let line = |verb: &String| format!("{who} {group} {resource} {verb}{name}");
                granted.extend(texts(rule, "verbs").iter().map(line));
            }
        }
    }
    granted
}

#[test]
fn rights_are_the_reviewed_list() {
    let speaker = granted("speaker", &document("base/rbac.yaml", "ClusterRole"));
    let allocator = granted("allocator", &document("base/rbac-allocator.yaml", "ClusterRole"));
    let at_home = [
        granted("speaker@herald-system", &document("base/rbac.yaml", "Role")),
        granted("allocator@herald-system", &document("base/rbac-allocator.yaml", "Role")),
    ];
    let granted: BTreeSet<String> = [speaker, allocator].into_iter().chain(at_home).flatten().collect();
    let reviewed: BTreeSet<String> =
        read("rights.txt").lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
    assert!(!reviewed.is_empty());
    assert_eq!(granted, reviewed);
    // No second door: each role once, bound once.
    let kinds = |file: &str| documents(file).iter().map(|document| document["kind"].clone()).collect::<Vec<_>>();
    let expected = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Lease", "Role", "RoleBinding"];
    assert_eq!(kinds("base/rbac.yaml"), expected);
    // The one that the speakers ask for, with nothing in it that another apply would put back.
    let lease = document("base/rbac.yaml", "Lease");
    assert_eq!(lease["metadata"]["name"], herald::k8s::turn::LEASE);
    assert_eq!(lease.get("spec"), None);
    let expected = ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"];
    assert_eq!(kinds("base/rbac-allocator.yaml"), expected);
}

#[test]
fn beside_others_only_the_classless_switch_differs() {
    let base = configuration();
    let beside = document("overlays/beside-others/configmap.yaml", "ConfigMap");
    let beside = beside["data"]["herald.yaml"].as_str().expect("a text");
    assert_eq!(parse(&base).policy.classless, Classless::Announce);
    assert_eq!(parse(beside).policy.classless, Classless::Ignore);
    let without_services =
        |text: &str| text.split("# Services that name no loadBalancerClass").next().map(str::to_owned);
    assert_eq!(without_services(&base), without_services(beside));
}

/// Offered, not required: the base has none. Each policy is in force by a binding, and refuses.
#[test]
fn admission_policies_are_an_overlay_and_bound() {
    let policies = documents("overlays/guarded/policies.yaml");
    let of = |kind: &str| -> Vec<&Value> { policies.iter().filter(|document| document["kind"] == kind).collect() };
    let names: Vec<&Value> = of("ValidatingAdmissionPolicy").iter().map(|policy| &policy["metadata"]["name"]).collect();
    let bindings = of("ValidatingAdmissionPolicyBinding");
    let bound: Vec<&Value> = bindings.iter().map(|binding| &binding["spec"]["policyName"]).collect();
    assert_eq!((names.len(), names), (2, bound));
    assert!(bindings.iter().all(|binding| binding["spec"]["validationActions"] == serde_json::json!(["Deny"])));
    assert!(!read("base/kustomization.yaml").contains("polic") && !read("base/crds.yaml").contains("webhook"));
}

#[test]
fn the_binary_prints_the_definitions_that_are_deployed() {
    let output = Command::new(env!("CARGO_BIN_EXE_herald")).arg("crds").output().expect("herald runs");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout), read("base/crds.yaml"));
}

#[test]
fn the_pods_have_no_privileges_and_no_cpu_limit() {
    let speaker = document("base/daemonset.yaml", "DaemonSet");
    without_privileges(&speaker["spec"]["template"]["spec"]);
    let container = &speaker["spec"]["template"]["spec"]["containers"][0];
    let pointers = [
        (&speaker, "/spec/template/spec/hostNetwork", Value::from(true)),
        (&speaker, "/spec/template/spec/priorityClassName", "system-node-critical".into()),
        (container, "/livenessProbe/httpGet/host", "127.0.0.1".into()),
        (container, "/readinessProbe/httpGet/host", "127.0.0.1".into()),
    ];
    for (of, pointer, wanted) in pointers {
        assert_eq!(of.pointer(pointer), Some(&wanted), "{pointer}");
    }
    let allocator = document("base/allocator.yaml", "Deployment");
    without_privileges(&allocator["spec"]["template"]["spec"]);
    assert_eq!(allocator["spec"]["template"]["spec"].get("hostNetwork"), None);
    assert_eq!(allocator["spec"]["replicas"], 2);
}

fn without_privileges(pod: &Value) {
    let containers = pod["containers"].as_array().expect("a list");
    assert_eq!(containers.len(), 1);
    let container = &containers[0];
    let pointers = [
        (pod, "/securityContext/runAsNonRoot", Value::from(true)),
        (pod, "/securityContext/runAsUser", 65532.into()),
        (pod, "/securityContext/seccompProfile/type", "RuntimeDefault".into()),
        (container, "/securityContext/allowPrivilegeEscalation", false.into()),
        (container, "/securityContext/readOnlyRootFilesystem", true.into()),
        (container, "/securityContext/capabilities/drop/0", "ALL".into()),
    ];
    for (of, pointer, wanted) in pointers {
        assert_eq!(of.pointer(pointer), Some(&wanted), "{pointer}");
    }
    assert_eq!(container.pointer("/securityContext/capabilities/add"), None);
    assert_eq!(container.pointer("/resources/limits/cpu"), None);
    assert!(container.pointer("/resources/limits/memory").is_some());
    assert_eq!((pod.get("hostPID"), pod.get("hostIPC")), (None, None));
    let host_paths =
        pod["volumes"].as_array().expect("a list").iter().filter(|volume| volume.get("hostPath").is_some());
    assert_eq!(host_paths.count(), 0);
}

#[test]
fn the_speaker_has_a_state_folder() {
    let daemon_set = document("base/daemonset.yaml", "DaemonSet");
    let pod = &daemon_set["spec"]["template"]["spec"];
    let named = |list: &Value| list.as_array().expect("a list").iter().find(|one| one["name"] == "state").cloned();
    let mount = named(&pod["containers"][0]["volumeMounts"]).expect("a mount");
    let argument = format!("--state={}", mount["mountPath"].as_str().expect("a text"));
    assert!(pod["containers"][0]["args"].as_array().expect("a list").contains(&argument.into()));
    assert!(named(&pod["volumes"]).expect("a volume").get("emptyDir").is_some());
    // The overlay that keeps it on the node replaces that volume by its place.
    assert_eq!(pod["volumes"][3]["name"], "state");
    assert!(read("overlays/kept-state/kustomization.yaml").contains("path: /spec/template/spec/volumes/3\n"));
}

/// The Secret need not be there; where it is, its keys are files where the examples look for them.
#[test]
fn passwords_come_from_a_secret() {
    let daemon_set = document("base/daemonset.yaml", "DaemonSet");
    let pod = &daemon_set["spec"]["template"]["spec"];
    let named = |list: &Value| list.as_array().expect("a list").iter().find(|one| one["name"] == "keys").cloned();
    let secret = named(&pod["volumes"]).expect("a volume")["secret"].clone();
    assert_eq!((&secret["secretName"], &secret["optional"]), (&"herald-keys".into(), &true.into()));
    let mount = named(&pod["containers"][0]["volumeMounts"]).expect("a mount");
    assert_eq!(mount["readOnly"], true);
    let folder = Path::new(mount["mountPath"].as_str().expect("a text"));
    let (example, _) =
        Config::parse("links.yaml", &read("../config/links.yaml")).unwrap_or_else(|found| panic!("{found}"));
    let files: Vec<_> = example.peers.values().filter_map(|peer| peer.password_file.as_deref()).collect();
    assert!(!files.is_empty() && files.iter().all(|file| file.parent() == Some(folder)), "{files:?}");
}

#[test]
fn it_runs_wherever_traffic_arrives_and_is_replaced_one_node_at_a_time() {
    let daemon_set = document("base/daemonset.yaml", "DaemonSet");
    let strategy = &daemon_set["spec"]["updateStrategy"];
    assert_eq!(strategy["type"], "RollingUpdate");
    assert_eq!(strategy["rollingUpdate"]["maxUnavailable"], 1);
    let pod = &daemon_set["spec"]["template"]["spec"];
    for effect in ["NoSchedule", "NoExecute"] {
        // Without a key a toleration covers every taint of its effect.
        let all = serde_json::json!({"operator": "Exists", "effect": effect});
        assert!(pod["tolerations"].as_array().expect("a list").contains(&all), "no toleration of all {effect}");
    }
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a number");
    assert!(grace > 2, "a stopping speaker has two seconds; the kubelet kills it after {grace}");
    assert_eq!(pod["serviceAccountName"], document("base/rbac.yaml", "ServiceAccount")["metadata"]["name"]);
}

#[test]
fn the_namespace_says_which_pods_it_takes() {
    let labels = &document("base/namespace.yaml", "Namespace")["metadata"]["labels"];
    let level = |mode: &str| labels[format!("pod-security.kubernetes.io/{mode}")].as_str().map(str::to_owned);
    // hostNetwork is forbidden below that level; whatever else is not "restricted" is told and logged.
    assert_eq!(level("enforce").as_deref(), Some("privileged"));
    assert_eq!((level("warn").as_deref(), level("audit").as_deref()), (Some("restricted"), Some("restricted")));
}

#[test]
fn the_probed_port_is_the_one_that_the_speaker_serves() {
    let daemon_set = document("base/daemonset.yaml", "DaemonSet");
    let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
    let arguments: Vec<_> = container["args"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        let served = format!("--metrics={}:{}", get["host"].as_str().expect("a text"), get["port"]);
        assert!(arguments.contains(&served.as_str()), "{probe} asks {served}; the arguments are {arguments:?}");
    }
}
