//! Values of the two ACL attributes, against what the host's own filesystem makes of the same bytes: the answer,
//! the mode, and the value read back.
#![no_main]

use std::cell::RefCell;
use std::path::PathBuf;

use branch_store::AttrChange;
use branchfs::vfs::{Control, XattrFlags};
use branchfs_fuzz::view::{CALLER, View};
use libfuzzer_sys::fuzz_target;
use rustix::fs::XattrFlags as HostFlags;
use rustix::io::Errno;

const VALUE_MAX: usize = 1024;

/// Nobody asks for orders here.
struct Nobody;

impl Control for Nobody {
    fn commit(&self, _: &str) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn abort(&self, _: &str) -> Result<(), Errno> {
        Err(Errno::NOSYS)
    }

    fn fork(&self, _: &str) -> Result<String, Errno> {
        Err(Errno::NOSYS)
    }
}

/// One object twice: in the branch and on the host.
struct Twin {
    ino: u64,
    host: PathBuf,
    is_file: bool,
}

struct Site {
    view: View,
    file: Twin,
    dir: Twin,
}

thread_local! {
    static SITE: RefCell<Option<Site>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    SITE.with_borrow_mut(|site| {
        let site = site.get_or_insert_with(site_of);
        let Some((which, value)) = bytes.split_first() else { return };
        let value = &value[..value.len().min(VALUE_MAX)];
        if value.is_empty() {
            // To the kernel that is a removal; it never comes here.
            return;
        }
        let name = ["system.posix_acl_access", "system.posix_acl_default"][usize::from(which & 1)];
        let twin = if which & 2 == 0 { &site.dir } else { &site.file };
        same(&site.view, twin, name, value);
    });
});

fn site_of() -> Site {
    let view = View::new(Box::new(Nobody));
    let twin = |name: &str| {
        let ino = view.entry(name.as_bytes());
        // A change makes it the branch's own: from here on nobody else touches the host's.
        let change = AttrChange { mode: Some(0o644), ..AttrChange::default() };
        view.vfs.set_attributes(ino, &change).expect("the mode is set");
        let host = view.base().join(name);
        std::fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .expect("and here");
        Twin { ino, host, is_file: name == "file" }
    };
    let (file, dir) = (twin("file"), twin("dir"));
    Site { view, file, dir }
}

fn same(view: &View, twin: &Twin, name: &str, value: &[u8]) {
    let theirs = rustix::fs::setxattr(&twin.host, name, value, HostFlags::empty());
    if theirs == Err(Errno::NOTSUP) && value.first() == Some(&2) {
        // A filesystem without ACLs: nothing to compare with.
        return;
    }
    let ours = view.vfs.set_xattr(twin.ino, CALLER, name.as_bytes(), value, XattrFlags::Any);
    if name.ends_with("default") && twin.is_file {
        // Always refused; for which of two reasons first is the kernel's to say, before it asks us.
        assert_eq!(ours.is_ok(), theirs.is_ok(), "{name} {value:?}");
    } else {
        assert_eq!(ours, theirs, "{name} {value:?}");
    }
    let mode = view.vfs.attributes(twin.ino).expect("attributes").stat.mode;
    let host = std::fs::metadata(&twin.host).expect("attributes");
    assert_eq!(mode, std::os::unix::fs::MetadataExt::mode(&host) & 0o7777, "{name} {value:?}");
    let mut buffer = vec![0; VALUE_MAX];
    let kept = rustix::fs::getxattr(&twin.host, name, &mut buffer).map(|len| buffer[..len].to_vec());
    assert_eq!(view.vfs.xattr(twin.ino, name.as_bytes()), kept, "{name} {value:?}");
}
