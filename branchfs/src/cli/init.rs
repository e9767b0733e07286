use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use branch_core::{Location, PathBytes};
use serde::Serialize;

use super::context::Context;
use super::error::CliError;
use super::exit_code::Code;
use super::output::Show;
use super::text;

/// Make the current directory a workspace
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Keep the store in DIR instead of .branchfs; best on the same file system
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    base: PathBytes,
    store: PathBytes,
}

impl Args {
    pub(super) fn execute(self, context: &Context) -> Result<Code, CliError> {
        let location = make(context.directory(), self.store.as_deref())?;
        context.emit(&Made { base: location.base().into(), store: location.store().into() })?;
        Ok(Code::OK)
    }
}

/// Makes a workspace of `directory`.
pub(super) fn make(directory: &Path, store: Option<&Path>) -> Result<Location, CliError> {
    let base = fs::canonicalize(directory).map_err(CliError::at("enter", directory))?;
    if let Some(location) = Location::at(&base)? {
        let (base, store) = (location.base().to_owned(), location.store().to_owned());
        return Err(CliError::InitTwice { base, store });
    }
    let store = match store {
        None => Location::default_store(&base),
        Some(store) => absolute(directory, store)?,
    };
    if store.starts_with(&base) && store != Location::default_store(&base) {
        let reason = format!("the store {} would be part of the content it branches", store.display());
        return Err(CliError::Usage {
            reason,
            hint: "name a directory outside, or leave --store out".into(),
        });
    }
    branch_store::init(&base, &store)
        .map_err(|error| CliError::Init { store: store.clone(), reason: error.to_string() })?;
    Ok(Location::find(&base)?)
}

/// The store's absolute path, the directory made if its parent exists.
fn absolute(directory: &Path, store: &Path) -> Result<PathBuf, CliError> {
    let store = directory.join(store);
    match fs::DirBuilder::new().mode(0o700).create(&store) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(CliError::at("make", store)(error));
        }
        _ => {}
    }
    fs::canonicalize(&store).map_err(CliError::at("enter", store))
}

impl Show for Made {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} is a workspace now; its store is {}",
            text::path(&self.base),
            text::path(&self.store)
        )
    }
}
