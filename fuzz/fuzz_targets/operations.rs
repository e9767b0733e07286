//! File operations, forks, commits, aborts, crashes: on the store and on the reference model, side by side.
#![no_main]

use branchfs_model::{Bytes, StoreDriver, Thoroughness, World, generate};
use libfuzzer_sys::fuzz_target;

/// Bases the model knows how to furnish.
const VARIANTS: u64 = 8;
const CALLS_MAX: usize = 100;
/// Everything is compared after so many steps that call for less.
const ALL_AFTER: u64 = 25;

fuzz_target!(|bytes: &[u8]| {
    let Some((variant, bytes)) = bytes.split_first() else { return };
    let thoroughness = Thoroughness::Every(ALL_AFTER);
    let mut world =
        World::new(&|base| Box::new(StoreDriver::new(base)), u64::from(*variant) % VARIANTS, thoroughness);
    let mut source = Bytes::new(bytes);
    let mut calls = Vec::new();
    while !source.is_empty() && calls.len() < CALLS_MAX {
        let call = generate(&mut source, world.model());
        calls.push(call.clone());
        if let Err(difference) = world.step(&call) {
            panic!("{}\nafter {calls:#?}", difference.0);
        }
    }
    if let Err(difference) = world.compare_all() {
        panic!("{}\nafter {calls:#?}", difference.0);
    }
});
