//! One large file, read and written in blocks.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::arms::{Changes, Purpose};
use crate::error::{Result, While};
use crate::trees::Tree;
use crate::works::{Begins, Ground, Run, Work, reads, row};

const SMALL: usize = 4 << 10;
const LARGE: usize = 128 << 10;

pub(super) const READ: Work = Work {
    name: "read blocks",
    purpose: reads(Tree::Blocks),
    begins: Begins::Cold,
    needs: &[],
    rows: &[
        row("read 128K first", "a block of 128 KiB in order, the first time"),
        row("read 128K", "a block of 128 KiB in order, from memory").wanted(0.9, 0.95),
        row("read 4K", "a block of 4 KiB in order, from memory").wanted(0.9, 0.95),
        row("read 128K random", "a block of 128 KiB somewhere, from memory").wanted(0.9, 0.95),
        row("read 4K random", "a block of 4 KiB somewhere, from memory").wanted(0.9, 0.95),
        row("mmap read", "4 KiB of a map, in order, from memory; mapped anew for each pass")
            .wanted(0.9, 0.95),
    ],
    at_once: 1,
    run: Run::InView(|ground| {
        let path = Path::new("file");
        let bytes = ground.scale().bytes;
        ground.ready()?;
        let file = File::open(path).on("opening", path)?;
        let mut buffer = vec![0; LARGE];
        let mut pass = |size: usize, order: Order| {
            offsets(bytes, size, order)
                .try_for_each(|at| file.read_exact_at(&mut buffer[..size], at).on("reading", path))
        };
        ground.once("read 128K first", bytes / LARGE, || pass(LARGE, Order::Forward))?;
        ground.again("read 128K", bytes / LARGE, || pass(LARGE, Order::Forward))?;
        ground.again("read 4K", bytes / SMALL, || pass(SMALL, Order::Forward))?;
        ground.again("read 128K random", bytes / LARGE, || pass(LARGE, Order::Anywhere))?;
        ground.again("read 4K random", bytes / SMALL, || pass(SMALL, Order::Anywhere))?;
        ground.again("mmap read", bytes / SMALL, || read_mapped(&file, bytes))
    }),
};

pub(super) const WRITE: Work = Work {
    name: "write blocks",
    purpose: Purpose { tree: Tree::Empty, changes: Changes::Bulk },
    begins: Begins::AsItIs,
    needs: &[],
    rows: &[
        row("write 128K first", "a block of 128 KiB appended to a new file"),
        row("write 128K", "a block of 128 KiB written over, in order").wanted(0.9, 0.95),
        row("write 4K", "a block of 4 KiB written over, in order"),
        row("write 128K random", "a block of 128 KiB written over, somewhere").wanted(0.9, 0.95),
        row("write 4K random", "a block of 4 KiB written over, somewhere"),
        row("fsync", "4 KiB appended and fsync(2)"),
    ],
    at_once: 1,
    run: Run::InView(write),
};

fn write(ground: &mut Ground) -> Result<()> {
    let path = Path::new("written");
    let bytes = ground.scale().bytes;
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).on("making", path)?;
    let buffer = vec![b'w'; LARGE];
    let pass = |size: usize, order: Order| {
        offsets(bytes, size, order)
            .try_for_each(|at| file.write_all_at(&buffer[..size], at).on("writing", path))
    };
    ground.ready()?;
    ground.once("write 128K first", bytes / LARGE, || pass(LARGE, Order::Forward))?;
    ground.once("write 128K", bytes / LARGE, || pass(LARGE, Order::Forward))?;
    ground.once("write 4K", bytes / SMALL, || pass(SMALL, Order::Forward))?;
    ground.once("write 128K random", bytes / LARGE, || pass(LARGE, Order::Anywhere))?;
    ground.once("write 4K random", bytes / SMALL, || pass(SMALL, Order::Anywhere))?;
    file.sync_all().on("syncing", path)?;
    let syncs = ground.scale().syncs;
    ground.once("fsync", syncs, || {
        (0..syncs).try_for_each(|n| {
            file.write_all_at(&buffer[..SMALL], (bytes + n * SMALL) as u64).on("writing", path)?;
            file.sync_all().on("syncing", path)
        })
    })
}

#[derive(Debug, Clone, Copy)]
enum Order {
    Forward,
    /// Each block once, in an order that is the same in every run.
    Anywhere,
}

/// Where the blocks of a file begin.
fn offsets(bytes: usize, size: usize, order: Order) -> impl Iterator<Item = u64> {
    let blocks = bytes / size;
    // The number of blocks is a power of two, so every odd step meets each of them.
    let step = match order {
        Order::Forward => 1,
        Order::Anywhere => 40_503,
    };
    (0..blocks).map(move |n| (n * step % blocks * size) as u64)
}

/// Reads one byte of every page.
fn read_mapped(file: &File, bytes: usize) -> Result<()> {
    let path = Path::new("file");
    // SAFETY: a new map at an address of the kernel's choice; unmapped below, and nothing keeps a pointer into it.
    let map = unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0) }
        .on("mapping", path)?;
    let mut sum = 0_u64;
    for at in (0..bytes).step_by(SMALL) {
        // SAFETY: `at` lies within the map, and the file is not shortened while the work runs.
        sum += u64::from(unsafe { ptr::read_volatile(map.cast::<u8>().add(at)) });
    }
    std::hint::black_box(sum);
    // SAFETY: the map made above, whole.
    unsafe { munmap(map, bytes) }.on("unmapping", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_orders_meet_every_block_once() {
        for order in [Order::Forward, Order::Anywhere] {
            let mut met: Vec<u64> = offsets(64 * 4096, 4096, order).collect();
            met.sort_unstable();
            assert_eq!(met, (0..64).map(|n| n * 4096).collect::<Vec<u64>>());
        }
    }
}
