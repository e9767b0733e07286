//! How many bytes each content file has allocated, remembered so that nobody has to look at all files of a layer.
//!
//! A layer is counted once, when it is made or first asked for after a restart. From then on whoever changed a file
//! says so; files that are open for writing are looked at again whenever somebody asks.

use std::collections::HashMap;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::base::stat_at;
use crate::content::{Contents, file_name};
use crate::error::{Error, Result};
use crate::ids::{LayerId, NodeId};
use crate::measuring::allocated;

/// Layers by id, as far as they were counted. Under its lock files are looked at, for which a layer's directory is
/// taken from the cache of open ones, and nothing else is done.
#[derive(Default)]
pub(super) struct Ledger(Mutex<HashMap<LayerId, Layer>>);

#[derive(Default)]
struct Layer {
    bytes: u64,
    /// Files with bytes. `None`: not counted yet.
    files: Option<HashMap<NodeId, u64>>,
    /// How often each file is open for writing.
    open: HashMap<NodeId, u32>,
}

impl Layer {
    fn set(&mut self, id: NodeId, bytes: u64) {
        let Some(files) = &mut self.files else { return };
        let before = if bytes == 0 { files.remove(&id) } else { files.insert(id, bytes) };
        self.bytes = self.bytes - before.unwrap_or(0) + bytes;
    }
}

impl Contents {
    /// A layer that has just been made holds nothing.
    pub(super) fn count_from_nothing(&self, layer: LayerId) {
        self.ledger.0.lock().entry(layer).or_default().files.get_or_insert_default();
    }

    /// What a file has allocated now.
    pub(crate) fn note_bytes(&self, layer: LayerId, id: NodeId, bytes: u64) {
        if let Some(counted) = self.ledger.0.lock().get_mut(&layer) {
            counted.set(id, bytes);
        }
    }

    pub(super) fn forget_layer(&self, layer: LayerId) {
        self.ledger.0.lock().remove(&layer);
    }

    /// Somebody opened a file to write in place.
    pub(crate) fn note_open(&self, layer: LayerId, id: NodeId) {
        *self.ledger.0.lock().entry(layer).or_default().open.entry(id).or_default() += 1;
    }

    /// Somebody closed it.
    pub(crate) fn note_closed(&self, layer: LayerId, id: NodeId) {
        let mut ledger = self.ledger.0.lock();
        let Some(counted) = ledger.get_mut(&layer) else { return };
        if let Some(open) = counted.open.get_mut(&id) {
            *open -= 1;
            if *open == 0 {
                counted.open.remove(&id);
            }
        }
        self.look(counted, layer, id);
    }

    /// Somebody changed it.
    pub(crate) fn look_again(&self, layer: LayerId, id: NodeId) {
        if let Some(counted) = self.ledger.0.lock().get_mut(&layer) {
            self.look(counted, layer, id);
        }
    }

    /// Under the lock: an older look must not come after a newer one. It fails for a file that has gone, and then
    /// whoever removed it has said so.
    fn look(&self, counted: &mut Layer, layer: LayerId, id: NodeId) {
        if counted.files.is_some()
            && let Ok(stat) = self.stat(layer, id)
        {
            counted.set(id, allocated(&stat));
        }
    }

    /// Bytes that the layers hold, as allocated on disk.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn held(&self, layers: &[LayerId]) -> Result<u64> {
        let mut ledger = self.ledger.0.lock();
        let held = |layer: &LayerId| {
            let counted = self.counted(&mut ledger, *layer)?;
            for id in counted.open.keys().copied().collect::<Vec<_>>() {
                self.look(counted, *layer, id);
            }
            Ok(counted.bytes)
        };
        layers.iter().map(held).sum()
    }

    /// The same without another look at what is open for writing: for those who say so whenever they write.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn noted(&self, layers: &[LayerId]) -> Result<u64> {
        let mut ledger = self.ledger.0.lock();
        layers.iter().map(|layer| Ok(self.counted(&mut ledger, *layer)?.bytes)).sum()
    }

    /// Bytes that one content file holds.
    ///
    /// # Errors
    /// The host's.
    pub(crate) fn held_by(&self, layer: LayerId, id: NodeId) -> Result<u64> {
        let mut ledger = self.ledger.0.lock();
        let counted = self.counted(&mut ledger, layer)?;
        if counted.open.contains_key(&id) {
            self.look(counted, layer, id);
        }
        let files = &counted.files;
        Ok(files.as_ref().and_then(|files| files.get(&id)).copied().unwrap_or(0))
    }

    fn counted<'l>(&self, ledger: &'l mut HashMap<LayerId, Layer>, layer: LayerId) -> Result<&'l mut Layer> {
        let counted = ledger.entry(layer).or_default();
        if counted.files.is_none() {
            let files = self.count(layer)?;
            counted.bytes = files.values().sum();
            counted.files = Some(files);
        }
        Ok(counted)
    }

    /// Looks at every file of a layer. One that was never written to is not there.
    fn count(&self, layer: LayerId) -> Result<HashMap<NodeId, u64>> {
        let dir = match self.layer_dir(layer) {
            Err(Error::Posix(Errno::NOENT)) => return Ok(HashMap::new()),
            dir => dir?,
        };
        let mut files = HashMap::new();
        for name in crate::disk::list(&*dir)? {
            // Others are copies in the making.
            let Some(id) = std::str::from_utf8(&name).ok().and_then(|name| name.parse().ok()) else {
                continue;
            };
            match stat_at(&*dir, &file_name(NodeId(id))) {
                Ok(stat) if stat.stx_blocks > 0 => _ = files.insert(NodeId(id), allocated(&stat)),
                Ok(_) | Err(Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(files)
    }
}
