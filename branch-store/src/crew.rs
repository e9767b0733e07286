//! Many independent items, worked on by several threads at once.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Up to so many items the caller works alone and in order: that is quick, and tests that count calls rest on it.
pub(crate) const ALONE_MAX: usize = 1000;
/// More threads would wait for the locks of the same few directories.
const HANDS_MAX: usize = 4;
/// Items taken at once.
const BLOCK: usize = 64;

const _: () = assert!(BLOCK <= ALONE_MAX, "there is a block for everybody");

/// Whether several threads pay for so many items.
pub(crate) fn is_many(items: usize) -> bool {
    items > ALONE_MAX
}

/// Works on every item, unless there is an error: then no new ones are begun. `start` begins a block of them, whose
/// results come back in order, also those of a block that was left unfinished.
///
/// The result is that of the first block with an error.
pub(crate) fn each<T: Sync, B: Send, E: Send>(
    items: &[T],
    start: impl Fn() -> B + Sync,
    work: impl Fn(&mut B, &T) -> Result<(), E> + Sync,
) -> (Vec<B>, Result<(), E>) {
    let hands = if is_many(items.len()) {
        thread::available_parallelism().map_or(1, NonZeroUsize::get).min(HANDS_MAX)
    } else {
        1
    };
    each_by(hands, items, start, work)
}

/// Does one thing while the caller does another, or after it where that is little.
///
/// # Errors
/// Those of the caller's first.
pub(crate) fn meanwhile<A: Send, M, E: Send>(
    items: usize,
    aside: impl Fn() -> Result<A, E> + Sync,
    main: impl FnOnce() -> Result<M, E>,
) -> Result<(M, A), E> {
    if !is_many(items) {
        return Ok((main()?, aside()?));
    }
    thread::scope(|scope| {
        let helper = thread::Builder::new().spawn_scoped(scope, &aside);
        let done = main();
        // Whatever the caller met: nobody works on when this returns.
        let helped = helper.map(|helper| helper.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
        Ok((done?, helped.unwrap_or_else(|_| aside())?))
    })
}

fn each_by<T: Sync, B: Send, E: Send>(
    hands: usize,
    items: &[T],
    start: impl Fn() -> B + Sync,
    work: impl Fn(&mut B, &T) -> Result<(), E> + Sync,
) -> (Vec<B>, Result<(), E>) {
    let size = if hands == 1 { items.len().max(1) } else { BLOCK };
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let run = || {
        let mut finished = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(block) = items.chunks(size).nth(number) else { break };
            let mut results = start();
            let mut going = block.iter().take_while(|_| !stop.load(Ordering::Relaxed));
            let worked = going.try_for_each(|item| work(&mut results, item));
            if worked.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            finished.push((number, results, worked));
        }
        finished
    };
    let mut finished = thread::scope(|scope| {
        // Without them it takes longer, that is all.
        let helper = |_| thread::Builder::new().spawn_scoped(scope, run).ok();
        let helpers: Vec<_> = (1..hands).filter_map(helper).collect();
        let mut finished = run();
        for helper in helpers {
            finished.extend(helper.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        finished
    });
    finished.sort_by_key(|(number, ..)| *number);
    let mut worked = Ok(());
    let mut all = Vec::with_capacity(finished.len());
    for (_, results, result) in finished {
        all.push(results);
        worked = worked.and(result);
    }
    (all, worked)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::thread::ThreadId;

    use super::*;

    fn items() -> Vec<u64> {
        (0..(ALONE_MAX as u64) * 5).collect()
    }

    #[test]
    fn every_item_is_worked_on_once_and_results_come_in_order() {
        let items = items();
        for hands in 1..=HANDS_MAX {
            let push = |all: &mut Vec<u64>, item: &u64| {
                all.push(*item);
                Ok::<(), ()>(())
            };
            let (blocks, worked) = each_by(hands, &items, Vec::new, push);
            assert_eq!((blocks.concat(), worked), (items.clone(), Ok(())), "{hands}");
        }
        let (blocks, worked) = each(&[], || (), |(), _: &u64| Err(()));
        assert_eq!((blocks.len(), worked), (0, Ok(())));
    }

    #[test]
    fn after_an_error_nothing_new_is_begun_and_what_was_done_is_not_forgotten() {
        let items = items();
        for hands in 1..=HANDS_MAX {
            let done = AtomicU64::new(0);
            let work = |mine: &mut u64, item: &u64| {
                if *item == 1000 {
                    return Err(*item);
                }
                // Others go on until they see it.
                *mine += 1;
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            };
            let (blocks, worked) = each_by(hands, &items, || 0, work);
            assert_eq!(worked, Err(1000), "{hands}");
            assert_eq!(blocks.iter().sum::<u64>(), done.load(Ordering::Relaxed), "{hands}");
            if hands == 1 {
                assert_eq!(blocks, [1000]);
            }
        }
    }

    #[test]
    fn what_is_done_meanwhile_is_done_once_and_the_callers_error_comes_first() {
        for items in [ALONE_MAX, ALONE_MAX + 1] {
            let done = AtomicU64::new(0);
            let aside = |answer: Result<u64, &'static str>| {
                let done = &done;
                move || {
                    done.fetch_add(1, Ordering::Relaxed);
                    answer
                }
            };
            assert_eq!(meanwhile(items, aside(Ok(1)), || Ok(2)), Ok((2, 1)));
            assert_eq!(done.load(Ordering::Relaxed), 1);
            assert_eq!(meanwhile(items, aside(Err("aside")), || Ok(2)), Err("aside"));
            assert_eq!(meanwhile(items, aside(Err("aside")), || Err::<u64, _>("main")), Err("main"));
        }
    }

    #[test]
    fn few_items_are_worked_on_by_the_caller_alone() {
        let items = &items()[..ALONE_MAX];
        let whose = |all: &mut Vec<ThreadId>, _: &u64| {
            all.push(thread::current().id());
            Ok::<(), ()>(())
        };
        let (blocks, _) = each(items, Vec::new, whose);
        assert_eq!(blocks, [vec![thread::current().id(); ALONE_MAX]]);
    }
}
