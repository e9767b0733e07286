//! Three-way merge of the bytes of a file. The engine knows nothing of lines: who asks for a merge brings along what
//! merges. It reads the three versions, keeps the attributes' rules, and puts the result where nothing can be damaged
//! by it: into a layer of its own, which the commit takes over or which goes with it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;

use rustix::io::Errno;

use crate::base::stat_fd;
use crate::branch::Shared;
use crate::commit::choose::versions::{Met, Version};
use crate::commit::clash::{Clash, Sides};
use crate::conflict::Conflict;
use crate::content::PRIVATE;
use crate::copying::{Take, copy_bytes, same_bytes};
use crate::error::{Error, Result};
use crate::ids::{LayerId, NodeId};
use crate::node::{Attributes, Body, Content, Kind, Object, Time, time_of};

/// Largest file that is read for a merge, in bytes. One of which only one side changed the bytes may be larger.
pub const MERGE_MAX: u64 = 4 << 20;

/// The versions of a file that are to become one.
#[derive(Debug, Clone, Copy)]
pub struct Texts<'a> {
    /// What both started from; `None`: both made the file.
    pub base: Option<&'a [u8]>,
    /// The branch's.
    pub ours: &'a [u8],
    /// The parent's.
    pub theirs: &'a [u8],
    /// Name of the branch.
    pub our_name: &'a str,
    /// Name of the parent.
    pub their_name: &'a str,
}

/// What became of three versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedText {
    /// The file's new bytes.
    pub bytes: Vec<u8>,
    /// Conflicts of lines in it, between markers.
    pub markers: usize,
}

/// Makes one text of three, or says in words why not. It is called under the locks of a commit: it must only look at
/// what it is given, and be quick.
#[derive(Debug, Clone, Copy)]
pub struct Merger(pub fn(&Texts<'_>) -> std::result::Result<MergedText, String>);

impl PartialEq for Merger {
    fn eq(&self, other: &Merger) -> bool {
        std::ptr::fn_addr_eq(self.0, other.0)
    }
}

impl Eq for Merger {}

/// The layer that merged files are written to, and its directory on the disk, until the commit takes it over.
pub(in crate::commit) struct Fresh<'a> {
    shared: &'a Shared,
    layer: Option<LayerId>,
    files: BTreeSet<(LayerId, NodeId)>,
}

impl<'a> Fresh<'a> {
    pub(in crate::commit) fn new(shared: &'a Shared) -> Fresh<'a> {
        Fresh { shared, layer: None, files: BTreeSet::new() }
    }

    /// Makes what was written durable: before the record that speaks of it is.
    ///
    /// # Errors
    /// The host's; a failed sync poisons the store (S21).
    pub(in crate::commit) fn make_durable(&self) -> Result<()> {
        self.shared.contents.sync_files(&self.files).inspect_err(|_| self.shared.journal.poison())
    }

    pub(in crate::commit) fn layers(&self) -> Vec<LayerId> {
        self.layer.into_iter().collect()
    }

    /// The commit is decided: from now on somebody else's.
    pub(in crate::commit) fn keep(&mut self) -> Vec<LayerId> {
        self.files.clear();
        self.layer.take().into_iter().collect()
    }

    fn create(&mut self, id: NodeId) -> Result<(LayerId, File)> {
        let layer = *self.layer.get_or_insert_with(|| self.shared.counters.new_layer());
        let file = self.shared.contents.create(layer, id, PRIVATE)?;
        self.files.insert((layer, id));
        Ok((layer, file))
    }

    fn write(&mut self, id: NodeId, bytes: &[u8]) -> Result<LayerId> {
        let (layer, file) = self.create(id)?;
        let mut done = 0;
        while done < bytes.len() {
            match self.shared.disk.copy_write(&file, &bytes[done..], done as u64) {
                Ok(0) => return Err(Error::Posix(Errno::IO)),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.shared.contents.look_again(layer, id);
        Ok(layer)
    }

    fn copy(&mut self, id: NodeId, source: &File) -> Result<LayerId> {
        let (layer, file) = self.create(id)?;
        copy_bytes(&self.shared.disk, source, &file, Take::All)?;
        crate::content::set_mtime(&file, time_of(&stat_fd(source)?.stx_mtime))?;
        self.shared.contents.look_again(layer, id);
        Ok(layer)
    }
}

impl Drop for Fresh<'_> {
    fn drop(&mut self) {
        if let Some(layer) = self.layer {
            // Nothing speaks of it. Best effort: recovery removes layers that nobody owns.
            self.shared.contents.discard_layer(layer).ok();
        }
    }
}

type Merged = std::result::Result<(Version, usize), String>;

/// Where the new bytes come from.
enum Bytes {
    /// They changed none.
    Ours,
    /// We changed none.
    Theirs,
    Both(MergedText),
}

/// The branch's object with the changes of both, or why there is none.
///
/// # Errors
/// The host's.
pub(super) fn merge(
    sides: &Sides<'_>,
    clash: &Clash,
    conflict: &Conflict,
    (merger, names): (Merger, [&str; 2]),
    fresh: &mut Fresh<'_>,
) -> Result<Merged> {
    let files = |version: &Option<crate::conflict::Version>| {
        version.as_ref().is_some_and(|version| version.kind == Kind::File)
    };
    if !files(&conflict.ours) || !files(&conflict.theirs) {
        return Ok(Err("not a regular file on both sides".to_owned()));
    }
    let Some(met) = sides.met(clash)? else {
        return Ok(Err("the two are not changes of one file".to_owned()));
    };
    if let Some(why) = unfit(sides, &met)? {
        return Ok(Err(why.to_owned()));
    }
    let Some((attributes, _)) = sides.attributes(&met)? else {
        return Ok(Err("both changed the same attribute, differently".to_owned()));
    };
    let bytes = match sides.undisturbed(|| bytes(sides, &met, merger, names))? {
        Ok(bytes) => bytes,
        Err(why) => return Ok(Err(why)),
    };
    let markers = match &bytes {
        Bytes::Both(merged) => merged.markers,
        Bytes::Ours | Bytes::Theirs => 0,
    };
    let version = version(sides, &met, (attributes, bytes), fresh)?;
    if !sides.is_still_theirs(&met)? {
        return Ok(Err("somebody is editing it".to_owned()));
    }
    Ok(Ok((version, markers)))
}

/// Why an object is not merged whatever is in it.
fn unfit(sides: &Sides<'_>, met: &Met) -> Result<Option<&'static str>> {
    if met.lost {
        return Ok(Some("the version that the branch started from was edited from outside and is gone"));
    }
    let theirs = sides.theirs.stat(&met.theirs)?;
    let ours = sides.ours.node(met.ours)?;
    let apart = theirs.id != met.ours || met.their_print.is_some();
    if apart && (theirs.nlink > 1 || ours.inode.meta.nlink > 1) {
        return Ok(Some("it has several names"));
    }
    if let Some(fork) = &met.fork
        && sides.fork.stat(fork)?.kind != Kind::File
    {
        return Ok(Some("it was no regular file before"));
    }
    Ok(None)
}

fn bytes(
    sides: &Sides<'_>,
    met: &Met,
    merger: Merger,
    [our_name, their_name]: [&str; 2],
) -> Result<std::result::Result<Bytes, String>> {
    let ours = sides.ours.open(&Object { id: met.ours, slot: None })?;
    let theirs = sides.theirs.open(&met.theirs)?;
    let fork = match &met.fork {
        Some(fork) => Some(sides.fork.open(fork)?),
        None => None,
    };
    if let Some(fork) = &fork {
        if same(fork, &theirs)? {
            return Ok(Ok(Bytes::Ours));
        }
        if same(fork, &ours)? {
            return Ok(Ok(Bytes::Theirs));
        }
    }
    let too_large = || Ok(Err(format!("larger than {} MiB", MERGE_MAX >> 20)));
    let (Some(ours), Some(theirs)) = (read(&ours)?, read(&theirs)?) else { return too_large() };
    let base = match fork.as_ref().map(read).transpose()? {
        Some(None) => return too_large(),
        base => base.flatten(),
    };
    let texts = Texts { base: base.as_deref(), ours: &ours, theirs: &theirs, our_name, their_name };
    Ok((merger.0)(&texts).map(Bytes::Both))
}

fn version(
    sides: &Sides<'_>,
    met: &Met,
    (attributes, bytes): (Attributes, Bytes),
    fresh: &mut Fresh<'_>,
) -> Result<Version> {
    let id = met.ours;
    let mut inode = sides.ours.node(id)?.inode.clone();
    let times = inode.meta.attributes();
    let written = match &bytes {
        Bytes::Ours => None,
        Bytes::Theirs => Some(fresh.copy(id, &sides.theirs.open(&met.theirs)?)?),
        Bytes::Both(merged) => Some(fresh.write(id, &merged.bytes)?),
    };
    let mtime = match written {
        Some(layer) => {
            inode.body = Body::File(Content::Own(layer));
            // The file knows it (I-5).
            None
        }
        None => times.mtime,
    };
    inode.meta.set_attributes(Attributes { atime: times.atime, mtime, ..attributes });
    inode.meta.ctime = Time::now();
    Ok(Version { id, inode, theirs: met.their_print })
}

fn same(one: &File, other: &File) -> Result<bool> {
    Ok(stat_fd(one)?.stx_size == stat_fd(other)?.stx_size && same_bytes(one, other)?)
}

/// All bytes of a file; `None` if they are too many.
fn read(file: &File) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    let read = file.take(MERGE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|e| Error::Posix(Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    Ok((bytes.len() as u64 <= MERGE_MAX).then_some(bytes))
}
