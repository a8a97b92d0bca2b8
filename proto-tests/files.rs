//! Files that people copy must work: every example, and what the README shows.

use herald::config::Config;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn examples() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("config"))
        .expect("the folder config/ exists")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_example_is_accepted_without_a_doubt() {
    let files = examples();
    assert!(files.len() >= 6, "only {} examples in config/", files.len());
    for path in files {
        let text = fs::read_to_string(&path).expect("an example is text");
        match Config::parse(&path.display().to_string(), &text) {
            Ok((config, found)) => {
                assert!(found.is_empty(), "{found}");
                assert!(!config.policy.advertisements.is_empty(), "{} announces nothing", path.display());
            }
            Err(found) => panic!("{found}"),
        }
    }
}

#[test]
fn every_key_of_the_schema_is_shown_in_some_example() {
    let all: String = examples().iter().map(|path| fs::read_to_string(path).expect("an example is text")).collect();
    let keys = [
        "asn",
        "routerId",
        "nodes",
        "name",
        "peers",
        "address",
        "port",
        "range",
        "passive",
        "delayOpen",
        "sendHoldTime",
        "listen",
        "password",
        "extendedMessages",
        "role",
        "gracefulRestart",
        "restartTime",
        "enabled",
        "holdTime",
        "sourceAddress",
        "ttlSecurity",
        "ebgpMultihop",
        "families",
        "nodeSelector",
        "matchLabels",
        "matchExpressions",
        "key",
        "operator",
        "pools",
        "addresses",
        "advertisements",
        "communities",
        "localPreference",
        "announceWithoutEndpoints",
        "services",
        "classless",
        "ignoreExcludeLabel",
        "exclude",
        "excludeZeroAnd255",
        "autoAssign",
        "priority",
        "namespaces",
        "namespaceSelector",
        "serviceSelector",
        "draining",
        "coolDown",
        "shareAcrossNamespaces",
        "quotas",
        "default",
        "byNamespace",
    ];
    let missing: Vec<_> = keys.iter().filter(|key| !all.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "no example shows {missing:?}");
}

#[test]
fn the_readme_shows_configurations_that_work() {
    let Ok(readme) = fs::read_to_string(root().join("README.md")) else {
        assert!(!root().join("README.md").exists(), "README.md cannot be read");
        return;
    };
    let blocks = fenced(&readme, "yaml");
    let configurations: Vec<_> = blocks.iter().filter(|block| block.lines().any(|line| line == "peers:")).collect();
    // A README that shows YAML with peers shows it as a block that this test finds.
    assert_eq!(configurations.is_empty(), !readme.lines().any(|line| line == "peers:"), "unfenced YAML in README.md");
    for block in configurations {
        if let Err(found) = Config::parse("README.md", block) {
            panic!("{found}");
        }
    }
}

/// The bodies of fenced blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(given) = line.trim_start().strip_prefix("```") {
            let body: Vec<_> = lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
            if given.trim() == language {
                blocks.push(body.join("\n"));
            }
        }
    }
    blocks
}

#[test]
fn fences_are_found() {
    let text = "a\n```yaml\npeers:\n- x\n```\nb\n```sh\nls\n```\n```yaml\nz: 1\n```\n";
    assert_eq!(fenced(text, "yaml"), ["peers:\n- x", "z: 1"]);
}
