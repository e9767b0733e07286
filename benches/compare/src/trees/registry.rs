//! Packages as a registry of npm's has them: archives of many small files, made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Result, While, succeed};

/// Files of one package, its manifest among them.
pub(crate) const FILES_IN_PACKAGE: usize = 100;

/// Where the archive of a package is.
pub(crate) fn archive_of(materials: &Path, number: usize) -> PathBuf {
    materials.join(format!("packages/package-{number}.tgz"))
}

/// Names and contents of a package's files.
pub(crate) fn files_of(number: usize) -> Vec<(String, String)> {
    let manifest = format!("{{\"name\": \"package-{number}\", \"version\": \"1.0.0\"}}\n");
    let mut files = vec![("package.json".to_owned(), manifest)];
    for file in 1..FILES_IN_PACKAGE {
        let text = format!("exports.f{file} = () => {number};\n").repeat(10 + file * 7 % 120);
        files.push((format!("lib/p{}/f{file}.js", file % 8), text));
    }
    files
}

/// So many files in all.
pub(super) fn make(materials: &Path, files: usize) -> Result<()> {
    let loose = materials.join("packages/package");
    for number in 0..files.div_ceil(FILES_IN_PACKAGE) {
        for (name, text) in files_of(number) {
            let path = loose.join(name);
            let parent = path.parent().unwrap_or(&loose);
            fs::create_dir_all(parent).on("making", parent)?;
            fs::write(&path, text).on("writing", &path)?;
        }
        let archive = archive_of(materials, number);
        succeed(
            Command::new("tar")
                .arg("-czf")
                .arg(&archive)
                .arg("-C")
                .arg(materials.join("packages"))
                .arg("package"),
        )?;
    }
    Ok(())
}
