//! Everything that can be seen of a file, through a branch and on the host, to be compared.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use branch_store::*;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Paths;

/// All of a regular file. `ctime` is left out where a test has nothing to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub nlink: u32,
    pub size: u64,
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Offset and bytes of each stretch of data: what lies between is a hole.
    pub data: Vec<(u64, Bytes)>,
}

/// Bytes that a failed assertion does not list one by one.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum = self.0.iter().fold(0u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
        write!(f, "{} bytes, sum {sum:x}", self.0.len())
    }
}

impl Seen {
    /// Through a branch.
    pub fn in_branch(branch: &Arc<Branch>, path: &str) -> Seen {
        let (object, stat) = branch.at(path).unwrap();
        let names = branch.xattrs(&object).unwrap();
        let xattrs = names.into_iter().map(|name| (name.clone(), branch.xattr(&object, &name).unwrap()));
        let file = branch.open(&object, Access::Read).unwrap();
        let seek = |at, what| match file.seek(at, what) {
            Ok(at) => Some(at),
            Err(e) => {
                assert_eq!(e.errno(), Errno::NXIO);
                None
            }
        };
        let read = |at, len: u64| {
            let mut bytes = vec![0; len as usize];
            assert_eq!(file.read_at(&mut bytes, at).unwrap() as u64, len);
            bytes
        };
        Seen {
            mode: stat.mode,
            owner: (stat.uid, stat.gid),
            nlink: stat.nlink,
            size: stat.size,
            blocks: stat.blocks,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
            xattrs: xattrs.collect(),
            data: stretches(|at| seek(at, SeekWhat::Data), |at| seek(at, SeekWhat::Hole), read),
        }
    }

    /// On the host.
    pub fn on_host(path: &Path) -> Seen {
        let meta = path.symlink_metadata().unwrap();
        let time = |sec: i64, nsec: i64| Time { sec, nsec: nsec as u32 };
        let quietly = rustix::fs::OFlags::NOATIME.bits() as i32;
        let file = std::fs::File::options().read(true).custom_flags(quietly).open(path).unwrap();
        let seek = |from| match rustix::fs::seek(&file, from) {
            Ok(at) => Some(at),
            Err(e) => {
                assert_eq!(e, Errno::NXIO);
                None
            }
        };
        let read = |at, len: u64| {
            let mut bytes = vec![0; len as usize];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        Seen {
            mode: meta.mode() & 0o7777,
            owner: (meta.uid(), meta.gid()),
            nlink: meta.nlink() as u32,
            size: meta.size(),
            blocks: meta.blocks(),
            atime: time(meta.atime(), meta.atime_nsec()),
            mtime: time(meta.mtime(), meta.mtime_nsec()),
            ctime: time(meta.ctime(), meta.ctime_nsec()),
            xattrs: host_xattrs(path),
            data: stretches(|at| seek(SeekFrom::Data(at)), |at| seek(SeekFrom::Hole(at)), read),
        }
    }

    /// The same, its change time set aside.
    pub fn but_ctime(mut self) -> Seen {
        self.ctime = Time::default();
        self
    }

    /// The same, all times of a change set aside.
    pub fn but_change_times(mut self) -> Seen {
        self.mtime = Time::default();
        self.but_ctime()
    }
}

fn host_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65536];
    let len = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..len].split(|b| *b == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65536];
        let len = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(len);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

fn stretches(
    data: impl Fn(u64) -> Option<u64>,
    hole: impl Fn(u64) -> Option<u64>,
    read: impl Fn(u64, u64) -> Vec<u8>,
) -> Vec<(u64, Bytes)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = data(at) {
        let end = hole(start).unwrap();
        found.push((start, Bytes(read(start, end - start))));
        at = end;
    }
    found
}
