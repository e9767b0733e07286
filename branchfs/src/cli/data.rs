//! How file data are to be served, as it is asked for.

use std::env;

use clap::ValueEnum;

use crate::fuse;

/// How the kernel gets at what is in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Data {
    /// The kernel opens files by itself
    Cached,
    /// Every open is a question to the daemon
    Opened,
    /// The same, and the kernel reads unchanged files from the host by itself: root only
    Passthrough,
}

/// Says it to a daemon that starts by itself.
const VARIABLE: &str = "BRANCHFS_DATA";

impl Data {
    /// What the environment says, if anything.
    pub(super) fn from_environment() -> Option<Data> {
        let text = env::var_os(VARIABLE)?;
        let found = text.to_str().and_then(|text| Data::from_str(text, false).ok());
        if found.is_none() {
            let names = fuse::Data::ALL.map(fuse::Data::name).join(", ");
            tracing::warn!("{VARIABLE}={} is none of {names}", text.display());
        }
        found
    }

    pub(super) fn wish(self) -> fuse::Data {
        match self {
            Data::Cached => fuse::Data::Cached,
            Data::Opened => fuse::Data::Opened,
            Data::Passthrough => fuse::Data::Passthrough,
        }
    }
}
