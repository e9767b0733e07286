//! Ways of serving what is in files.

/// How file data are served. A mount has one way for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Data {
    /// Every open(2) is a question to us, answered with a handle; bytes come from us, and the kernel keeps them.
    #[default]
    Opened,
    /// The same, but files that are open for reading, of which nothing changes the bytes, the kernel reads from the host
    /// by itself, if it lets us (root).
    Passthrough,
}

impl Data {
    /// As it is written in options and shown by `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Data::Opened => "opened",
            Data::Passthrough => "passthrough",
        }
    }
}
