//! Extended attributes, capabilities, and tools that carry them.

use std::process::Command;

use branchfs_tests::skip;

use crate::twins::{Twins, as_on_the_plain_filesystem};

#[test]
fn archives_and_copies_carry_acls_and_attributes_both_ways() {
    let tools = ["tar", "rsync"];
    if let Some(tool) = tools.iter().find(|tool| Command::new(tool).arg("--version").output().is_err()) {
        return skip(&format!("no {tool}"));
    }
    let setup = "
        mkdir -p t/d; echo 1 >t/f; echo 2 >t/d/g; mkfifo t/p; ln -s f t/l; ln t/f t/hard
        setfacl -m u:1001:rw- t/f; setfacl -d -m u:1001:rwx,g:50:--- t/d; setfacl -m g:50:r-x t/d; setfacl -m u:7:r t/p
        setfattr -n user.odd -v 0x00ff0a t/f; setfattr -n user.empty t/d; setfattr -n trusted.t -v t t/d/g
        setfattr -h -n trusted.l -v l t/l; chmod 2750 t/d; chown -h 1001:50 t/d t/d/g t/l; setcap cap_net_raw+ep t/d/g
    ";
    as_on_the_plain_filesystem(
        setup,
        "
        cp -a t copy
        tar --acls --xattrs --xattrs-include='*' -cf archive.tar t && mkdir tar && tar --acls --xattrs --xattrs-include='*' -xf archive.tar -C tar
        rm archive.tar
        rsync -aHAX t/ synced/
        rsync -aHAX --checksum --itemize-changes --dry-run t/ synced/
        mkdir inherits; setfacl -d -m u:1002:rwx inherits
        cp -a t inherits/; cp -r t inherits/again; rsync -aHAX t inherits/synced; install -m 640 t/f inherits/installed
        rm -r t/d; mv copy/d t/; cp --preserve=mode t/f t/g; getfacl -nps t/g
        ",
    );
}

#[test]
fn extended_attributes_have_the_limits_and_namespaces_of_the_plain_filesystem() {
    as_on_the_plain_filesystem(
        "touch b; setfattr -n user.base -v 1 b; setfattr -n trusted.base -v 1 b",
        "
        touch f; mkdir d; ln -s f l; mkfifo p; mknod n c 1 3
        for o in f d l p n; do for name in user.a trusted.a security.a system.a btrfs.a a user. user system.posix_acl user.; do
            setfattr -h -n $name -v 1 $o; echo $?; getfattr -h -n $name $o; echo $?; setfattr -h -x $name $o; echo $?
        done; done
        for o in f b; do
            as 1001 setfattr -n user.x -v 1 $o; chmod 666 $o; as 1001 setfattr -n user.x -v 1 $o; as 1001 getfattr -n user.x $o
            as 1001 setfattr -n trusted.x -v 1 $o; as 1001 getfattr -n trusted.base $o; as 1001 setfattr -n security.x -v 1 $o
            as 1001 getfattr -dm- $o; getfattr -dm- $o; chmod 600 $o; as 1001 getfattr -n user.x $o; as 1001 getfattr -dm- $o
        done
        chmod 644 b; setfattr -n user.seen -v 1 b; unshare --user --map-root-user getfattr -dm- b
        mkdir t; chmod 1777 t; as 1001 setfattr -n user.x -v 1 t; chown 1001 t; as 1001 setfattr -n user.x -v 1 t; echo $?
        setfattr -n user.empty f; getfattr -n user.empty f; setfattr -n user.$(printf '\\377\\n x') -v odd f; getfattr -dm- -e hex f
        long=$(printf %0250d 0); setfattr -n user.$long -v 1 f; echo $?; setfattr -n user.${long}123456 -v 1 f; echo $?
        setfattr -n user.large -v $(printf %03000d 0) f; getfattr -n user.large f | md5sum
        for n in 1 2 3 4 5 6 7 8; do setfattr -n user.much$n -v $(printf %0900d 0) d; echo $?; done
        setfattr -n user.toolarge -v $(printf %020000d 0) f; echo $?; getfattr -n user.toolarge f; echo $?
        exec 3<>f; rm f; setfattr -n user.late -v 1 /proc/self/fd/3; getfattr --only-values -n user.late /proc/self/fd/3
        setfacl -m u:1001:r /proc/self/fd/3; chmod 640 /proc/self/fd/3; getfacl -np /proc/self/fd/3; exec 3>&-; touch f
        setfattr -x user.nothing f; echo $?; getfattr -n user.nothing f; echo $?
        setfattr -x user.base b; setfattr -x trusted.base b; getfattr -dm- b
        ",
    );
}

#[test]
fn capabilities_and_set_id_bits_go_with_a_write_as_on_the_plain_filesystem() {
    let write = "printf x | dd of=$o conv=notrunc status=none";
    let ways = [
        (write, "written"),
        ("truncate -s 1 $o", "cut"),
        (": >$o", "emptied"),
        ("chown 1002:60 $o", "given away"),
        ("fallocate -l 10 $o", "allocated"),
        ("chmod 6775 $o", "set again"),
        ("setfacl -m u:5:r $o", "given an ACL"),
        ("touch $o", "touched"),
        ("ln $o $o.link", "linked"),
    ];
    let setup = "for o in base1 base2 base3 base4 base5 base6 base7 base8 base9; do echo content >$o; chmod 777 $o; setcap cap_net_raw+ep $o; done";
    let mut steps = "for o in new1 new2 new3 new4 new5 new6 new7 new8 new9; do echo content >$o; chmod 777 $o; setcap cap_net_raw+ep $o; done; getcap *\n".to_owned();
    for (n, (way, what)) in ways.iter().enumerate() {
        for o in [format!("base{}", n + 1), format!("new{}", n + 1)] {
            steps += &format!("o={o}; export o; echo {o} {what}; {way}; echo $?; mode $o; getcap $o\n");
            for mode in ["6777", "6775", "4767"] {
                steps += &format!(
                    "chmod {mode} $o; setcap cap_net_raw+ep $o; with 1001 60,1002 sh -c '{way}'; echo $?; mode $o; getcap $o\n"
                );
            }
        }
    }
    as_on_the_plain_filesystem(setup, &steps);
}

/// A difference, and the kernel's: should it go, docs/SEMANTICS.md has a sentence too many.
#[test]
fn set_group_id_without_group_execute_stays_at_an_outsiders_write() {
    let Some(twins) = Twins::new("echo x >f; chmod 2767 f") else { return };
    let write = "with 1001 60 sh -c 'printf x | dd of=f conv=notrunc status=none'; mode f";
    assert_eq!(twins.run(&twins.plain(), write), "f -rwxrw-rwx 0:0\nSome(0)");
    assert_eq!(twins.run(&twins.view(), write), "f -rwxrwSrwx 0:0\nSome(0)");
}
