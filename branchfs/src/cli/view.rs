//! The option `--view` of `run` and `explore`.

/// What a command works on, as the command line spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum View {
    /// The daemon's mount
    Fuse,
    /// A kernel overlayfs of its own, taken into the branch at its end
    Native,
    /// Native where nobody could tell the difference
    Auto,
}

impl From<View> for branch_core::View {
    fn from(view: View) -> branch_core::View {
        match view {
            View::Fuse => branch_core::View::Fuse,
            View::Native => branch_core::View::Native,
            View::Auto => branch_core::View::Auto,
        }
    }
}
