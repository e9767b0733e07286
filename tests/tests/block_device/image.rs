//! The bytes of a disk, without those that are zero: copies and changes cost what is there, not its size.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// What a disk writes whole or not at all.
pub(crate) const PAGE: usize = 4096;

type Page = [u8; PAGE];

/// A disk's content. A clone shares the pages that neither side changes.
#[derive(Clone)]
pub(crate) struct Image {
    size: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    /// Reads a whole file, whose size is a multiple of [`PAGE`].
    pub(crate) fn load(path: &Path) -> Image {
        let mut file = File::open(path).unwrap();
        let size = file.metadata().unwrap().len();
        let mut pages = BTreeMap::new();
        let mut page = [0; PAGE];
        for number in 0..size / PAGE as u64 {
            file.read_exact(&mut page).unwrap();
            if page != [0; PAGE] {
                pages.insert(number, Arc::new(page));
            }
        }
        Image { size, pages }
    }

    /// In bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Makes the file hold this and nothing else.
    pub(crate) fn store(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(self.size).unwrap();
        for (number, page) in &self.pages {
            file.write_all_at(&page[..], number * PAGE as u64).unwrap();
        }
    }

    /// Up to the end of the disk.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let len = len.min(self.size.saturating_sub(offset) as usize);
        let mut bytes = vec![0; len];
        for (number, within, piece) in pieces(offset, len) {
            if let Some(page) = self.pages.get(&number) {
                bytes[piece.clone()].copy_from_slice(&page[within..within + piece.len()]);
            }
        }
        bytes
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.size, "a write beyond the end of the disk");
        for (number, within, piece) in pieces(offset, bytes.len()) {
            let page = self.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(&bytes[piece]);
        }
    }

    pub(crate) fn zero(&mut self, offset: u64, len: u64) {
        for (number, within, piece) in pieces(offset, len as usize) {
            if piece.len() == PAGE {
                self.pages.remove(&number);
            } else if let Some(page) = self.pages.get_mut(&number) {
                Arc::make_mut(page)[within..within + piece.len()].fill(0);
            }
        }
    }
}

/// Page by page: its number, where in it to begin, and which of the `len` bytes go there.
pub(crate) fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = (at % PAGE as u64) as usize;
        let piece = done..len.min(done + PAGE - within);
        done = piece.end;
        (!piece.is_empty()).then_some((at / PAGE as u64, within, piece))
    })
}
