//! Ways of serving what is in files.

/// How file data are served. A mount has one way for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Data {
    /// The kernel opens and closes files by itself, names them by inode when it wants bytes, and keeps these.
    #[default]
    Cached,
    /// Every open(2) is a question to us, answered with a handle; bytes come from us, and the kernel keeps them.
    Opened,
    /// The same, but files that are open for reading, of which nothing changes the bytes, the kernel reads from the host
    /// by itself, if it lets us (root).
    Passthrough,
}

impl Data {
    /// Every way.
    pub const ALL: [Data; 3] = [Data::Cached, Data::Opened, Data::Passthrough];

    /// As it is written in options and shown by `status`.
    pub const fn name(self) -> &'static str {
        match self {
            Data::Cached => "cached",
            Data::Opened => "opened",
            Data::Passthrough => "passthrough",
        }
    }

    /// The way of that name.
    pub fn named(name: &str) -> Option<Data> {
        Data::ALL.into_iter().find(|data| data.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_a_name_that_names_it() {
        for data in Data::ALL {
            assert_eq!(Data::named(data.name()), Some(data));
        }
        assert_eq!(Data::named("Cached"), None);
    }
}
