//! The control file and the ioctls: commit, abort and fork asked for from inside a branch.
//!
//! They act on the branch of the descriptor they come through, and only through its control file or its root
//! directory (S24). Any other file answers ENOTTY. Decoding is quick and done where the request arrives;
//! [`Vfs::carry_out`] may take long and must not hold up a worker.

use std::sync::Arc;

use branch_store::{Branch, NodeId};
use rustix::io::Errno;

use super::files::By;
use super::handles::{ControlHandle, Handle, Intent};
use super::{Caller, Place, Vfs, ino};

/// Name of the control file in the root of each branch.
pub const CONTROL_NAME: &[u8] = b".branchfs_ctl";
/// Bytes the fork ioctl answers with: the new branch's name, padded with NUL.
pub const FORK_REPLY_LEN: usize = 128;

/// `_IOR('b', 0, [u8; 128])`
const IOCTL_FORK: u32 = 0x8080_6200;
/// `_IO('b', 1)`
const IOCTL_COMMIT: u32 = 0x6201;
/// `_IO('b', 2)`
const IOCTL_ABORT: u32 = 0x6202;

const _: () = assert!(IOCTL_FORK >> 16 & 0x3fff == FORK_REPLY_LEN as u32, "the size is part of the number");

/// What carries out the verbs, so that they go the same way as those of the command line.
///
/// Calls come on a thread of their own. The process that asked waits uninterruptibly for the answer, so a
/// call must not wait for the end of processes in the branch.
pub trait Control: Send + Sync {
    /// Commits the branch into its parent.
    ///
    /// # Errors
    /// The errno of the engine's error.
    fn commit(&self, branch: &str) -> Result<(), Errno>;
    /// Discards the branch.
    ///
    /// # Errors
    /// The errno of the engine's error.
    fn abort(&self, branch: &str) -> Result<(), Errno>;
    /// Makes one branch below `parent` and returns its name, shorter than [`FORK_REPLY_LEN`].
    ///
    /// # Errors
    /// The errno of the engine's error.
    fn fork(&self, parent: &str) -> Result<String, Errno>;
}

/// The verbs. All need a live branch; the engine decides the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Commit the branch into its parent.
    Commit,
    /// Discard the branch.
    Abort,
    /// Make a branch below it.
    Fork,
}

/// A decoded and permitted request, to be carried out.
pub struct Order {
    branch: Arc<Branch>,
    verb: Verb,
}

impl Vfs {
    /// What a write to a control file asks for.
    ///
    /// # Errors
    /// EINVAL for text other than `commit` or `abort`; EBADF unless opened for writing.
    pub fn order_by_write(&self, file: By, text: &[u8]) -> Result<Order, Errno> {
        Ok(Order { branch: self.branch_to_order(file)?, verb: parse(text)? })
    }

    /// What an ioctl asks for. A control file needs a descriptor open for writing; a directory's never is, so
    /// there the caller has to be the store's owner or root.
    ///
    /// # Errors
    /// ENOTTY for any other number or file; EBADF or EPERM without the right to write.
    pub fn order_by_ioctl(&self, ino: u64, file: By, caller: Caller, number: u32) -> Result<Order, Errno> {
        let verb = verb_of(number).ok_or(Errno::NOTTY)?;
        let branch = match ino::unpack(ino) {
            ino::Ino::Control(_) => self.branch_to_order(file)?,
            ino::Ino::Node => self.branch_of_root(ino, caller)?,
            ino::Ino::MountRoot | ino::Ino::Link(_) | ino::Ino::Unknown => return Err(Errno::NOTTY),
        };
        Ok(Order { branch, verb })
    }

    /// Carries out an order. Returns the bytes the ioctl answers with: none but for fork.
    ///
    /// # Errors
    /// [`Control`]'s; ESTALE if the branch has ended.
    pub fn carry_out(&self, order: &Order) -> Result<Vec<u8>, Errno> {
        if !order.branch.is_live() {
            return Err(Errno::STALE);
        }
        let name = order.branch.name();
        match order.verb {
            Verb::Commit => self.control.commit(name).map(|()| Vec::new()),
            Verb::Abort => self.control.abort(name).map(|()| Vec::new()),
            Verb::Fork => fork_reply(&self.control.fork(name)?),
        }
    }

    /// By inode everybody who has the control file open may order: writing is what its mode lets its owner do, and who
    /// can open it otherwise is root.
    fn branch_to_order(&self, file: By) -> Result<Arc<Branch>, Errno> {
        match file {
            By::Handle(fh) => match &*self.handles.get(fh).ok_or(Errno::BADF)? {
                Handle::Control(ControlHandle { branch, intent: Intent::Write }) => Ok(Arc::clone(branch)),
                Handle::Control(_) | Handle::File(_) => Err(Errno::BADF),
            },
            By::Inode(ino) => match self.place(ino)? {
                Place::Control(branch) => Ok(branch),
                Place::Node(_) | Place::MountRoot | Place::Link(_) => Err(Errno::BADF),
            },
        }
    }

    fn branch_of_root(&self, ino: u64, caller: Caller) -> Result<Arc<Branch>, Errno> {
        let known = self.known(ino)?;
        match known.object.id {
            NodeId::ROOT if caller.uid == 0 || caller.uid == self.owner.uid => Ok(known.branch),
            NodeId::ROOT => Err(Errno::PERM),
            _ => Err(Errno::NOTTY),
        }
    }
}

/// Whether the name in this directory is the control file's.
pub(super) fn is_control_name(dir: NodeId, name: &[u8]) -> bool {
    dir == NodeId::ROOT && name == CONTROL_NAME
}

fn parse(text: &[u8]) -> Result<Verb, Errno> {
    match text.trim_ascii() {
        b"commit" => Ok(Verb::Commit),
        b"abort" => Ok(Verb::Abort),
        _ => Err(Errno::INVAL),
    }
}

fn verb_of(number: u32) -> Option<Verb> {
    match number {
        IOCTL_FORK => Some(Verb::Fork),
        IOCTL_COMMIT => Some(Verb::Commit),
        IOCTL_ABORT => Some(Verb::Abort),
        _ => None,
    }
}

fn fork_reply(name: &str) -> Result<Vec<u8>, Errno> {
    if name.len() >= FORK_REPLY_LEN {
        return Err(Errno::NAMETOOLONG);
    }
    let mut reply = name.as_bytes().to_vec();
    reply.resize(FORK_REPLY_LEN, 0);
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_knows_two_words() {
        for (text, verb) in [
            (&b"commit"[..], Ok(Verb::Commit)),
            (b"commit\n", Ok(Verb::Commit)),
            (b" \tabort\r\n", Ok(Verb::Abort)),
            (b"", Err(Errno::INVAL)),
            (b"Commit", Err(Errno::INVAL)),
            (b"commit abort", Err(Errno::INVAL)),
            (b"fork", Err(Errno::INVAL)),
            (b"commit\0", Err(Errno::INVAL)),
            (b"\xff\xfe", Err(Errno::INVAL)),
        ] {
            assert_eq!(parse(text), verb, "{text:?}");
        }
    }

    #[test]
    fn the_ioctl_numbers_are_the_papers() {
        assert_eq!(verb_of(0x8080_6200), Some(Verb::Fork));
        assert_eq!(verb_of(0x6201), Some(Verb::Commit));
        assert_eq!(verb_of(0x6202), Some(Verb::Abort));
        assert_eq!(verb_of(0x5401), None, "TCGETS, which isatty(3) sends to every file");
    }

    #[test]
    fn a_fork_reply_is_a_terminated_name() {
        let reply = fork_reply("fix-1").unwrap();
        assert_eq!((reply.len(), &reply[..6]), (FORK_REPLY_LEN, &b"fix-1\0"[..]));
        assert_eq!(fork_reply(&"x".repeat(127)).unwrap()[127], 0);
        assert_eq!(fork_reply(&"x".repeat(128)), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn the_control_file_is_in_the_root_only() {
        assert!(is_control_name(NodeId::ROOT, CONTROL_NAME));
        assert!(!is_control_name(NodeId(12), CONTROL_NAME));
        assert!(!is_control_name(NodeId::ROOT, b".branchfs_ctl2"));
    }
}
