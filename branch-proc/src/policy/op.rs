//! What can be done to a path, and which rights of Landlock that takes.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use landlock::{AccessFs, BitFlags, make_bitflags};
use serde::{Deserialize, Serialize};

/// A set of Landlock's rights on files.
pub(crate) type Rights = BitFlags<AccessFs>;

pub(crate) const LIST: Rights = make_bitflags!(AccessFs::{ReadDir});
pub(crate) const READ: Rights = make_bitflags!(AccessFs::{ReadFile | ReadDir});
pub(crate) const EXEC: Rights = make_bitflags!(AccessFs::{Execute | ReadFile | ReadDir});
/// Writing includes reading; of what a directory can hold only device nodes are left out.
pub(crate) const WRITE: Rights = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | RemoveDir | RemoveFile | MakeDir | MakeReg | MakeSock
    | MakeFifo | MakeSym | Refer
});
pub(crate) const NODES: Rights = make_bitflags!(AccessFs::{MakeChar | MakeBlock});
pub(crate) const DEVICE: Rights =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | IoctlDev});
/// The rights that a rule for something other than a directory may have.
pub(crate) const FILE: Rights =
    make_bitflags!(AccessFs::{Execute | ReadFile | WriteFile | Truncate | IoctlDev});

/// What is done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Opening a file for reading.
    Read,
    /// Opening a directory, which is how it is listed.
    List,
    /// Opening a file for writing.
    Write,
    /// Changing a file's size (`truncate(2)`, `O_TRUNC`).
    Truncate,
    /// Running it (`execve(2)`).
    Execute,
    /// Making a regular file.
    Create,
    /// Making a directory.
    CreateDir,
    /// Making a symbolic link.
    CreateSymlink,
    /// Making a FIFO.
    CreateFifo,
    /// Making a socket (`bind(2)` to a path).
    CreateSocket,
    /// Making a character device.
    CreateChar,
    /// Making a block device.
    CreateBlock,
    /// Removing anything but a directory.
    Remove,
    /// Removing a directory.
    RemoveDir,
    /// Changing owner, mode, times or extended attributes.
    Attributes,
    /// Controlling a device (`ioctl(2)`).
    Control,
}

/// Where the kernel looks for the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// At the object and the directories above.
    Object,
    /// At the directory that has the name, and those above.
    Parent,
}

impl Op {
    /// Every one.
    pub const ALL: [Op; 16] = [
        Op::Read,
        Op::List,
        Op::Write,
        Op::Truncate,
        Op::Execute,
        Op::Create,
        Op::CreateDir,
        Op::CreateSymlink,
        Op::CreateFifo,
        Op::CreateSocket,
        Op::CreateChar,
        Op::CreateBlock,
        Op::Remove,
        Op::RemoveDir,
        Op::Attributes,
        Op::Control,
    ];

    /// What the kernel asks for. None for what Landlock does not know, and read-only mounts fence instead.
    pub(crate) fn right(self) -> Option<(AccessFs, At)> {
        Some(match self {
            Op::Read => (AccessFs::ReadFile, At::Object),
            Op::List => (AccessFs::ReadDir, At::Object),
            Op::Write => (AccessFs::WriteFile, At::Object),
            Op::Truncate => (AccessFs::Truncate, At::Object),
            Op::Execute => (AccessFs::Execute, At::Object),
            Op::Control => (AccessFs::IoctlDev, At::Object),
            Op::Create => (AccessFs::MakeReg, At::Parent),
            Op::CreateDir => (AccessFs::MakeDir, At::Parent),
            Op::CreateSymlink => (AccessFs::MakeSym, At::Parent),
            Op::CreateFifo => (AccessFs::MakeFifo, At::Parent),
            Op::CreateSocket => (AccessFs::MakeSock, At::Parent),
            Op::CreateChar => (AccessFs::MakeChar, At::Parent),
            Op::CreateBlock => (AccessFs::MakeBlock, At::Parent),
            Op::Remove => (AccessFs::RemoveFile, At::Parent),
            Op::RemoveDir => (AccessFs::RemoveDir, At::Parent),
            Op::Attributes => return None,
        })
    }

    /// The path whose rules decide: the object's own or its directory's; the root has none.
    pub(crate) fn place(self, path: &Path) -> Option<&Path> {
        match self.right() {
            Some((_, At::Parent)) => path.parent(),
            Some((_, At::Object)) | None => Some(path),
        }
    }

    /// Whether it is about a name in its directory, so that a symbolic link there is not followed.
    pub fn is_about_name(self) -> bool {
        matches!(self.right(), Some((_, At::Parent)))
    }

    /// The word for it on the command line and in data.
    pub fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::List => "list",
            Op::Write => "write",
            Op::Truncate => "truncate",
            Op::Execute => "execute",
            Op::Create => "create",
            Op::CreateDir => "create-dir",
            Op::CreateSymlink => "create-symlink",
            Op::CreateFifo => "create-fifo",
            Op::CreateSocket => "create-socket",
            Op::CreateChar => "create-char",
            Op::CreateBlock => "create-block",
            Op::Remove => "remove",
            Op::RemoveDir => "remove-dir",
            Op::Attributes => "attributes",
            Op::Control => "control",
        }
    }

    /// For a sentence: "… PATH is denied".
    pub(crate) fn doing(self) -> &'static str {
        match self {
            Op::Read => "reading",
            Op::List => "listing",
            Op::Write => "writing",
            Op::Truncate => "truncating",
            Op::Execute => "executing",
            Op::Create => "creating",
            Op::CreateDir => "creating the directory",
            Op::CreateSymlink => "creating the symbolic link",
            Op::CreateFifo => "creating the FIFO",
            Op::CreateSocket => "creating the socket",
            Op::CreateChar => "creating the character device",
            Op::CreateBlock => "creating the block device",
            Op::Remove => "removing",
            Op::RemoveDir => "removing the directory",
            Op::Attributes => "changing owner, mode, times or attributes of",
            Op::Control => "controlling the device",
        }
    }

    /// The list of a policy that would have to name the path.
    pub(crate) fn list(self) -> List {
        match self {
            Op::List => List::Names,
            Op::Read => List::FsRead,
            Op::Execute => List::FsExec,
            Op::Control => List::Devices,
            _ => List::FsWrite,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why text is no [`Op`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is nothing that can be done to a path: {names}", names = names())]
pub struct OpError(String);

fn names() -> String {
    Op::ALL.map(Op::name).join(", ")
}

impl FromStr for Op {
    type Err = OpError;

    fn from_str(text: &str) -> Result<Op, OpError> {
        let found = Op::ALL.into_iter().find(|op| op.name() == text);
        found.ok_or_else(|| OpError(text.to_owned()))
    }
}

/// The part of a policy a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum List {
    Branch,
    Names,
    FsRead,
    FsWrite,
    FsExec,
    Spawn,
    Devices,
    /// What every program gets: null, zero, random numbers, the terminal.
    Always,
    /// What the caller passed to this very program.
    Passed,
}

impl List {
    pub(crate) fn name(self) -> &'static str {
        match self {
            List::Branch => "branch",
            List::Names => "fs_list",
            List::FsRead => "fs_read",
            List::FsWrite => "fs_write",
            List::FsExec => "fs_exec",
            List::Spawn => "spawn",
            List::Devices => "devices",
            List::Always => "always",
            List::Passed => "passed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_read_as_it_is_written() {
        for op in Op::ALL {
            assert_eq!(op.to_string().parse(), Ok(op));
        }
        let error = "chew".parse::<Op>().unwrap_err().to_string();
        assert!(error.contains("\"chew\"") && error.contains("create-symlink"), "{error}");
    }

    #[test]
    fn the_rights_are_those_of_the_fifth_abi_and_nothing_is_forgotten() {
        use landlock::{ABI, Access};
        assert_eq!(READ | EXEC | WRITE | NODES | DEVICE, AccessFs::from_all(ABI::V5));
        assert_eq!(FILE, AccessFs::from_file(ABI::V5));
        assert_eq!(EXEC, AccessFs::from_read(ABI::V5));
    }
}
