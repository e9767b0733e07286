//! What carries calls out on the product.

use crate::answer::Answer;
use crate::call::Call;
use crate::picture::{Picture, Seen};

/// Where a driver goes in: what stands above it and does its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The store's own API.
    Store,
    /// The vfs: set-group-ID directories hand their group down.
    Vfs,
    /// System calls: the kernel has its own checks, too.
    Mounted,
}

/// Carries calls out on the product and looks at what became of it.
pub trait Driver {
    /// Where it goes in.
    fn level(&self) -> Level;

    /// Carries a call out.
    fn call(&mut self, call: &Call) -> Answer;

    /// Everything in a branch.
    fn look(&mut self, branch: u32) -> Result<Picture, Answer>;

    /// What a slot holds open.
    fn look_at_slot(&mut self, slot: u8) -> Result<Seen, Answer>;
}
