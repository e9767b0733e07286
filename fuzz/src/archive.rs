//! A whole workspace as bytes: directories, files, links, and the store's logs taken apart.
//!
//! One entry is a tag, a path (one length byte), and a body (four). A component `%n` of a path stands for the
//! inode number of entry n: content files of adopted objects are named by it.

use crate::frames::Log;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// A directory.
    Dir,
    /// A file and its bytes.
    File,
    /// A symbolic link and its target.
    Symlink,
    /// A further link; the body is the number of the entry with the first.
    Link,
    /// A journal or checkpoint: checksums are made right when it is unpacked, host objects by their tokens.
    Log,
}

const TAGS: [(u8, Tag); 5] =
    [(b'd', Tag::Dir), (b'f', Tag::File), (b'l', Tag::Symlink), (b'h', Tag::Link), (b'j', Tag::Log)];

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub tag: Tag,
    /// Where, below the workspace.
    pub path: Vec<u8>,
    /// What it holds.
    pub body: Vec<u8>,
}

impl Entry {
    /// The log, taken apart.
    pub fn log(&self) -> Option<Log> {
        if self.tag == Tag::Log { Log::parse(&self.body) } else { None }
    }
}

/// The entries of an archive, up to the first that is cut short.
pub fn decode(mut bytes: &[u8]) -> Vec<Entry> {
    let mut entries = Vec::new();
    while let Some((entry, rest)) = entry(bytes) {
        entries.push(entry);
        bytes = rest;
    }
    entries
}

fn entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let ([tag, len], rest) = bytes.split_first_chunk()?;
    let tag = TAGS.iter().find(|(byte, _)| byte == tag)?.1;
    let (path, rest) = rest.split_at_checked(usize::from(*len))?;
    let (len, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    Some((Entry { tag, path: path.to_vec(), body: body.to_vec() }, rest))
}

/// The bytes of an archive.
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let tag = TAGS.iter().find(|(_, tag)| *tag == entry.tag).map_or(b'f', |(byte, _)| *byte);
        let path = &entry.path[..entry.path.len().min(usize::from(u8::MAX))];
        out.extend([tag, path.len() as u8]);
        out.extend(path);
        out.extend((entry.body.len() as u32).to_le_bytes());
        out.extend(&entry.body);
    }
    out
}
