//! The walls of the house: which crate may depend on which, and that the modules of a crate form layers.
#![allow(clippy::unwrap_used)] // also in helpers

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Everything a crate is built with, dependencies of dependencies included.
fn dependencies(package: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let args = ["tree", "--offline", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let out = Command::new(cargo).args(args).current_dir(root()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn crates_depend_only_in_the_drawn_direction() {
    let forbidden: &[(&str, &[&str])] = &[
        (
            "branch-store",
            &["fuser", "tokio", "serde_json", "branch-proto", "branch-proc", "branch-core", "branchfs"],
        ),
        ("branch-proto", &["fuser", "branch-store", "branch-proc", "branch-core", "branchfs"]),
        ("branch-core", &["fuser", "branch-store", "branchfs"]),
        ("libbranch", &["fuser", "branch-store", "branchfs"]),
        ("branch-proc", &["fuser", "branch-store", "branch-proto", "branch-core", "branchfs"]),
    ];
    for (package, never) in forbidden {
        let has = dependencies(package);
        let wrong: Vec<_> = never.iter().filter(|name| has.contains(**name)).collect();
        assert!(wrong.is_empty(), "{package} must not depend on {wrong:?}");
    }
}

#[test]
fn only_the_adapter_names_the_fuse_crate() {
    for file in sources(&root().join("branchfs/src")) {
        let inside = file.strip_prefix(root().join("branchfs/src")).unwrap().starts_with("fuse");
        assert!(inside || !names_fuser(&file), "{} names fuser", file.display());
    }
}

/// What the product shows is tested through the kernel; only the disk that records is a file system of a test's own.
#[test]
fn of_the_tests_only_the_recorder_of_disks_names_the_fuse_crate() {
    let recorder = root().join("tests/tests/block_device/recorder.rs");
    let named: Vec<PathBuf> = sources(&root().join("tests")).into_iter().filter(|f| names_fuser(f)).collect();
    assert_eq!(named, [recorder]);
}

fn names_fuser(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap();
    code_of(&text).contains(concat!("fuser", "::"))
}

#[test]
fn modules_of_a_crate_do_not_import_in_circles() {
    for package in ["branch-store", "branch-proto", "branch-proc", "branch-core", "branchfs", "libbranch"] {
        let imports = imports(&root().join(package).join("src"));
        assert!(!imports.is_empty(), "{package} has modules");
        if let Some(circle) = circle(&imports) {
            panic!("{package}: modules import in a circle: {}", circle.join(" -> "));
        }
    }
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

/// Without comments, and without the unit tests at the end of the file.
fn code_of(text: &str) -> String {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or(text);
    product.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// Top-level module → top-level modules it names through `crate::`.
fn imports(src: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources(src) {
        let inner = file.strip_prefix(src).unwrap();
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
        let module = first.trim_end_matches(".rs").to_owned();
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let text = code_of(&std::fs::read_to_string(&file).unwrap());
        let named = text.split("crate::").skip(1).flat_map(first_names);
        imports.entry(module.clone()).or_default().extend(named.filter(|name| *name != module));
    }
    let modules: BTreeSet<String> = imports.keys().cloned().collect();
    for named in imports.values_mut() {
        named.retain(|name| modules.contains(name));
    }
    imports
}

/// `a::…` gives a; `{a::…, b}` gives a and b.
fn first_names(rest: &str) -> Vec<String> {
    let word =
        |s: &str| s.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    match rest.strip_prefix('{') {
        Some(list) => list.split('}').next().unwrap_or("").split(',').map(word).collect(),
        None => vec![word(rest)],
    }
}

fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        at: &str,
        imports: &BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = path.iter().position(|m| m == at) {
            return Some(path[start..].iter().cloned().chain([at.to_owned()]).collect());
        }
        if done.contains(at) {
            return None;
        }
        path.push(at.to_owned());
        for next in imports.get(at).into_iter().flatten() {
            if let Some(circle) = visit(next, imports, path, done) {
                return Some(circle);
            }
        }
        path.pop();
        done.insert(at.to_owned());
        None
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| visit(module, imports, &mut Vec::new(), &mut done))
}
