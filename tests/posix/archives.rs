//! tar, cpio and zip: what they pack in a branch is the archive they pack beside it, byte for byte, and what
//! they unpack there is what they unpack beside it.

use std::fs;

use branchfs_tests::{Times, Tree, tree};

use crate::ground::{Ground, Place, differences};
use crate::hostile::hostile_tree;

/// How to pack `.` into `../packed`, and to unpack that. cpio and unzip leave the clock's time on symbolic links.
struct Archiver {
    programs: [&'static str; 2],
    /// The archive that must be equal byte for byte.
    equal: &'static str,
    pack: &'static str,
    unpack: &'static str,
}

// The archive with everything names its process, and has extended attributes in the order of listxattr(2), which
// is each filesystem's own. So one without both is compared.
const TAR: Archiver = Archiver {
    programs: ["tar", "tar"],
    equal: "bare",
    pack: "pack() { tar --create --sparse --numeric-owner --sort=name --warning=no-file-ignored \"$@\" .; }
           pack --format=gnu --file=../bare; pack --format=posix --acls --xattrs --xattrs-include='*' --file=../packed",
    unpack: "tar --extract --warning=no-timestamp --preserve-permissions --same-owner --acls --xattrs \
             --xattrs-include='*' --numeric-owner --file=../packed",
};
const CPIO: Archiver = Archiver {
    programs: ["cpio", "cpio"],
    equal: "packed",
    pack: "find . -mindepth 1 -depth -print0 | LC_ALL=C sort -zr | cpio --quiet -0o -H newc --reproducible >../packed",
    unpack: "cpio --quiet -idm --no-absolute-filenames <../packed && find . -type l -exec touch -h -d @1 {} +",
};
const ZIP: Archiver = Archiver {
    programs: ["zip", "unzip"],
    equal: "packed",
    pack: "rm -f ../packed; find . -type d -o -type f -o -type l | LC_ALL=C sort | zip -q -y -X ../packed.zip -@ 2>/dev/null; \
           mv ../packed.zip ../packed",
    unpack: "unzip -q -o ../packed && find . -type l -exec touch -h -d @1 {} +",
};

#[test]
fn tar_packs_and_unpacks_in_a_branch_as_on_the_plain_filesystem() {
    let Some(ground) = round_trip(&TAR) else { return };
    let [packed, unpacked] = ["tree", "out"].map(|name| tree(&ground.plain().dir.join(name), Times::Compare));
    let lost: Vec<_> =
        differences(&unpacked, &packed).iter().map(|(path, ..)| path.display().to_string()).collect();
    assert_eq!(lost, ["special/socket"], "tar keeps everything else this tree has");
}

#[test]
fn cpio_packs_and_unpacks_in_a_branch_as_on_the_plain_filesystem() {
    round_trip(&CPIO);
}

#[test]
fn zip_packs_and_unzip_unpacks_in_a_branch_as_on_the_plain_filesystem() {
    round_trip(&ZIP);
}

/// Packs the tree of the base everywhere, unpacks that, and packs it again.
fn round_trip(archiver: &Archiver) -> Option<Ground> {
    let ground = Ground::new(&archiver.programs, |base| {
        fs::create_dir(base.join("tree")).unwrap();
        hostile_tree(&base.join("tree"));
    })?;
    let expected = pack_and_unpack(archiver, ground.plain());
    let [program, unpacker] = archiver.programs;
    for place in ground.branches() {
        let here = pack_and_unpack(archiver, place);
        assert_eq!(here.said, expected.said, "what {program} says on {}", place.name);
        let differ = differences(&here.unpacked, &expected.unpacked);
        assert!(differ.is_empty(), "{unpacker} on {} (left): {differ:#?}", place.name);
        for (what, here, there) in [
            ("the base's tree", &here.packed, &expected.packed),
            ("the unpacked tree", &here.again, &expected.again),
        ] {
            assert!(
                here == there,
                "the archive of {what} on {}: {} and {} bytes",
                place.name,
                here.len(),
                there.len()
            );
        }
        let (entries, bytes) = (here.unpacked.len(), here.packed.len());
        println!(
            "posix: {program}: {}: {entries} entries unpacked, archives of {bytes} bytes equal",
            place.name
        );
    }
    Some(ground)
}

/// What an archiver makes of the tree in one place.
struct RoundTrip {
    said: Vec<String>,
    packed: Vec<u8>,
    unpacked: Tree,
    again: Vec<u8>,
}

fn pack_and_unpack(archiver: &Archiver, place: &Place) -> RoundTrip {
    let inside = |name: &str| Place::new(&place.name, place.dir.join(name));
    let archive = place.dir.join(archiver.equal);
    fs::create_dir(place.dir.join("out")).unwrap();
    let mut said = vec![says(&inside("tree"), archiver.pack)];
    let packed = fs::read(&archive).unwrap();
    said.push(says(&inside("out"), archiver.unpack));
    let unpacked = tree(&inside("out").dir, Times::Compare);
    said.push(says(&inside("out"), archiver.pack));
    RoundTrip { said, packed, unpacked, again: fs::read(&archive).unwrap() }
}

/// Exit code and everything printed.
fn says(place: &Place, script: &str) -> String {
    let output = place.shell(script).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}
