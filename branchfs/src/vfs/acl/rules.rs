//! How an ACL and a mode follow each other (acl(5): "Correspondence between ACL entries and file permission
//! bits", "Object creation and default ACLs"). The group's part of a mode is the mask, where there is one.

use super::{Acl, Entry, Who};

const ALL: u32 = 0o7;
const PERMISSIONS: u32 = 0o777;

impl Acl {
    /// The nine permission bits of a mode that belong to it.
    pub(in crate::vfs) fn permissions(&self) -> u32 {
        let of = |who| self.find(who).map_or(0, |entry| entry.permissions);
        of(Who::UserObj) << 6 | of(self.group_class()) << 3 | of(Who::Other)
    }

    /// Whether it says more than a mode can; if not, there is nothing to keep.
    pub(in crate::vfs) fn is_extended(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry.who, Who::User(_) | Who::Group(_) | Who::Mask))
    }

    /// chmod(2): what the mode says is what is permitted.
    pub(in crate::vfs) fn with_mode(self, mode: u32) -> Acl {
        self.each_class(mode, |_, wanted| wanted)
    }

    /// Creation below this default ACL: access ACL and mode of the new object. The mode asked for can only take
    /// away; the umask has no say.
    pub(in crate::vfs) fn inherited(self, mode: u32) -> (Acl, u32) {
        let access = self.each_class(mode, |permitted, wanted| permitted & wanted);
        let mode = mode & !PERMISSIONS | access.permissions();
        (access, mode)
    }

    fn each_class(mut self, mode: u32, combine: impl Fn(u32, u32) -> u32) -> Acl {
        let classes = [(Who::UserObj, mode >> 6), (self.group_class(), mode >> 3), (Who::Other, mode)];
        for (who, wanted) in classes {
            for entry in self.entries.iter_mut().filter(|entry| entry.who == who) {
                entry.permissions = combine(entry.permissions, wanted & ALL);
            }
        }
        self
    }

    /// The entry that the group's part of a mode stands for.
    fn group_class(&self) -> Who {
        self.find(Who::Mask).map_or(Who::GroupObj, |mask| mask.who)
    }

    fn find(&self, who: Who) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.who == who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"u::rwx u:5:r-- g::--- m::r-x o::--x"`, in the short notation of getfacl(1).
    fn acl(text: &str) -> Acl {
        let entries = text.split(' ').map(|entry| {
            let (who, permissions) = entry.rsplit_once(':').unwrap();
            let who = match who.split_once(':').unwrap() {
                ("u", "") => Who::UserObj,
                ("u", id) => Who::User(id.parse().unwrap()),
                ("g", "") => Who::GroupObj,
                ("g", id) => Who::Group(id.parse().unwrap()),
                ("m", _) => Who::Mask,
                _ => Who::Other,
            };
            let bits = permissions.bytes().map(|bit| u32::from(bit != b'-'));
            Entry { who, permissions: bits.fold(0, |all, bit| all << 1 | bit) }
        });
        let acl = Acl { entries: entries.collect() };
        assert!(acl.is_valid(), "{text}");
        acl
    }

    #[test]
    fn three_entries_are_a_mode() {
        let minimal = acl("u::rw- g::r-- o::r--");
        assert_eq!((minimal.permissions(), minimal.is_extended()), (0o644, false));
    }

    #[test]
    fn the_mask_is_the_groups_part_of_the_mode() {
        let extended = acl("u::rwx u:5:rw- g::--- m::rw- o::--x");
        assert_eq!((extended.permissions(), extended.is_extended()), (0o761, true));
        let masked = acl("u::rwx g::rwx m::r-- o::---");
        assert_eq!((masked.permissions(), masked.is_extended()), (0o740, true), "nobody named, and yet more");
    }

    #[test]
    fn chmod_sets_the_mask_and_leaves_the_named_alone() {
        let before = acl("u::rwx u:5:rwx g::r-x g:9:rwx m::rwx o::---");
        assert_eq!(before.with_mode(0o2641), acl("u::rw- u:5:rwx g::r-x g:9:rwx m::r-- o::--x"));
        assert_eq!(acl("u::rwx g::r-x o::---").with_mode(0o666), acl("u::rw- g::rw- o::rw-"));
    }

    #[test]
    fn a_mode_asked_for_at_creation_only_takes_away() {
        let default = acl("u::rwx u:5:rwx g::r-x m::rwx o::---");
        let (access, mode) = default.clone().inherited(0o666);
        assert_eq!((access, mode), (acl("u::rw- u:5:rwx g::r-x m::rw- o::---"), 0o660));
        let (access, mode) = default.inherited(0o2777);
        assert_eq!((access, mode), (acl("u::rwx u:5:rwx g::r-x m::rwx o::---"), 0o2770));
        let (access, mode) = acl("u::rwx g::r-x o::--x").inherited(0o666);
        assert_eq!((access.is_extended(), mode), (false, 0o640));
    }

    #[test]
    fn whatever_the_mode_acl_and_mode_agree() {
        for text in ["u::rwx g::r-x o::--x", "u::r-- u:5:rwx g::rwx m::-w- o::rwx"] {
            for mode in 0..=0o7777 {
                let (access, made) = acl(text).inherited(mode);
                assert_eq!(made & 0o777, access.permissions());
                assert_eq!((made & 0o7000, made & !mode), (mode & 0o7000, 0));
                assert_eq!(acl(text).with_mode(mode).permissions(), mode & 0o777);
            }
        }
    }
}
