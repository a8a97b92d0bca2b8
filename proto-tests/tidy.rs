//! The style that a machine can check: floors, circles, dead files, the wall, and where `nom` and `unsafe` may stand.

use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use syn::visit::Visit;

/// Each room with its floor. A room imports rooms on lower floors only.
const FLOORS: &[(&str, u8)] = &[
    ("planted", 5),
    ("condition", 5),
    ("wire", 10),
    ("bfd", 10),
    ("ipam", 10),
    ("fsm", 20),
    ("rib", 20),
    ("peer", 30),
    ("advertise", 30),
    ("config", 35),
    ("files", 40),
    ("net", 40),
    ("k8s", 40),
    ("admin", 40),
    ("daemon", 50),
    ("cli", 60),
    ("main", 60),
];

/// The first floor above the wall.
const WALL: u8 = 40;

/// What no file below the wall may name.
const SHELL_WORDS: &[&str] = &[
    "tokio",
    "kube",
    "k8s_openapi",
    "hyper",
    "axum",
    "socket2",
    "libc",
    "inotify",
    "fastrand",
    "rand",
    "SystemTime",
    "jiff",
];

struct Module {
    /// Path inside the crate: `["wire", "message"]`, or `["wire"]` for a face.
    path: Vec<String>,
    file: PathBuf,
    syntax: syn::File,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

fn modules() -> Vec<Module> {
    let src = root().join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    files.sort();
    assert!(files.len() > 20, "found only {} files under src", files.len());
    files
        .into_iter()
        .map(|file| {
            let relative = file.strip_prefix(&src).unwrap().with_extension("");
            let mut path: Vec<String> = relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if matches!(path.last().map(String::as_str), Some("mod" | "lib")) {
                path.pop();
            }
            let syntax = syn::parse_file(&fs::read_to_string(&file).unwrap())
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            Module { path, file, syntax }
        })
        .collect()
}

fn floor(room: &str) -> u8 {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .unwrap_or_else(|| panic!("src/{room} is in no row of the table of floors"))
        .1
}

fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg") && a.meta.to_token_stream().to_string().contains("test"))
}

/// Collects every path that starts with `crate`, `self` or `super`, as a path from the crate's root.
struct Paths<'a> {
    here: Vec<String>,
    found: &'a mut BTreeSet<Vec<String>>,
    tests: TestCode,
}

#[derive(Clone, Copy, PartialEq)]
enum TestCode {
    Included,
    LeftOut,
}

impl Paths<'_> {
    fn add(&mut self, segments: &[String]) {
        let mut base = self.here.clone();
        let mut rest = segments;
        match segments.first().map(String::as_str) {
            Some("crate") => {
                base.clear();
                rest = &segments[1..];
            }
            Some("self") => rest = &segments[1..],
            Some("super") => {
                while rest.first().is_some_and(|s| s == "super") {
                    base.pop();
                    rest = &rest[1..];
                }
            }
            _ => return,
        }
        base.extend(rest.iter().cloned());
        self.found.insert(base);
    }

    fn use_tree(&mut self, tree: &syn::UseTree, prefix: &mut Vec<String>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.use_tree(&path.tree, prefix);
                prefix.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| self.use_tree(item, prefix)),
            syn::UseTree::Name(name) if name.ident == "self" => self.add(prefix),
            syn::UseTree::Name(syn::UseName { ident }) | syn::UseTree::Rename(syn::UseRename { ident, .. }) => {
                prefix.push(ident.to_string());
                self.add(prefix);
                prefix.pop();
            }
            syn::UseTree::Glob(_) => self.add(prefix),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !matches!(item.vis, syn::Visibility::Public(_)) {
            self.use_tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|s| s.ident.to_string()).collect();
        self.add(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if self.tests == TestCode::LeftOut && is_test_only(&item.attrs) {
            return;
        }
        self.here.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.here.pop();
    }
}

fn paths(module: &Module, tests: TestCode) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    Paths { here: module.path.clone(), found: &mut found, tests }.visit_file(&module.syntax);
    found
}

/// The names that a face hands on: `pub use error::Error` in `wire/mod.rs` makes `wire::Error` mean `wire::error::Error`.
fn re_exports(module: &Module) -> BTreeMap<String, Vec<String>> {
    fn walk(tree: &syn::UseTree, prefix: &mut Vec<String>, out: &mut BTreeMap<String, Vec<String>>) {
        match tree {
            syn::UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                walk(&path.tree, prefix, out);
                prefix.pop();
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|item| walk(item, prefix, out)),
            syn::UseTree::Name(name) => {
                let full = prefix.iter().cloned().chain([name.ident.to_string()]).collect();
                out.insert(name.ident.to_string(), full);
            }
            syn::UseTree::Rename(rename) => {
                let full = prefix.iter().cloned().chain([rename.ident.to_string()]).collect();
                out.insert(rename.rename.to_string(), full);
            }
            syn::UseTree::Glob(_) => {}
        }
    }
    let mut out = BTreeMap::new();
    for item in &module.syntax.items {
        if let syn::Item::Use(item) = item
            && matches!(item.vis, syn::Visibility::Public(_))
        {
            walk(&item.tree, &mut Vec::new(), &mut out);
        }
    }
    out
}

/// The file that a path from the crate's root names.
fn resolve<'a>(by_path: &BTreeMap<&[String], &'a Module>, path: &[String]) -> Option<&'a Module> {
    let longest = (0..=path.len()).rev().find_map(|n| by_path.get(&path[..n]).map(|m| (n, *m)))?;
    let (taken, module) = longest;
    let Some(name) = path.get(taken) else { return Some(module) };
    match re_exports(module).get(name) {
        None => Some(module),
        Some(target) => {
            let target = match target.first().map(String::as_str) {
                Some("crate") => target[1..].to_vec(),
                Some("self") => module.path.iter().chain(&target[1..]).cloned().collect(),
                _ => module.path.iter().chain(target).cloned().collect(),
            };
            resolve(by_path, &target)
        }
    }
}

#[test]
fn no_room_imports_upwards_or_sideways() {
    let mut faults = Vec::new();
    for module in modules() {
        let Some(room) = module.path.first() else { continue };
        for path in paths(&module, TestCode::Included) {
            let Some(other) = path.first().filter(|other| *other != room) else { continue };
            if !root().join("src").join(other).is_dir() {
                continue;
            }
            if floor(other) >= floor(room) {
                faults.push(format!("{} imports crate::{}", module.file.display(), path.join("::")));
            }
        }
    }
    assert!(faults.is_empty(), "a room may import rooms on lower floors only:\n{}", faults.join("\n"));
}

#[test]
fn no_import_circle_between_files() {
    let modules = modules();
    let by_path: BTreeMap<&[String], &Module> = modules.iter().map(|m| (m.path.as_slice(), m)).collect();
    let mut edges: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for module in &modules {
        for path in paths(module, TestCode::LeftOut) {
            if let Some(target) = resolve(&by_path, &path)
                && target.file != module.file
                && !target.path.is_empty()
            {
                edges.entry(&module.file).or_default().insert(&target.file);
            }
        }
    }
    // Take away files that import nothing that is left, until nothing changes: what remains stands in circles.
    let mut left: BTreeSet<&Path> = edges.keys().copied().collect();
    loop {
        let free: Vec<&Path> = left.iter().copied().filter(|f| !edges[f].iter().any(|t| left.contains(t))).collect();
        if free.is_empty() {
            break;
        }
        free.iter().for_each(|f| {
            left.remove(f);
        });
    }
    let picture: Vec<String> = left
        .iter()
        .map(|f| format!("{} -> {:?}", f.display(), edges[f].iter().filter(|t| left.contains(*t)).collect::<Vec<_>>()))
        .collect();
    assert!(left.is_empty(), "files import each other in a circle:\n{}", picture.join("\n"));
}

#[test]
fn no_file_is_dead() {
    let modules = modules();
    let mut declared: BTreeSet<Vec<String>> = BTreeSet::from([vec![], vec!["main".to_owned()]]);
    for module in &modules {
        for item in &module.syntax.items {
            if let syn::Item::Mod(item) = item
                && item.content.is_none()
            {
                declared.insert(module.path.iter().cloned().chain([item.ident.to_string()]).collect());
            }
        }
    }
    let dead: Vec<_> = modules.iter().filter(|m| !declared.contains(&m.path)).map(|m| m.file.display()).collect();
    assert!(
        dead.is_empty(),
        "no 'mod' leads to {}",
        dead.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    );
}

/// All identifiers and keywords of a file, tests left out, in order.
fn words(module: &Module) -> Vec<String> {
    fn walk(tokens: proc_macro2::TokenStream, out: &mut Vec<String>) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => walk(group.stream(), out),
                proc_macro2::TokenTree::Ident(ident) => out.push(ident.to_string()),
                proc_macro2::TokenTree::Punct(_) | proc_macro2::TokenTree::Literal(_) => {}
            }
        }
    }
    let mut out = Vec::new();
    for item in &module.syntax.items {
        let attributes = if let syn::Item::Mod(item) = item { item.attrs.as_slice() } else { &[] };
        if !is_test_only(attributes) {
            walk(item.to_token_stream(), &mut out);
        }
    }
    out
}

#[test]
fn nothing_below_the_wall_names_the_shell() {
    let mut faults = Vec::new();
    for module in modules() {
        let Some(room) = module.path.first() else { continue };
        if floor(room) >= WALL {
            continue;
        }
        let words = words(&module);
        for word in words.iter().filter(|w| SHELL_WORDS.contains(&w.as_str())) {
            faults.push(format!("{} names {word}", module.file.display()));
        }
        if words.windows(2).any(|pair| pair[0] == "Instant" && pair[1] == "now") {
            faults.push(format!("{} reads the clock", module.file.display()));
        }
    }
    assert!(faults.is_empty(), "time, chance and I/O stay above the wall:\n{}", faults.join("\n"));
}

#[test]
fn nom_and_unsafe_have_one_file_each() {
    for (word, home) in [("nom", "src/wire/parse.rs"), ("unsafe", "src/net/socket.rs")] {
        for module in modules() {
            if !module.file.ends_with(home) {
                assert!(
                    !words(&module).iter().any(|w| w == word),
                    "'{word}' may stand in {home} only, and stands in {}",
                    module.file.display()
                );
            }
        }
    }
}

#[test]
fn the_pure_half_has_neither_runtime_nor_kubernetes_in_its_tree() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "-e", "normal", "--no-default-features", "--prefix", "none"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("nom v"), "the tree looks empty:\n{tree}");
    for crate_name in ["tokio", "kube", "hyper", "k8s-openapi", "socket2"] {
        assert!(
            !tree.lines().any(|l| l.starts_with(&format!("{crate_name} "))),
            "{crate_name} is below the wall:\n{tree}"
        );
    }
}

#[test]
fn the_page_on_architecture_names_every_file() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let rooms: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
    let mut missing = Vec::new();
    for module in modules() {
        let [room, .., name] = &module.path[..] else { continue };
        let (room, name) = (format!("`{room}/`"), format!("`{name}`"));
        if !rooms.iter().any(|line| line.contains(&room) && line.contains(&name)) {
            missing.push(module.file.display().to_string());
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md does not name\n{}", missing.join("\n"));
}

#[test]
fn the_tree_names_no_path_of_one_machine() {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let files: Vec<&str> = listed.split('\0').filter(|f| !f.is_empty()).collect();
    assert!(files.len() > 20, "git lists only {} files", files.len());
    let forbidden = [["/wor", "k/"].concat(), ["/ro", "ot/"].concat()];
    for file in files {
        let Ok(text) = fs::read_to_string(root().join(file)) else { continue };
        for path in &forbidden {
            assert!(!text.contains(path.as_str()), "{file} names {path}");
        }
    }
}

/// Bugs are planted by their own suite; what is built to be used cannot have one.
#[test]
fn no_bug_is_planted_in_what_is_shipped() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let features = manifest.split("[features]").nth(1).and_then(|rest| rest.split("\n[").next()).expect("features");
    let named: Vec<&str> = features.lines().filter(|line| !line.starts_with('#') && line.contains("planted")).collect();
    assert_eq!(named, ["planted = []"], "no other feature may bring it");
    let mut files =
        vec![root().join("Makefile"), root().join("proto-tests/run"), root().join("proto-tests/suites.tsv")];
    for folder in ["deploy", ".ci"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for word in ["--all-features", "features planted"] {
            assert!(!text.contains(word), "{} says {word}", file.display());
        }
    }
}
