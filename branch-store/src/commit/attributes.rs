//! Three-way merge of a directory's attributes, one by one (S14). Times never conflict. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::ids::ACL_ACCESS;
use crate::node::{Attributes, Xattrs};

/// What the attributes are after both sides changed them; `None` if both changed the same one, differently.
pub(super) fn merge(then: &Attributes, theirs: &Attributes, ours: &Attributes) -> Option<Attributes> {
    let (mode, acl) = pick(&permissions(then), &permissions(theirs), &permissions(ours))?;
    let mut xattrs = xattrs(&then.xattrs, &theirs.xattrs, &ours.xattrs)?;
    if let Some(acl) = acl {
        Arc::make_mut(&mut xattrs).insert(ACL_ACCESS.to_vec(), acl.clone());
    }
    let uid = pick(&then.uid, &theirs.uid, &ours.uid)?;
    let gid = pick(&then.gid, &theirs.gid, &ours.gid)?;
    let atime = latest(then.atime, theirs.atime, ours.atime);
    let mtime = latest(then.mtime, theirs.mtime, ours.mtime);
    Some(Attributes { mode, uid, gid, xattrs, atime, mtime })
}

/// Whether there is nothing to merge.
pub(super) fn agree(theirs: &Attributes, ours: &Attributes) -> bool {
    merge(ours, theirs, ours)
        .is_some_and(|merged| Attributes { atime: ours.atime, mtime: ours.mtime, ..merged } == *ours)
}

/// The time of the side that changed it, the later of two. A branch must not turn the clock back on a
/// directory in which another made names.
fn latest<T: Ord>(then: T, theirs: T, ours: T) -> T {
    if ours == then {
        theirs
    } else if theirs == then {
        ours
    } else {
        theirs.max(ours)
    }
}

/// Mode and access ACL are one attribute: either alone would contradict the other.
fn permissions(of: &Attributes) -> (u32, Option<&Vec<u8>>) {
    (of.mode, of.xattrs.get(ACL_ACCESS))
}

fn xattrs(then: &Xattrs, theirs: &Xattrs, ours: &Xattrs) -> Option<Xattrs> {
    let names: BTreeSet<_> = then.keys().chain(theirs.keys()).chain(ours.keys()).collect();
    let mut merged = Xattrs::default();
    for name in names.into_iter().filter(|name| *name != ACL_ACCESS) {
        if let Some(value) = pick(&then.get(name), &theirs.get(name), &ours.get(name))? {
            Arc::make_mut(&mut merged).insert(name.clone(), value.clone());
        }
    }
    Some(merged)
}

/// The side that changed; `None` if both did, differently.
pub(super) fn pick<T: PartialEq + Clone>(then: &T, theirs: &T, ours: &T) -> Option<T> {
    if theirs == ours || ours == then {
        return Some(theirs.clone());
    }
    (theirs == then).then(|| ours.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Time;

    fn attributes(mode: u32, xattrs: &[(&str, &str)]) -> Attributes {
        let pairs = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let (atime, mtime) = (Time::default(), None);
        Attributes { mode, uid: 0, gid: 0, xattrs: Arc::new(pairs.collect()), atime, mtime }
    }

    const ACL: &str = "system.posix_acl_access";

    #[test]
    fn each_extended_attribute_is_an_attribute_of_its_own() {
        let then = attributes(0o755, &[("user.kept", "0"), ("user.gone", "0"), ("user.new", "0")]);
        let theirs = attributes(0o755, &[("user.kept", "0"), ("user.new", "1")]);
        let ours =
            attributes(0o755, &[("user.kept", "0"), ("user.gone", "0"), ("user.new", "0"), ("user.a", "1")]);
        let merged = attributes(0o755, &[("user.kept", "0"), ("user.new", "1"), ("user.a", "1")]);
        assert_eq!(merge(&then, &theirs, &ours), Some(merged.clone()));
        assert_eq!(merge(&then, &ours, &theirs), Some(merged));
    }

    #[test]
    fn the_same_attribute_changed_differently_is_a_conflict() {
        let then = attributes(0o755, &[("user.a", "0")]);
        let theirs = attributes(0o755, &[("user.a", "1")]);
        assert_eq!(merge(&then, &theirs, &attributes(0o755, &[("user.a", "2")])), None);
        assert_eq!(merge(&then, &theirs, &attributes(0o755, &[])), None);
        assert_eq!(merge(&then, &theirs, &theirs), Some(theirs.clone()));
    }

    #[test]
    fn a_time_that_one_side_left_alone_is_the_other_sides() {
        let at = |sec| Attributes { mtime: Some(Time { sec, nsec: 0 }), ..attributes(0o755, &[]) };
        assert_eq!(merge(&at(1), &at(5), &at(1)), Some(at(5)), "ours only looked");
        assert_eq!(merge(&at(5), &at(5), &at(1)), Some(at(1)), "ours set it back");
        assert_eq!(merge(&at(1), &at(7), &at(5)), Some(at(7)));
    }

    #[test]
    fn an_access_acl_and_the_mode_it_belongs_to_are_not_torn_apart() {
        let then = attributes(0o750, &[]);
        let chmod = attributes(0o770, &[]);
        let setfacl = attributes(0o750, &[(ACL, "r-x for the group at most")]);
        assert_eq!(merge(&then, &chmod, &setfacl), None);
        assert_eq!(merge(&then, &then, &setfacl), Some(setfacl.clone()));
        assert_eq!(merge(&setfacl, &setfacl, &chmod), Some(chmod));
    }
}
