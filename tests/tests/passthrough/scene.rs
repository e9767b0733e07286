//! A workspace whose readers pass through, files open in its views, and what can be read of them with the daemon stopped.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use branchfs_tests::{Stopped, Workspace, cannot};

/// Bound for what does not wait for the daemon.
const PATIENCE: Duration = Duration::from_secs(30);

/// Long enough to pass.
pub(crate) const LEN: usize = 100_000;

/// The content of a file of this letter.
pub(crate) fn full_of(letter: u8) -> Vec<u8> {
    vec![letter; LEN]
}

/// A workspace that is mounted with passthrough. `None`, with a printed reason, where the kernel lets nobody pass.
pub(crate) fn passing(fill: impl FnOnce(&Path)) -> Option<Workspace> {
    let workspace = Workspace::over(|base| {
        fs::write(base.join("probe"), full_of(b'x')).unwrap();
        fill(base);
    })?;
    workspace.ok(&["mount", "--data", "passthrough"]);
    drop(File::open(workspace.view("main").join("probe")).unwrap());
    let status = workspace.ok(&["status"]);
    if status.contains("(readers pass through)") {
        return Some(workspace);
    }
    cannot(&format!("have readers pass through: {status}"));
    None
}

/// A file that is open for reading, with a map of it.
pub(crate) struct Reader {
    pub(crate) file: File,
}

impl Reader {
    pub(crate) fn of(view: &Path) -> Reader {
        Reader { file: File::open(view).unwrap_or_else(|error| panic!("{}: {error}", view.display())) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        bytes(&self.file).unwrap()
    }

    pub(crate) fn size(&self) -> u64 {
        self.file.metadata().unwrap().size()
    }
}

fn bytes(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 2 * LEN];
    let mut done = 0;
    loop {
        match file.read_at(&mut bytes[done..], done as u64)? {
            0 => break,
            more => done += more,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// What these files have, read while the daemon is stopped. What the kernel has of them in the view's memory goes first.
pub(crate) fn read_alone(workspace: &Workspace, readers: &[&Reader]) -> Vec<Vec<u8>> {
    let files: Vec<File> = readers.iter().map(|reader| reader.file.try_clone().unwrap()).collect();
    for file in &files {
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let stopped = Stopped::new(workspace.daemon());
    let (done, all) = channel();
    thread::spawn(move || done.send(files.iter().map(|file| bytes(file).unwrap()).collect()));
    let read = all.recv_timeout(PATIENCE);
    drop(stopped);
    read.expect("read without the daemon")
}
