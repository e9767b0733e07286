//! The disk of a machine whose power fails: keeps book of what is durable, stops everything at call k, fails one
//! call, writes less than it is asked to, and afterwards turns the directories into what may be left (H1 to H3).

use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use branch_store::{Call, Gatekeeper};
use rustix::io::Errno;

use crate::bytes::{Bytes, Unsynced};
use crate::ledger::{Ledger, describe};

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process, or the machine, is gone: no call is carried out any more.
    Death,
    /// This once.
    Error(Errno),
    /// From here on nothing can be synced.
    NoSync,
}

/// What a power failure leaves: which of the calls that were not durable, and which bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Image {
    pub kept: Vec<bool>,
    pub bytes: Unsynced,
}

pub struct Recorder {
    inner: Mutex<Inner>,
    roots: Vec<PathBuf>,
    attic: PathBuf,
    /// Whether base and store are on different filesystems.
    apart: bool,
    /// Bytes that one write to the journal takes.
    append_max: usize,
}

struct Inner {
    ledger: Ledger,
    bytes: Bytes,
    calls: u64,
    fault: Option<(u64, Fault)>,
    /// The call that was failed, in words.
    struck: Option<String>,
}

impl Recorder {
    /// All that is below the roots is durable.
    pub fn new(attic: &Path, roots: &[PathBuf], apart: bool, append_max: usize) -> Arc<Recorder> {
        let mut inner = Inner {
            ledger: Ledger::new(attic, roots),
            bytes: Bytes::default(),
            calls: 0,
            fault: None,
            struck: None,
        };
        roots.iter().for_each(|root| inner.bytes.sync_all(root));
        let (roots, attic) = (roots.to_vec(), attic.to_owned());
        Arc::new(Recorder { inner: Mutex::new(inner), roots, attic, apart, append_max })
    }

    /// Counts from 0 again; the fault strikes at a call.
    pub fn arm(&self, fault: Option<(u64, Fault)>) {
        let mut inner = self.inner.lock().unwrap();
        (inner.calls, inner.fault, inner.struck) = (0, fault, None);
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.inner.lock().unwrap().calls
    }

    /// The call at which the fault struck.
    pub fn struck(&self) -> Option<String> {
        self.inner.lock().unwrap().struck.clone()
    }

    fn everywhere(&self) -> Vec<PathBuf> {
        self.roots.iter().chain([&self.attic]).cloned().collect()
    }

    /// All that a power failure at this moment may leave: bytes with all names and with none, then each name that
    /// alone is lost, and that alone is kept.
    pub fn images(&self) -> Vec<Image> {
        let inner = self.inner.lock().unwrap();
        let ledger = &inner.ledger;
        let calls = ledger.len();
        let choices = inner.bytes.choices(&self.everywhere());
        let mut images = Vec::new();
        let mut add = |kept: &Vec<bool>, bytes| {
            let image = Image { kept: kept.clone(), bytes };
            if !images.contains(&image) {
                images.push(image);
            }
        };
        for bytes in &choices {
            add(&vec![false; calls], *bytes);
            add(&vec![true; calls], *bytes);
        }
        for i in 0..calls {
            for kept in [ledger.without(i), ledger.with_what_came_before(&[i])] {
                for bytes in
                    [Unsynced::Newest, Unsynced::Lost, Unsynced::JournalNewest, Unsynced::JournalLost]
                {
                    if choices.contains(&bytes) {
                        add(&kept, bytes);
                    }
                }
            }
        }
        images
    }

    /// The power fails. All that is left is durable. Returns what was lost, in words; nothing if no filesystem could
    /// look so.
    pub fn power_failure(&self, image: &Image) -> Option<Vec<String>> {
        let mut inner = self.inner.lock().unwrap();
        inner.bytes.lose(&self.everywhere(), image.bytes);
        let lost = match inner.ledger.take_back(&image.kept) {
            Ok(lost) => lost,
            Err(Errno::INVAL) => return None,
            Err(e) => panic!("{e}"),
        };
        for root in &self.roots {
            if root.join("boot").exists() {
                std::fs::write(root.join("boot"), "another boot").unwrap();
            }
            inner.bytes.sync_all(root);
        }
        Some(lost)
    }
}

impl Gatekeeper for Recorder {
    fn before(&self, _call: &'static str) -> Result<(), Errno> {
        unreachable!("before_call is asked")
    }

    fn before_call(&self, call: &Call<'_>) -> Result<(), Errno> {
        let mut inner = self.inner.lock().unwrap();
        let inner = &mut *inner;
        inner.calls += 1;
        let number = inner.calls - 1;
        let is_sync = matches!(call, Call::Sync { .. } | Call::SyncAll { .. });
        let answer = match inner.fault {
            Some((at, Fault::Death)) if number >= at => Some(Errno::IO),
            Some((at, Fault::Error(errno))) if number == at => Some(errno),
            Some((at, Fault::NoSync)) if number >= at && is_sync => Some(Errno::IO),
            _ => None,
        };
        if let Some(errno) = answer {
            inner.struck.get_or_insert_with(|| describe(call));
            return Err(errno);
        }
        let ends = match call {
            Call::Rename { from, to, .. } | Call::Link { from, to } => Some((from.dir, to.dir)),
            _ => None,
        };
        if let Some((from, to)) = ends
            && self.apart
            && inner.ledger.root_of(from) != inner.ledger.root_of(to)
        {
            return Err(Errno::XDEV);
        }
        inner.ledger.before(call);
        Ok(())
    }

    fn after_call(&self, call: &Call<'_>) {
        let mut inner = self.inner.lock().unwrap();
        let inner = &mut *inner;
        inner.ledger.after(call);
        match call {
            Call::Sync { of, .. } => {
                let st = rustix::fs::fstat(of).unwrap();
                if st.st_mode & 0o170_000 == 0o040_000 {
                    inner.ledger.sync_dir(st.st_ino);
                }
                inner.bytes.sync(&path_of(of));
            }
            Call::SyncAll { of } => {
                let root = inner.ledger.root_of(*of);
                let all = if self.apart { root..root + 1 } else { 0..self.roots.len() };
                for root in all {
                    inner.ledger.sync_root(root);
                    inner.bytes.sync_all(&self.roots[root]);
                }
            }
            Call::Change { name: "truncate", of } => inner.bytes.note_cut(&path_of(of)),
            _ => {}
        }
    }

    fn at_most(&self, call: &'static str, len: usize) -> usize {
        if call == "append" { len.min(self.append_max) } else { len.min(16 << 10) }
    }
}

/// Through the descriptor: what it names may have no name any more.
fn path_of(fd: &BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
