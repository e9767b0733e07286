//! A branch's patch, applied by git to a copy of what the branch was forked from, gives what the branch is: content,
//! executable bits and links.
#![allow(clippy::unwrap_used, reason = "tests")]

mod ground;
mod kinds;
mod random;
