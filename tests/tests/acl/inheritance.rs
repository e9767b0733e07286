//! What new objects get: default ACLs, umask, set-group-ID.

use crate::twins::as_on_the_plain_filesystem;

#[test]
fn new_objects_inherit_the_default_acl_and_ignore_the_umask() {
    let setup = "
        mkdir base; setfacl -d -m u::rwx,u:1001:rwx,g::r-x,o::--- base
        mkdir minimal; setfacl -d -m u::rwx,g::rwx,o::r-x minimal
        mkdir plain old; mkdir old/d; touch old/f
        setfacl -d -m u:1003:r-x,g::--x . old old/d
    ";
    as_on_the_plain_filesystem(
        setup,
        "
        mkdir made; setfacl -d -m u:1001:rwx,g:50:r-x made
        for d in base minimal plain made; do for umask in 000 022 077 027; do
            (umask $umask; cd $d; mkdir d$umask; mkdir d$umask/deeper; echo >f$umask; mkfifo p$umask; mknod n$umask c 1 3
             ln -s f$umask l$umask; mkdir -m 700 m$umask; mkdir -m 2775 s$umask; touch d$umask/deeper/leaf)
            mode $d/*$umask; getfacl -nps $d/*$umask $d/*/deeper $d/*/deeper/leaf
        done; done
        ln base/f022 plain/linked; mv base/f000 plain; mv plain/f000 minimal; getfacl -nps plain/* minimal/*
        mkdir top; touch top/f leaf old/f2 old/d/f3; echo changed >old/f; mv old/d top/moved; mkdir old/d; touch old/d/f
        setfacl -k base; (umask 077; touch base/later; mkdir base/laterdir); getfacl -nps base/later*
        ",
    );
}

#[test]
fn setgid_goes_when_somebody_outside_the_group_sets_an_acl() {
    as_on_the_plain_filesystem(
        "",
        "
        touch f; chown 1001:50 f; chmod 2775 f; mkdir d; chown 1001:50 d; chmod 2775 d
        setfacl -m u:7:r-x f d; mode f d
        with 1001 50 setfacl -m u:8:r-x f d; mode f d
        with 1001 60 setfacl -d -m u:9:r-x d; mode d
        with 1001 60 setfacl -m u:9:r-x f d; mode f d
        chmod 2775 f d; as 1001 setfacl -b f d; mode f d
        chmod 2775 f d; as 1001 chmod 2755 f d; mode f d
        chown :1001 f d; chmod 6755 f d; as 1001 setfacl -m u:9:r-x f d; mode f d
        chown 1001:50 f d; chmod 2775 f d; with 1001 60 unshare --user --map-root-user setfacl -m u:0:r-x f d; mode f d
        setpriv --bounding-set=-fsetid --inh-caps=-fsetid setfacl -m u:10:r-x f d; mode f d
        ",
    );
}

#[test]
fn setgid_directories_and_umasks_go_together() {
    as_on_the_plain_filesystem(
        "mkdir shared; chgrp 50 shared; chmod 2777 shared; mkdir acl; chgrp 50 acl; chmod 2777 acl; setfacl -d -m g:60:rwx acl",
        "
        for d in shared acl; do for umask in 000 002 022 077; do
            with 1001 60 sh -c \"umask $umask; cd $d; mkdir -p d$umask/e; touch d$umask/f g$umask; mkfifo p$umask; ln -s x l$umask\"
            with 1001 50 sh -c \"umask $umask; cd $d; mkdir -p i$umask/e; touch i$umask/f; mkdir -m 2755 j$umask\"
        done; find $d | LC_ALL=C sort | xargs stat -c '%n %A %u:%g'; done
        ",
    );
}
