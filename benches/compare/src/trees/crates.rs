//! A package to build: one of this workspace's dependencies with its own, copied out of cargo's cache, so that
//! everything is read from the base and nothing from a network.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Result, While, succeed};

/// cargo without the settings of whoever runs it, and offline.
pub(crate) fn cargo(directory: &Path) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(directory).env("CARGO_NET_OFFLINE", "true").env("CARGO_TERM_COLOR", "never");
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        command.env_remove(name);
    }
    for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_INCREMENTAL"] {
        command.env_remove(name);
    }
    command
}

pub(super) fn make(top: &Path, built: &str) -> Result<()> {
    let manifest = format!(
        "[package]\nname = \"built\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\n[dependencies]\n{built} = \"*\"\n"
    );
    let files =
        [("Cargo.toml", manifest.as_str()), ("src/lib.rs", "//! Only what it depends on is of interest.\n")];
    for (name, text) in files {
        let path = top.join(name);
        let parent = path.parent().unwrap_or(top);
        fs::create_dir_all(parent).on("making", parent)?;
        fs::write(&path, text).on("writing", &path)?;
    }
    // Prints the settings that make cargo look there.
    let settings = succeed(cargo(top).args(["vendor", "-q", "vendor"]))?;
    let path = top.join(".cargo/config.toml");
    fs::create_dir(top.join(".cargo")).on("making a directory for", &path)?;
    fs::write(&path, settings).on("writing", &path)
}
