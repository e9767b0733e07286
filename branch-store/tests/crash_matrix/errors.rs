//! The disk fails a call instead of ending: the caller hears of it, nothing acknowledged is lost, and what failed
//! works when it is tried again, at once or after the store was opened anew.

use branch_store::{Error, GroupKind};
use rustix::io::Errno;

use crate::model::{Crash, Model};
use crate::recorder::Fault;
use crate::world::{Reference, Scenario, Seen, World};

const FAULTS: [Fault; 4] =
    [Fault::Error(Errno::NOSPC), Fault::Error(Errno::DQUOT), Fault::Error(Errno::IO), Fault::NoSync];

/// Each of the faults at every call; returns how many struck.
pub fn fail_at_every_call(scenario: &Scenario) -> u64 {
    let reference = Reference::of(scenario);
    let model = Model { scenario, reference: &reference };
    let mut struck = 0;
    for at in 0..reference.calls {
        for fault in FAULTS {
            struck += u64::from(fail(&model, at, fault));
        }
    }
    struck
}

/// Goes through the whole scenario with one fault in it.
fn fail(model: &Model<'_>, at: u64, fault: Fault) -> bool {
    let steps = &model.scenario.steps;
    let mut world = World::new(model.scenario);
    let mut done = 0;
    if let Err(e) = world.open(Some((at, fault))) {
        let story = story(model, &world, 0, fault);
        assert_eq!(e.errno(), errno(fault), "{story}: {e}");
        open_again(&mut world, &story);
    }
    let mut struck = world.recorder.struck();
    while done < steps.len() {
        let (reached, error) = world.run(steps, done);
        done = reached;
        let Some(error) = error else { break };
        struck = struck.or(world.recorder.struck());
        let story = story(model, &world, done, fault);
        assert_eq!(error.errno(), errno(fault), "{story}: {error}");
        if fault == Fault::NoSync && steps[done].poisons {
            let refused = world.fork("main", &["more"], GroupKind::Independent);
            assert!(matches!(refused, Err(Error::Poisoned)), "{story}: {refused:?}");
        }
        if fault != Fault::NoSync && (steps[done].act)(&world).is_ok() {
            done += 1;
            continue;
        }
        open_again(&mut world, &story);
        let seen = world.seen();
        done = model.moment(&seen, done, Crash::Process).unwrap_or_else(|why| panic!("{story}\n{why}"));
    }
    let struck = struck.or(world.recorder.struck());
    let story = story(model, &world, done, fault);
    open_again(&mut world, &story);
    let strikes = struck.is_some();
    let (mut seen, mut wanted) = (world.seen(), model.reference.worlds[steps.len()].clone());
    if struck.is_some_and(|call| call.starts_with("unlink")) {
        // The link that a committed file has in the store stays until the next reclaim, as the commit warns.
        forget_links(&mut seen);
        forget_links(&mut wanted);
    }
    assert_eq!(seen, wanted, "{story}");
    world.is_of_use();
    strikes
}

fn forget_links(seen: &mut Seen) {
    for what in seen.values_mut().flat_map(|tree| tree.values_mut()) {
        if let [kind, mode, _, body] = what.splitn(4, ' ').collect::<Vec<_>>()[..] {
            *what = [kind, mode, body].join(" ");
        }
    }
}

fn open_again(world: &mut World, story: &str) {
    world.open(None).unwrap_or_else(|e| panic!("{story}: cannot be opened again: {e}"));
}

fn errno(fault: Fault) -> Errno {
    match fault {
        Fault::Error(errno) => errno,
        Fault::NoSync | Fault::Death => Errno::IO,
    }
}

fn story(model: &Model<'_>, world: &World, done: usize, fault: Fault) -> String {
    let step = model.scenario.steps.get(done).map_or("the end", |step| step.what);
    let call = world.recorder.struck().unwrap_or_default();
    format!("{}, {fault:?} of {call}, in \"{step}\"", model.scenario.name)
}
