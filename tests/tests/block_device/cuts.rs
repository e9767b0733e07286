//! Where the power fails: after every flush, and at random moments between flushes with a random part of what was
//! not flushed.

use branchfs_tests::Rng;

use crate::image::{Image, PAGE};
use crate::log::{Logged, Request};

/// A disk as a power failure leaves it.
pub(crate) struct Cut {
    pub(crate) image: Image,
    /// No request at or after this place in the log had been made: what was promised by then must be there.
    pub(crate) position: u64,
    /// When, and what had been lost.
    pub(crate) what: String,
}

/// How many parts in ten of what was not flushed are on the disk, when nobody knows.
const KEPT: [u64; 4] = [10, 9, 5, 1];

/// Calls `each` with every cut in order: the flushes, and `between` random ones before each.
pub(crate) fn each_cut(begin: Image, log: &[Logged], between: u64, rng: &mut Rng, mut each: impl FnMut(Cut)) {
    let (mut durable, mut number) = (begin, 0);
    for (first, last) in intervals(log) {
        let pending = &log[first..last];
        let next =
            |at: usize| log[at..].iter().find(|entry| !is_flush(entry)).map_or(u64::MAX, |e| e.position);
        for _ in 0..between {
            let upto = 1 + rng.below(pending.len() as u64) as usize;
            let kept = *rng.pick(&KEPT);
            let mut image = durable.clone();
            pending[..upto]
                .iter()
                .for_each(|entry| apply(&mut image, &entry.request, || rng.below(10) < kept));
            let what = format!("{upto} requests after flush {number}, {kept} of 10 pages kept");
            // Not beyond the flush: it would have kept everything.
            each(Cut { image, position: log[first + upto].position, what });
        }
        pending.iter().for_each(|entry| apply(&mut durable, &entry.request, || true));
        number += 1;
        each(Cut { image: durable.clone(), position: next(last), what: format!("flush {number}") });
    }
}

/// The requests from one flush to the next, where there are any: a flush of nothing leaves the disk as it was.
fn intervals(log: &[Logged]) -> Vec<(usize, usize)> {
    let flushes = (0..log.len()).filter(|n| is_flush(&log[*n]));
    let mut first = 0;
    let spans = flushes.map(|flush| (std::mem::replace(&mut first, flush + 1), flush));
    spans.filter(|(first, last)| first < last).collect()
}

fn is_flush(entry: &Logged) -> bool {
    matches!(entry.request, Request::Flush)
}

/// Page by page, as a disk does: a later request never comes out before an earlier one to the same page, so leaving
/// some out is all the reordering there is.
fn apply(image: &mut Image, request: &Request, mut is_kept: impl FnMut() -> bool) {
    match request {
        Request::Write { offset, bytes } => {
            for (page, within, piece) in crate::image::pieces(*offset, bytes.len()) {
                if is_kept() {
                    image.write(page * PAGE as u64 + within as u64, &bytes[piece]);
                }
            }
        }
        Request::Zero { offset, len } => {
            if is_kept() {
                image.zero(*offset, *len);
            }
        }
        Request::Flush => {}
    }
}
