//! POSIX ACLs and extended attributes: each script runs in a plain directory and in a branch, and whatever it
//! prints, and what is there afterwards, in the branch and, after the commit, in the base, has to be the same.
//! The plain directory lies on the same filesystem as the base: ext4, or another that knows ACLs.
//!
//! Users are numbers that need no account. A script's `as 1001 touch f` does that as user 1001 with the group
//! 1001 only; `with 1001 50,60 touch f` also has the groups 50 and 60.
#![allow(clippy::unwrap_used)] // also in helpers

mod attributes;
mod branches;
mod inheritance;
mod permissions;
mod twins;
