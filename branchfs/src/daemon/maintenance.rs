//! The thread that does what nobody waits for: deletes the remains of ended branches and bounds the journal.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use branch_store::Store;
use parking_lot::Mutex;

use super::state::Daemon;

/// Writes lengthen the journal without a commit, so its length is also looked at this often.
const JOURNAL_LOOK: Duration = Duration::from_secs(5);

/// What is kept gets too old without anybody doing anything.
const AGE_LOOK: Duration = Duration::from_secs(3600);

/// The mailbox. One slot is enough: "there is something to do" twice is the same as once.
pub(super) struct Maintenance {
    sender: Mutex<Option<SyncSender<()>>>,
}

/// The thread's end of the mailbox.
pub(super) struct Mailbox(Receiver<()>);

impl Maintenance {
    pub(super) fn new() -> (Maintenance, Mailbox) {
        let (sender, receiver) = sync_channel(1);
        (Maintenance { sender: Mutex::new(Some(sender)) }, Mailbox(receiver))
    }

    /// Something ended or was forked: look for work soon.
    pub(super) fn wake(&self) {
        if let Some(sender) = &*self.sender.lock() {
            match sender.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => {}
                Err(TrySendError::Disconnected(())) => tracing::error!("the maintenance thread has ended"),
            }
        }
    }

    /// Ends [`run`] after what it is doing.
    pub(super) fn stop(&self) {
        *self.sender.lock() = None;
    }
}

/// The thread itself. An earlier daemon may have left something to delete.
pub(super) fn run(daemon: &Daemon, mailbox: &Mailbox) {
    let store = &daemon.store;
    reclaim(store);
    let mut reclaimed = Instant::now();
    loop {
        match mailbox.0.recv_timeout(JOURNAL_LOOK) {
            Err(RecvTimeoutError::Timeout) if reclaimed.elapsed() < AGE_LOOK => settle(store),
            Ok(()) | Err(RecvTimeoutError::Timeout) => {
                reclaim(store);
                reclaimed = Instant::now();
            }
            Err(RecvTimeoutError::Disconnected) => return settle(store),
        }
        checkpoint_if_long(store);
        daemon.let_idle_go();
    }
}

fn reclaim(store: &Store) {
    if let Err(error) = store.reclaim() {
        tracing::warn!(%error, "cannot delete the remains of ended branches; the next try is after the next commit");
    }
}

/// What a power failure could take is never older than a look.
fn settle(store: &Store) {
    if let Err(error) = store.settle() {
        tracing::error!(%error, "cannot make the newest changes durable");
    }
}

fn checkpoint_if_long(store: &Store) {
    if store.journal_is_long()
        && let Err(error) = store.checkpoint()
    {
        tracing::error!(%error, "checkpoint");
    }
}
