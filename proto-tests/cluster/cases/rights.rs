//! What speaker and allocator may do at the API server, and the speaker on its node.

use super::{allocation, older, same, walk};
use crate::bed::{Bed, HERALD, tree};
use crate::rig::{Outcome, run};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `GROUP RESOURCE VERB`, the group `core` for the empty one.
type Rights = BTreeSet<String>;

/// The ServiceAccount of a part of herald.
fn account(who: &str) -> String {
    format!("system:serviceaccount:{HERALD}:herald-{who}")
}

/// The list that people reviewed: what `who` may do everywhere (`speaker`) or in its namespace (`allocator@herald-system`).
fn reviewed(who: &str) -> Outcome<Rights> {
    let path = tree().join("deploy/rights.txt");
    let text = fs::read_to_string(&path).map_err(|e| format!("{} could not be read: {e}", path.display()))?;
    let rights = text.lines().filter_map(|line| line.split_once(' ').filter(|(of, _)| *of == who));
    Ok(rights.map(|(_, right)| right.to_owned()).collect())
}

/// The API server says, in every namespace, that the accounts may do what the list says and, beyond that, no more than an account
/// without any binding.
pub fn exactly_the_reviewed_list(bed: &Bed) -> Outcome {
    bed.herald()?;
    for who in ["speaker", "allocator"] {
        let everywhere = reviewed(who)?;
        if everywhere.is_empty() {
            return Err(format!("deploy/rights.txt lists nothing for {who}"));
        }
        for namespace in [HERALD, "default", "kube-system"] {
            let wanted: Rights = everywhere.union(&reviewed(&format!("{who}@{namespace}"))?).cloned().collect();
            let nobody = rules(bed, &format!("system:serviceaccount:{HERALD}:nobody"), namespace)?;
            let found = rules(bed, &account(who), namespace)?;
            let more: Rights = found.difference(&nobody).cloned().collect();
            same(&format!("rights of the {who} in {namespace}"), &more, &wanted)?;
        }
    }
    // Some questions asked the other way round, so that a review that hides something is noticed.
    let written = ["create allocations", "update allocations", "patch allocations", "delete allocations"];
    refused(bed, "speaker", &written)?;
    refused(bed, "speaker", &["patch services", "create events", "get allocations", "create leases"])?;
    refused(bed, "allocator", &["patch services", "update services", "update services/status", "list endpointslices"])?;
    for who in ["speaker", "allocator"] {
        let never = [
            "get secrets",
            "list secrets",
            "list pods",
            "list configmaps",
            "update nodes",
            "delete services",
            "update leases",
        ];
        refused(bed, who, &never)?;
    }
    Ok(())
}

/// The API server says no.
fn refused(bed: &Bed, who: &str, questions: &[&str]) -> Outcome {
    for question in questions {
        let (verb, resource) = question.split_once(' ').expect("a constant");
        let asked = ["auth", "can-i", verb, resource, "--all-namespaces", "--as", &account(who)];
        same(&format!("whether the {who} may {question}"), bed.kubectl().answer(&asked)?.as_str(), "no")?;
    }
    Ok(())
}

/// Every rule that applies to an account in a namespace, unfolded.
fn rules(bed: &Bed, account: &str, namespace: &str) -> Outcome<Rights> {
    let file = bed.rig.dir().join("review.json");
    let review = format!(
        r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{{"namespace":"{namespace}"}}}}"#
    );
    crate::rig::write_file(&file, &review)?;
    let answer =
        bed.kubectl().json(&["create", "--validate=false", "-f", &file.display().to_string(), "--as", account])?;
    let resources = answer["status"]["resourceRules"].as_array().ok_or_else(|| format!("no rules in {answer}"))?;
    let others = answer["status"]["nonResourceRules"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found = Rights::new();
    for rule in resources {
        for (group, resource) in pairs(&rule["apiGroups"], &rule["resources"]) {
            for verb in words(&rule["verbs"]) {
                let names = words(&rule["resourceNames"]).join(",");
                found.insert(
                    format!("{} {resource} {verb} {names}", if group.is_empty() { "core" } else { group })
                        .trim()
                        .to_owned(),
                );
            }
        }
    }
    for (url, verb) in others.iter().flat_map(|rule| pairs(&rule["nonResourceURLs"], &rule["verbs"])) {
        found.insert(format!("url {url} {verb}"));
    }
    Ok(found)
}

fn words(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn pairs<'a>(a: &'a Value, b: &'a Value) -> Vec<(&'a str, &'a str)> {
    words(a).into_iter().flat_map(|left| words(b).into_iter().map(move |right| (left, right))).collect()
}

/// By the API servers' own records: what was asked is on the list, nothing was refused, and everything on the list was asked for,
/// by the pods or by processes on an older API server, which has to be asked for lists.
pub fn used_and_none_missed(bed: &Bed) -> Outcome {
    bed.herald()?;
    // The Lease is asked for by an edit that ends sessions alone; a case before this one has made some, where all run.
    if !fs::read_to_string(bed.audit()).is_ok_and(|text| text.contains(herald::k8s::turn::LEASE)) {
        walk::one_node_at_a_time_and_a_wrong_one_on_none_but_the_first(bed)?;
    }
    let speaker = [bed.audit().to_owned(), older::announces_from_pages(bed)?];
    used(&speaker, "speaker")?;
    let allocator = [bed.audit().to_owned(), allocation::what_a_user_sees(bed, "rights")?];
    used(&allocator, "allocator")
}

fn used(audits: &[PathBuf], who: &str) -> Outcome {
    let mut used: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for audit in audits {
        let asked = asked(audit, &account(who))?;
        println!("  asked by the {who}, with the answers' codes: {asked:?}");
        // What an older server refuses as unknown (a streaming list, 422) is no question of rights.
        for (what, codes) in asked {
            used.entry(what).or_default().extend(codes);
        }
    }
    let refused = used.iter().find(|(_, codes)| codes.contains(&403) || codes.contains(&401));
    if let Some((what, codes)) = refused {
        return Err(format!("{what} was answered with {codes:?}"));
    }
    let mut wanted = reviewed(who)?;
    // The record names the object of every request; the list only where the right is for one.
    let at_home = reviewed(&format!("{who}@{HERALD}"))?;
    wanted.extend(at_home.iter().map(|right| right.splitn(4, ' ').take(3).collect::<Vec<_>>().join(" ")));
    same("what was asked for", &used.into_keys().collect(), &wanted)
}

/// What an account asked for by an audit log, and the codes of the answers.
fn asked(audit: &Path, account: &str) -> Outcome<BTreeMap<String, BTreeSet<u64>>> {
    let text = fs::read_to_string(audit).map_err(|e| format!("{} could not be read: {e}", audit.display()))?;
    let mut used: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).map_err(|e| format!("the audit log is no JSON: {e}: {line}"))?;
        if event["user"]["username"] != account {
            continue;
        }
        let object = &event["objectRef"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let what = match object["resource"].as_str() {
            Some(resource) => {
                let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
                format!("{} {resource}{part} {}", object["apiGroup"].as_str().unwrap_or("core"), word(&event["verb"]))
            }
            None => format!("url {} {}", word(&event["requestURI"]), word(&event["verb"])),
        };
        used.entry(what).or_default().extend(event["responseStatus"]["code"].as_u64());
    }
    Ok(used)
}

/// By the kernel: the speaker's user, its capabilities, its system call filter and its root.
pub fn without_privileges(bed: &Bed) -> Outcome {
    bed.herald()?;
    for node in &bed.nodes {
        let pids = run(Command::new("ip").args(["netns", "pids", node.site.space.name()]))?;
        let mut speakers = pids.lines().map(str::trim).filter(|pid| comm(pid) == "herald").peekable();
        if speakers.peek().is_none() {
            return Err(format!("no process called herald runs on {}", node.site.name));
        }
        for pid in speakers {
            let status =
                fs::read_to_string(format!("/proc/{pid}/status")).map_err(|e| format!("process {pid}: {e}"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(|rest| rest.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
            };
            same("its user", field("Uid").as_str(), "65532 65532 65532 65532")?;
            same("its group", field("Gid").as_str(), "65532 65532 65532 65532")?;
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                same(set, field(set).as_str(), "0000000000000000")?;
            }
            same("NoNewPrivs", field("NoNewPrivs").as_str(), "1")?;
            same("Seccomp (2: a filter)", field("Seccomp").as_str(), "2")?;
            read_only_root(pid)?;
        }
    }
    Ok(())
}

fn comm(pid: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// `/proc/PID/mountinfo`: the fifth field is where, the sixth how.
fn read_only_root(pid: &str) -> Outcome {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_err(|e| format!("process {pid}: {e}"))?;
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mut roots = fields.filter(|fields| fields.get(4) == Some(&"/"));
    // A later mount lies on top of an earlier one.
    let options = roots.next_back().and_then(|fields| fields.get(5).map(ToString::to_string));
    match options {
        Some(options) if options.split(',').any(|option| option == "ro") => Ok(()),
        other => Err(format!("the speaker's root is mounted {other:?}, and should be read-only")),
    }
}
