//! Memory maps: what is stored is read and what is written is seen, in every process, before and after copy-up.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout};

use crate::both::same;
use crate::sys::{self, Map};

const PAGE: usize = 4096;

fn content(at: &Path) {
    fs::write(at.join("file"), vec![b'.'; 3 * PAGE]).unwrap();
    fs::write(at.join("short"), "short").unwrap();
}

/// Another process, which evaluates one line of Python at a time with the file mapped as `m` and open as `f`.
struct Peer {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    fn start(path: &Path, flags: &str, access: &str) -> Peer {
        let script = format!(
            "import mmap, os, sys\nf = os.open(sys.argv[1], {flags})\nm = mmap.mmap(f, 0, access=mmap.{access})\nfor line in sys.stdin: print(repr(eval(line)), flush=True)"
        );
        let mut child = sys::python(&script, path);
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Peer { child, to, from }
    }

    /// What the expression is; nothing if the process died of it.
    fn eval(&mut self, expression: &str) -> String {
        writeln!(self.to, "{expression}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    fn end(mut self) -> Option<i32> {
        drop(self.to);
        self.child.wait().unwrap().signal()
    }
}

#[test]
fn a_map_of_an_untouched_file_shows_what_another_process_writes() {
    same(content, |play| {
        let mut reader = Peer::start(&play.at("file"), "os.O_RDONLY", "ACCESS_READ");
        play.note("before", reader.eval("m[0:4], m[4096:4100]"));
        let file = OpenOptions::new().read(true).write(true).open(play.at("file")).unwrap();
        play.note("opened for writing", reader.eval("m[0:4]"));
        file.write_all_at(b"copied up", 0).unwrap();
        play.note("written", reader.eval("m[0:9]"));
        file.write_all_at(b"second page", PAGE as u64).unwrap();
        play.note("second page", reader.eval("m[4096:4107]"));
        play.note("a page not looked at before", reader.eval("m[8192:8196]"));
        let mut map = Map::shared(&file, 3 * PAGE);
        map.bytes()[2 * PAGE..2 * PAGE + 6].copy_from_slice(b"stored");
        play.note("stored through a map", reader.eval("m[8192:8198]"));
        play.note("read", reader.eval("os.pread(f, 6, 8192)"));
        play.note("end", reader.end());
        play.bytes("file");
    });
}

#[test]
fn two_processes_that_map_a_file_share_it() {
    same(content, |play| {
        let mut one = Peer::start(&play.at("file"), "os.O_RDWR", "ACCESS_WRITE");
        let mut two = Peer::start(&play.at("file"), "os.O_RDWR", "ACCESS_WRITE");
        one.eval("m.__setitem__(slice(0, 3), b'one')");
        play.note("two sees", two.eval("m[0:3]"));
        two.eval("m.__setitem__(slice(4096, 4099), b'two')");
        play.note("one sees", one.eval("m[4096:4099]"));
        play.note("read", one.eval("os.pread(f, 3, 4096)"));
        two.eval("os.pwrite(f, b'WRITTEN', 1)");
        play.note("one sees the write", one.eval("m[0:9]"));
        play.note("flushed", one.eval("m.flush()"));
        play.note("ends", (one.end(), two.end()));
        play.bytes("file");
    });
}

#[test]
fn a_private_map_keeps_its_stores_to_itself() {
    same(content, |play| {
        let file = File::open(play.at("file")).unwrap();
        let mut private = Map::private(&file, 3 * PAGE);
        private.bytes()[..7].copy_from_slice(b"private");
        let writer = OpenOptions::new().write(true).open(play.at("file")).unwrap();
        writer.write_all_at(b"PUBLIC!", 0).unwrap();
        writer.write_all_at(b"PUBLIC!", PAGE as u64).unwrap();
        play.note("its page", String::from_utf8_lossy(&private.bytes()[..7]));
        play.note("another", String::from_utf8_lossy(&private.bytes()[PAGE..PAGE + 7]));
        play.bytes("file");
    });
}

#[test]
fn behind_the_end_of_a_truncated_file_a_map_faults() {
    same(content, |play| {
        for name in ["file", "short"] {
            let mut peer = Peer::start(&play.at(name), "os.O_RDWR", "ACCESS_WRITE");
            let file = OpenOptions::new().read(true).write(true).open(play.at(name)).unwrap();
            file.set_len(3).unwrap();
            play.note("the rest of the page is zero", peer.eval("m[0:5]"));
            file.set_len(2 * PAGE as u64).unwrap();
            play.note("and stays", peer.eval("m[0:5]"));
            if name == "file" {
                play.note("grown again", peer.eval("m[4096:4100]"));
                file.set_len(PAGE as u64).unwrap();
                play.note("behind the end", peer.eval("m[4096:4100]"));
                play.note("killed by", peer.end());
            }
        }
    });
}

#[test]
fn a_read_only_map_follows_through_rename_and_unlink() {
    same(content, |play| {
        let file = File::open(play.at("file")).unwrap();
        let map = Map::read_only(&file, 3 * PAGE);
        play.note("before", map.byte(0));
        fs::rename(play.at("file"), play.at("moved")).unwrap();
        OpenOptions::new().write(true).open(play.at("moved")).unwrap().write_all_at(b"w", 0).unwrap();
        play.note("written under its new name", map.byte(0));
        let writer = OpenOptions::new().write(true).open(play.at("moved")).unwrap();
        fs::remove_file(play.at("moved")).unwrap();
        writer.write_all_at(b"u", PAGE as u64).unwrap();
        play.note("written without a name", map.byte(PAGE));
        fs::write(play.at("moved"), "another").unwrap();
        play.note("another file", (map.byte(0), map.byte(PAGE), map.byte(2 * PAGE)));
    });
}

#[test]
fn what_was_stored_and_synced_is_there_after_the_daemons_death() {
    let Some(workspace) = branchfs_tests::Workspace::over(content) else { return };
    let view = workspace.branch("b");
    let file = OpenOptions::new().read(true).write(true).open(view.join("file")).unwrap();
    let mut map = Map::shared(&file, 3 * PAGE);
    map.bytes()[PAGE..PAGE + 6].copy_from_slice(b"stored");
    map.sync().unwrap();
    drop((map, file));
    workspace.kill_daemon();
    assert_eq!(workspace.names(), ["main", "b"]);
    assert_eq!(&fs::read(view.join("file")).unwrap()[PAGE..PAGE + 6], b"stored");
}
