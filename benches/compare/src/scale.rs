//! How large the work is.

use std::time::Duration;

use clap::ValueEnum;

/// The sizes to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Seconds: to see that the instrument works. Its figures mean nothing.
    Tiny,
    /// Minutes.
    Small,
    /// An hour or so.
    Full,
}

/// What a size means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Files of the tree of small files, [`Scale::FILES_IN_DIRECTORY`] in a directory.
    pub(crate) files: usize,
    /// Entries of the wide directory.
    pub(crate) entries: usize,
    /// Files of the repository.
    pub(crate) sources: usize,
    /// Files, directories, … that one pass makes.
    pub(crate) made: usize,
    /// Bytes of the file that is read and written in blocks.
    pub(crate) bytes: usize,
    /// Bytes of the file that is appended to.
    pub(crate) large: usize,
    /// Files of the tree that many branches work on at once.
    pub(crate) few: usize,
    /// Files that a package install brings.
    pub(crate) packaged: usize,
    /// Forks, commits and aborts.
    pub(crate) turns: usize,
    /// Files walked before the daemon's memory is read.
    pub(crate) remembered: usize,
    /// The crate of this workspace's that is built.
    pub(crate) built: &'static str,
    /// Single writes of 4 KiB that are made durable.
    pub(crate) syncs: usize,
    /// Warm passes are repeated for so long: longer than attributes may be cached at most (1 s), so that asking
    /// for them again is in the figure.
    pub(crate) warm: Duration,
}

impl Scale {
    pub(crate) const FILES_IN_DIRECTORY: usize = 50;

    pub(crate) fn of(size: Size) -> Scale {
        match size {
            Size::Tiny => Scale {
                files: 200,
                entries: 500,
                sources: 60,
                made: 50,
                bytes: 1 << 20,
                large: 1 << 20,
                few: 100,
                packaged: 200,
                turns: 2,
                remembered: 1_000,
                built: "httparse",
                syncs: 3,
                warm: Duration::ZERO,
            },
            Size::Small => Scale {
                files: 5_000,
                entries: 50_000,
                sources: 3_000,
                made: 2_000,
                bytes: 64 << 20,
                large: 128 << 20,
                few: 200,
                packaged: 5_000,
                turns: 20,
                remembered: 100_000,
                built: "imara-diff",
                syncs: 50,
                warm: Duration::from_millis(2_200),
            },
            Size::Full => Scale {
                files: 20_000,
                entries: 50_000,
                sources: 10_000,
                made: 10_000,
                bytes: 256 << 20,
                large: 1 << 30,
                few: 500,
                packaged: 10_000,
                turns: 50,
                remembered: 1_000_000,
                built: "globset",
                syncs: 200,
                warm: Duration::from_millis(3_300),
            },
        }
    }
}
