//! Holes: where they are, how they are made, and that copying a file up does not fill them.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FallocateFlags as F, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::both::same;
use crate::play::Play;

const BLOCK: u64 = 4096;

/// Data at 0, 64 KiB and 1 MiB; holes between and behind.
fn with_holes(at: &Path) {
    let file = File::create(at.join("sparse")).unwrap();
    for offset in [0, 64 << 10, 1 << 20] {
        file.write_all_at(&[b'd'; 8192], offset).unwrap();
    }
    file.set_len(3 << 20).unwrap();
    fs::write(at.join("dense"), vec![b'D'; 16 * 4096]).unwrap();
    File::create(at.join("empty")).unwrap();
}

/// Where data and holes begin, block by block.
fn map_of(play: &Play, what: &str, file: &File) {
    let size = file.metadata().unwrap().len();
    let mut at = 0;
    let mut found = Vec::new();
    while at < size {
        let data = match seek(file, SeekFrom::Data(at)) {
            Err(Errno::NXIO) => break,
            data => data.unwrap(),
        };
        at = seek(file, SeekFrom::Hole(data)).unwrap();
        assert!(data < at, "data that ends where it begins");
        found.push((data, at));
    }
    play.note(format!("data in {what}"), (found, size));
}

fn blocks(play: &Play, what: &str, file: &File) {
    // Written out first: ext4 allocates late.
    file.sync_all().unwrap();
    play.note(format!("blocks of {what}"), file.metadata().unwrap().blocks());
}

#[test]
fn copying_up_keeps_the_holes() {
    same(with_holes, |play| {
        let before = File::open(play.at("sparse")).unwrap();
        map_of(play, "what was", &before);
        let file = OpenOptions::new().read(true).write(true).open(play.at("sparse")).unwrap();
        file.write_all_at(b"x", 2 << 20).unwrap();
        map_of(play, "what is", &file);
        map_of(play, "what is for the old reader", &before);
        blocks(play, "it", &file);
        play.bytes("sparse");
        play.stat("sparse");
    });
}

#[test]
fn seeking_data_and_holes_answers_alike_everywhere() {
    same(with_holes, |play| {
        for name in ["sparse", "dense", "empty"] {
            let file = OpenOptions::new().read(true).write(true).open(play.at(name)).unwrap();
            for offset in
                [0, 1, 4096, 8191, 8192, 65_535, 65_536, 1 << 20, (3 << 20) - 1, 3 << 20, 1 << 40, 1 << 62]
            {
                for (what, from) in [("data", SeekFrom::Data(offset)), ("hole", SeekFrom::Hole(offset))] {
                    play.answer(format!("{name} {what} at {offset}"), seek(&file, from));
                }
            }
            play.answer("end", seek(&file, SeekFrom::End(-1)));
            play.answer("before the start", seek(&file, SeekFrom::End(-(4 << 20))));
        }
    });
}

#[test]
fn every_mode_of_fallocate_works_or_is_refused_alike() {
    same(with_holes, |play| {
        let all = [
            ("allocate", F::empty(), 3 << 20, 64 << 10),
            ("keep size", F::KEEP_SIZE, 4 << 20, 64 << 10),
            ("punch", F::PUNCH_HOLE.union(F::KEEP_SIZE), 4096, 3000),
            ("punch without keeping the size", F::PUNCH_HOLE, 0, BLOCK),
            ("punch behind the end", F::PUNCH_HOLE.union(F::KEEP_SIZE), 9 << 20, BLOCK),
            ("zero", F::ZERO_RANGE, 100, 9000),
            ("zero behind the end", F::ZERO_RANGE, 5 << 20, 4096),
            ("zero and keep size", F::ZERO_RANGE.union(F::KEEP_SIZE), 6 << 20, 4096),
            ("unshare", F::UNSHARE_RANGE, 0, BLOCK),
            ("nothing", F::empty(), 0, 0),
            ("punch nothing", F::PUNCH_HOLE.union(F::KEEP_SIZE), 0, 0),
            ("too far", F::empty(), 1 << 60, BLOCK),
            ("over the edge", F::empty(), u64::MAX >> 1, BLOCK),
            ("negative", F::empty(), u64::MAX, BLOCK),
            ("negative length", F::empty(), 0, u64::MAX),
        ];
        for name in ["sparse", "dense", "empty"] {
            let file = OpenOptions::new().read(true).write(true).open(play.at(name)).unwrap();
            for (what, flags, offset, len) in all {
                play.call(format!("{what} in {name}"), fallocate(&file, flags, offset, len));
                play.note("size", file.metadata().unwrap().len());
            }
            map_of(play, name, &file);
            play.bytes(name);
            let reader = File::open(play.at(name)).unwrap();
            play.call("of a reader", fallocate(&reader, F::empty(), 0, BLOCK));
        }
        let dir = File::open(play.at(".")).unwrap();
        play.call("of a directory", fallocate(&dir, F::empty(), 0, BLOCK));
    });
}

#[test]
fn a_hole_frees_its_blocks_and_reads_as_zeroes() {
    same(with_holes, |play| {
        let file = OpenOptions::new().read(true).write(true).open(play.at("dense")).unwrap();
        blocks(play, "the dense file", &file);
        let hole = F::PUNCH_HOLE.union(F::KEEP_SIZE);
        play.call("punch", fallocate(&file, hole, 2 * BLOCK, 10 * BLOCK));
        blocks(play, "what is left", &file);
        map_of(play, "what is left", &file);
        let mut bytes = vec![1; 3 * 4096];
        file.read_exact_at(&mut bytes, BLOCK).unwrap();
        play.note("around the edge", (bytes[4095], bytes[4096], bytes[3 * 4096 - 1]));
        play.call("allocated", fallocate(&file, F::empty(), 0, 16 * BLOCK));
        blocks(play, "what is allocated", &file);
        play.call("truncated", file.set_len(0));
        blocks(play, "nothing", &file);
    });
}

#[test]
fn a_page_that_a_map_saw_is_zero_after_the_punch() {
    same(with_holes, |play| {
        let file = OpenOptions::new().read(true).write(true).open(play.at("dense")).unwrap();
        let mut map = crate::sys::Map::shared(&file, 4 * 4096);
        map.bytes()[4096] = b'm';
        fallocate(&file, F::PUNCH_HOLE | F::KEEP_SIZE, BLOCK, BLOCK).unwrap();
        play.note(
            "through the map",
            (map.bytes()[4095], map.bytes()[4096], map.bytes()[8191], map.bytes()[8192]),
        );
        map.bytes()[4097] = b'n';
        let mut two = [0; 2];
        file.read_exact_at(&mut two, BLOCK).unwrap();
        play.note("through read", two);
        play.bytes("dense");
    });
}

#[test]
fn collapsing_and_inserting_are_refused_by_the_kernels_fuse() {
    same(with_holes, |play| {
        for flags in [F::COLLAPSE_RANGE, F::INSERT_RANGE] {
            let file = OpenOptions::new().write(true).open(play.at("dense")).unwrap();
            play.unlike("shifting", fallocate(&file, flags, BLOCK, BLOCK), Ok(()), Err(Errno::OPNOTSUPP));
        }
    });
}
