//! Journal bytes: torn, flipped, reordered. What comes back is what was written, up to where the damage is.
#![no_main]

use branch_store::{Error, fuzzing};
use branchfs_fuzz::frames::{Log, WORKSPACE, good_prefix};
use branchfs_fuzz::mutate;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};

fuzz_target!(|bytes: &[u8]| {
    let kept = fuzzing::scan(bytes, &WORKSPACE, false);
    let rebooted = fuzzing::scan(bytes, &WORKSPACE, true);
    let (frames, end) = good_prefix(bytes);
    for outcome in [&kept, &rebooted] {
        match outcome {
            Ok(scanned) => check(bytes, scanned, frames.len(), end),
            Err(Error::Corrupt { offset, .. }) => {
                assert!(*offset <= end as u64, "good records are not damage")
            }
            Err(Error::Newer { .. } | Error::Older { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    if let Ok(kept) = &kept {
        assert_eq!(Some(&kept.payloads), rebooted.ok().map(|scanned| scanned.payloads).as_ref());
    }
});

fn check(bytes: &[u8], scanned: &fuzzing::Scanned, good: usize, end: usize) {
    // A record whose checksum is right and whose words are not is a bad one, too.
    assert!(scanned.payloads.len() <= good);
    match scanned.torn {
        None => assert_eq!((scanned.payloads.len(), bytes.len()), (good, end)),
        Some(at) => {
            assert!(at <= end as u64);
            let cut = fuzzing::scan(&bytes[..at as usize], &WORKSPACE, false).expect("the good part is good");
            assert_eq!((cut.torn, &cut.payloads), (None, &scanned.payloads));
        }
    }
    // What was understood can be written, and is understood again.
    let mut log = Log::parse(bytes).expect("it has a header");
    log.frames.truncate(scanned.payloads.len());
    for (frame, payload) in log.frames.iter_mut().zip(&scanned.payloads) {
        frame.payload.clone_from(payload);
    }
    let again = fuzzing::scan(&log.encode(), &WORKSPACE, false).expect("our own records are whole");
    assert_eq!(again.payloads, scanned.payloads);
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::log(data, size, max_size, seed)
});
