//! cargo: thousands of small files, hard links, locks, and times it trusts.

use std::fs;
use std::path::Path;

use crate::ground::Ground;
use crate::tools::version;

/// Two packages, one with a build script, and tests of three kinds.
fn packages(base: &Path) {
    let files = [
        ("Cargo.toml", "[workspace]\nmembers = [\"lib\", \"app\"]\nresolver = \"2\"\n"),
        ("lib/Cargo.toml", "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        (
            "lib/build.rs",
            "fn main() { let out = std::env::var(\"OUT_DIR\").unwrap();\n println!(\"cargo:rerun-if-changed=number\");\n std::fs::copy(\"number\", out + \"/number\").unwrap(); }\n",
        ),
        ("lib/number", "41"),
        (
            "lib/src/lib.rs",
            "/// ```\n/// assert!(lib::number() > 1);\n/// ```\npub fn number() -> u32 { include!(concat!(env!(\"OUT_DIR\"), \"/number\")) }\n#[test] fn inside() { assert!(number() > 40) }\n",
        ),
        (
            "app/Cargo.toml",
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nlib = { path = \"../lib\" }\n",
        ),
        ("app/src/main.rs", "fn main() { println!(\"{}\", lib::number()) }\n"),
        ("app/tests/outside.rs", "#[test] fn outside() { assert!(lib::number() < 100) }\n"),
    ];
    for (name, text) in files {
        fs::create_dir_all(base.join(name).parent().unwrap()).unwrap();
        fs::write(base.join(name), text).unwrap();
    }
}

#[test]
fn cargo_builds_tests_and_finds_everything_fresh_in_a_branch_as_on_the_plain_filesystem() {
    let Some(ground) = Ground::new(&["cargo", "cc"], packages) else { return };
    for place in ground.places() {
        let expect = |script: &str, compiled: &str| {
            let said = place.ok(&format!("{script} 2>&1"));
            assert_eq!(compiled_packages(&said), compiled, "on {}: {script}: {said}", place.name);
            said
        };
        expect("cargo build --offline", "app lib");
        expect("cargo build --offline", "");
        let tests = expect("cargo test --offline", "app lib");
        assert_eq!(tests.matches("test result: ok. 1 passed").count(), 3, "{tests}");
        let again = expect("cargo test --offline", "");
        assert_eq!(again.matches("test result: ok. 1 passed").count(), 3, "{again}");
        expect("touch app/src/main.rs; cargo build --offline", "app");
        expect("printf 42 >lib/number; cargo build --offline", "app lib");
        assert_eq!(place.ok("cargo run --offline -q"), "42\n", "on {}", place.name);
        expect("cargo build --offline", "");
        println!(
            "posix: {}: {}: builds, tests, and is fresh when it should be",
            version("cargo"),
            place.name
        );
    }
    ground.commit_the_deepest();
    let said = ground.base().ok("./target/debug/app");
    assert_eq!(said, "42\n", "what the branch built runs after the commits");
}

/// The names cargo says it compiles, sorted.
fn compiled_packages(said: &str) -> String {
    let lines = said.lines().filter_map(|line| line.trim_start().strip_prefix("Compiling "));
    let mut names: Vec<&str> = lines.filter_map(|rest| rest.split(' ').next()).collect();
    names.sort_unstable();
    names.join(" ")
}
