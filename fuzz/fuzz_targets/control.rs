//! The control file's text and the ioctls: two words and three numbers, and nothing else does anything.
#![no_main]

use std::cell::RefCell;
use std::sync::{Arc, Mutex};

use branchfs::vfs::{By, CONTROL_NAME, Control, FORK_REPLY_LEN, Order};
use branchfs_fuzz::view::{CALLER, View};
use libfuzzer_sys::fuzz_target;
use rustix::io::Errno;

const FORKED: &str = "forked";

/// Says what it was asked to do.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<&'static str>>>);

impl Asked {
    fn note(&self, what: &'static str) {
        self.0.lock().expect("one thread").push(what);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().expect("one thread"))
    }
}

impl Control for Asked {
    fn commit(&self, _: &str) -> Result<(), Errno> {
        self.note("commit");
        Ok(())
    }

    fn abort(&self, _: &str) -> Result<(), Errno> {
        self.note("abort");
        Ok(())
    }

    fn fork(&self, _: &str) -> Result<String, Errno> {
        self.note("fork");
        Ok(FORKED.to_owned())
    }
}

/// The view, the control file, opened for writing, and what came of it.
struct Site {
    view: View,
    ino: u64,
    handle: u64,
    asked: Asked,
}

thread_local! {
    static SITE: RefCell<Option<Site>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    SITE.with_borrow_mut(|site| {
        let site = site.get_or_insert_with(site_of);
        match bytes.split_first() {
            Some((0, text)) => write(site, text),
            Some((_, rest)) => ioctl(site, rest),
            None => {}
        }
    });
});

fn site_of() -> Site {
    let asked = Asked::default();
    let view = View::new(Box::new(asked.clone()));
    let ino = view.entry(CONTROL_NAME);
    let handle = view.vfs.open(ino, libc::O_WRONLY).expect("it opens").fh;
    Site { view, ino, handle, asked }
}

fn write(Site { view, handle, asked, .. }: &Site, text: &[u8]) {
    let word = text.trim_ascii();
    let meant = ["commit", "abort"].into_iter().find(|verb| verb.as_bytes() == word);
    match view.vfs.order_by_write(By::Handle(*handle), text) {
        Ok(order) => assert_eq!(carried_out(view, asked, &order).0, Vec::from_iter(meant)),
        Err(errno) => assert_eq!((errno, meant), (Errno::INVAL, None)),
    }
}

fn ioctl(Site { view, ino, handle, asked }: &Site, bytes: &[u8]) {
    let Some(number) = bytes.first_chunk().map(|number| u32::from_le_bytes(*number)) else { return };
    let meant = match number {
        0x8080_6200 => Some("fork"),
        0x6201 => Some("commit"),
        0x6202 => Some("abort"),
        _ => None,
    };
    match view.vfs.order_by_ioctl(*ino, By::Handle(*handle), CALLER, number) {
        Ok(order) => {
            let (did, reply) = carried_out(view, asked, &order);
            assert_eq!(did, Vec::from_iter(meant));
            assert_eq!(reply.len(), if meant == Some("fork") { FORK_REPLY_LEN } else { 0 });
        }
        Err(errno) => assert_eq!((errno, meant), (Errno::NOTTY, None)),
    }
}

fn carried_out(view: &View, asked: &Asked, order: &Order) -> (Vec<&'static str>, Vec<u8>) {
    let reply = view.vfs.carry_out(order).expect("the branch is live");
    (asked.take(), reply)
}
