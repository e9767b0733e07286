//! A whole workspace made of bytes, opened and used: a typed error or a working store, and nothing outside the
//! base is touched.
#![no_main]

use branchfs_fuzz::workspace::Workspace;
use branchfs_fuzz::{archive, exercise, mutate};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| {
    let workspace = Workspace::unpack(&archive::decode(bytes));
    exercise::open_and_use(&workspace.options());
    workspace.check_moat();
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::archive(data, size, max_size, seed)
});
