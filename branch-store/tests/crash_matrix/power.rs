//! Crashing a scenario at every call, and its recovery at every call, with the images that each may leave.

use std::fmt;

use crate::model::{Crash, Model};
use crate::recorder::Fault;
use crate::world::{Reference, Scenario, World};

/// Images of one crash point in the short form.
const IMAGES: usize = 12;
/// Images of a crash whose recovery is interrupted, and of each of these interruptions.
const IMAGES_OF_RECOVERY: usize = 2;
/// Crash points of the scenario whose recovery is interrupted, in the short form.
const RECOVERIES: u64 = 8;

/// What was tried.
#[derive(Default)]
pub struct Cases {
    /// Crash points.
    pub points: u64,
    /// Crashes of the scenario: crash points with each of their images.
    pub crashes: u64,
    /// Of its recovery.
    pub recoveries: u64,
}

impl fmt::Display for Cases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} crash points, {} crashes, {} crashes of recovery",
            self.points, self.crashes, self.recoveries
        )
    }
}

pub struct Matrix<'a> {
    scenario: &'a Scenario,
    reference: Reference,
    long: bool,
    /// For choices.
    dice: u64,
}

impl<'a> Matrix<'a> {
    pub fn new(scenario: &'a Scenario) -> Matrix<'a> {
        let long = std::env::var_os("BRANCHFS_LONG").is_some();
        Matrix { scenario, reference: Reference::of(scenario), long, dice: 1 }
    }

    pub fn crash_at_every_call(mut self) -> Cases {
        let mut cases = Cases::default();
        for at in 0..=self.reference.calls {
            let images = self.crash(at).world.recorder.images().len();
            let few = if self.long { images } else { IMAGES };
            for image in self.chosen(images, few) {
                let crashed = self.crash(at);
                self.check(crashed.after(image));
                cases.crashes += 1;
            }
            cases.points += 1;
        }
        cases
    }

    /// From a few crash points, or all in the long form, each with two of its images: death of the recovery at every
    /// call, and at its end, with two images of its own.
    pub fn crash_recovery_at_every_call(mut self) -> Cases {
        let mut cases = Cases::default();
        let stride = if self.long { 1 } else { self.reference.calls / RECOVERIES };
        let mut at = self.roll(stride as usize) as u64;
        while at <= self.reference.calls {
            let images = self.crash(at).world.recorder.images().len();
            for first in self.chosen(images, IMAGES_OF_RECOVERY) {
                self.crash_recovery_from(at, first, &mut cases);
            }
            cases.points += 1;
            at += stride;
        }
        cases
    }

    fn crash_recovery_from(&mut self, at: u64, first: Option<usize>, cases: &mut Cases) {
        for again in 0.. {
            let crash = |matrix: &Self| Some(matrix.crash(at).after(first)?.dying_again(again));
            let Some((crashed, ended)) = crash(self) else { return };
            for second in self.chosen(crashed.world.recorder.images().len(), IMAGES_OF_RECOVERY) {
                let crashed = crash(self).map(|(crashed, _)| crashed);
                self.check(crashed.and_then(|crashed| crashed.after(second)));
                cases.recoveries += 1;
            }
            if ended {
                return;
            }
        }
    }

    /// Death of the process, and images of power failures.
    fn chosen(&mut self, images: usize, few: usize) -> Vec<Option<usize>> {
        let mut chosen: Vec<Option<usize>> = (0..images).map(Some).collect();
        if chosen.len() > few {
            // The first are the ends of the scale: all and nothing.
            for i in few / 3..few {
                let other = i + self.roll(chosen.len() - i);
                chosen.swap(i, other);
            }
            chosen.truncate(few);
        }
        chosen.push(None);
        chosen
    }

    fn roll(&mut self, below: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) as usize % below
    }

    fn crash(&self, at: u64) -> Crashed {
        let mut world = World::new(self.scenario);
        let done = match world.open(Some((at, Fault::Death))) {
            Ok(_) => world.run(&self.scenario.steps, 0).0,
            Err(_) => 0,
        };
        world.close();
        Crashed { world, done, story: vec![], crash: Crash::Process }.noting(at)
    }

    fn check(&self, crashed: Option<Crashed>) {
        let Some(mut crashed) = crashed else { return };
        let model = Model { scenario: self.scenario, reference: &self.reference };
        let story = crashed.story.join("\n  ");
        let story = || {
            let next = self.scenario.steps.get(crashed.done).map_or("the end", |step| step.what);
            format!("{}, in \"{next}\":\n  {story}", self.scenario.name)
        };
        let world = &mut crashed.world;
        world.open(None).unwrap_or_else(|e| panic!("{}\nrecovery: {e}", story()));
        let seen = world.seen();
        if let Err(why) = model.moment(&seen, crashed.done, crashed.crash) {
            panic!("{}\n{why}", story());
        }
        world.open(None).unwrap_or_else(|e| panic!("{}\nsecond recovery: {e}", story()));
        assert_eq!(world.seen(), seen, "{}\nsecond recovery", story());
        world.is_of_use();
    }
}

struct Crashed {
    world: World,
    /// Acknowledged steps.
    done: usize,
    story: Vec<String>,
    crash: Crash,
}

impl Crashed {
    fn noting(mut self, at: u64) -> Crashed {
        let call = self.world.recorder.struck().unwrap_or_else(|| "the end".to_owned());
        self.story.push(format!("dead at call {at}, {call}"));
        self
    }

    /// The store is opened, and that dies; whether it was at its end by then.
    fn dying_again(mut self, at: u64) -> (Crashed, bool) {
        let opened = self.world.open(Some((at, Fault::Death))).is_ok();
        let ended = opened && self.world.recorder.struck().is_none();
        self.world.close();
        self.story.push("opened again".to_owned());
        (self.noting(at), ended)
    }

    /// The power fails, too, and leaves this image of those that it may; nothing if no filesystem looks so.
    fn after(mut self, image: Option<usize>) -> Option<Crashed> {
        if let Some(number) = image {
            // Records are as long as the inode numbers in them: another run may differ by a call.
            let mut images = self.world.recorder.images();
            let image = images.swap_remove(number % images.len());
            let lost = self.world.recorder.power_failure(&image)?;
            self.story.push(format!("power failure: {:?} bytes, without {lost:#?}", image.bytes));
            self.crash = Crash::Power;
        }
        Some(self)
    }
}
