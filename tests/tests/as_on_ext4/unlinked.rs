//! Files and directories that lost their name while somebody has them open, and files that never had one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, open, openat};

use crate::both::same;
use crate::play::seen;
use crate::sys::{Map, inside, listing, mknod};

fn content(at: &Path) {
    fs::write(at.join("file"), "content").unwrap();
    fs::create_dir_all(at.join("dir/sub")).unwrap();
}

#[test]
fn an_unlinked_file_does_everything_an_open_file_does() {
    same(content, |play| {
        fs::write(play.at("new"), "content").unwrap();
        for name in ["file", "new"] {
            let mut file = OpenOptions::new().read(true).write(true).open(play.at(name)).unwrap();
            let mut reader = File::open(play.at(name)).unwrap();
            fs::remove_file(play.at(name)).unwrap();
            play.call("lookup", fs::metadata(play.at(name)));
            file.write_all(b"CON").unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b" and more").unwrap();
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            play.note("read", &text);
            play.call("chmod", file.set_permissions(Permissions::from_mode(0o4711)));
            play.call("chown", rustix::fs::fchown(&file, None, None));
            play.call("truncate", file.set_len(5000));
            play.call("xattr", rustix::fs::fsetxattr(&file, "user.x", b"y", rustix::fs::XattrFlags::empty()));
            let mut value = [0; 8];
            play.answer("xattr", rustix::fs::fgetxattr(&file, "user.x", &mut value[..]));
            let mut map = Map::shared(&file, 4096);
            map.bytes()[..3].copy_from_slice(b"map");
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes, 0).unwrap();
            play.note("mapped", bytes);
            play.call("sync", file.sync_all());
            play.call("sync data", file.sync_data());
            play.answer("fstat", file.metadata().map(|m| seen(&m)));
            play.answer("reopened", {
                use std::os::fd::AsRawFd;
                File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
                    .and_then(|f| f.metadata().map(|m| m.len()))
            });
            fs::write(play.at(name), "another").unwrap();
            play.bytes(name);
            file.read_exact_at(&mut bytes, 0).unwrap();
            play.note("still the old one", bytes);
        }
        play.tree();
    });
}

#[test]
fn a_removed_directory_is_empty_for_ever() {
    same(content, |play| {
        let dir = File::open(play.at("dir/sub")).unwrap();
        inside(&play.at("dir/sub"), || {
            play.call("rmdir of itself", fs::remove_dir("."));
            play.call("rmdir by path", fs::remove_dir(play.at("dir/sub")));
            play.call("create", File::create("x"));
            play.call("mkdir", fs::create_dir("x"));
            play.call("symlink", std::os::unix::fs::symlink("a", "x"));
            play.call("link", fs::hard_link("../../file", "x"));
            play.call("link by path", fs::hard_link(play.at("file"), "x"));
            play.call("rename", fs::rename(play.at("file"), "x"));
            play.call("mkfifo", mknod(Path::new("x"), rustix::fs::FileType::Fifo, 0o600, 0));
            play.call("list", listing(Path::new(".")));
            play.call("dot", fs::metadata("."));
            play.call("dot dot", fs::metadata(".."));
            play.call("by name below dot dot", fs::metadata("../../file"));
            play.call("getcwd", std::env::current_dir());
        });
        play.answer("fstat", dir.metadata().map(|m| seen(&m)));
        play.answer(
            "openat",
            openat(&dir, "x", OFlags::CREATE | OFlags::WRONLY, Mode::from(0o600)).map(drop),
        );
        play.call("chmod", dir.set_permissions(Permissions::from_mode(0o700)));
        play.call("sync", dir.sync_all());
        fs::create_dir(play.at("dir/sub")).unwrap();
        fs::write(play.at("dir/sub/x"), "").unwrap();
        play.answer(
            "the new one is not the old one",
            openat(&dir, "x", OFlags::RDONLY, Mode::empty()).map(drop),
        );
        play.tree();
    });
}

/// ext4 has them; what carries our requests has not. Programs know that answer and use a name instead.
#[test]
fn a_file_without_a_name_is_refused_so_that_programs_fall_back() {
    let Some(both) = crate::both::Both::over(content) else { return };
    both.compare(|play| {
        let made = open(play.at("."), OFlags::TMPFILE | OFlags::RDWR, Mode::from(0o600));
        let refused = Some(rustix::io::Errno::OPNOTSUPP);
        assert!(made.is_ok() || made.err() == refused);
        play.note("a temporary file of Rust's", tempfile::tempfile_in(play.at(".")).and_then(|mut file| {
            file.write_all(b"x")?;
            Ok((file.metadata()?.nlink(), file.metadata()?.len()))
        }).unwrap());
        let python = "import sys, tempfile; f = tempfile.TemporaryFile(dir=sys.argv[1]); f.write(b'x'); f.flush(); print(f.tell())";
        if let Ok(output) = Command::new("python3").args(["-c", python]).arg(play.at(".")).output() {
            play.note("one of Python's", (output.status.code(), String::from_utf8_lossy(&output.stdout)));
        }
        play.tree();
    });
}

#[test]
fn what_is_unlinked_while_it_is_unopened_is_gone() {
    same(content, |play| {
        let path = open(play.at("file"), OFlags::PATH, Mode::empty()).unwrap();
        fs::remove_file(play.at("file")).unwrap();
        play.answer("fstat of O_PATH", rustix::fs::fstat(&path).map(|st| (st.st_nlink, st.st_size)));
        play.call("again", fs::remove_file(play.at("file")));
        play.call("dir", fs::remove_file(play.at("dir")));
        play.call("full dir", fs::remove_dir(play.at("dir")));
        play.call("dot", rustix::fs::unlinkat(CWD, play.at("dir/sub/."), rustix::fs::AtFlags::REMOVEDIR));
        play.call(
            "dot dot",
            rustix::fs::unlinkat(CWD, play.at("dir/sub/.."), rustix::fs::AtFlags::REMOVEDIR),
        );
        play.tree();
    });
}
