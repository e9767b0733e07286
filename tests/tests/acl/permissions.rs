//! Who may do what, and what an ACL may be.

use crate::twins::as_on_the_plain_filesystem;

#[test]
fn permissions_are_those_of_the_acl() {
    let setup = "
        echo secret >f; chmod 640 f
        mkdir d; chmod 750 d; echo inside >d/g; chmod 644 d/g
        echo based >b; chmod 600 b; setfacl -m u:1001:r--,g:50:-w- b
    ";
    let printed = as_on_the_plain_filesystem(
        setup,
        "
        try as 1001 cat b; try as 1002 cat b; try with 1002 50 sh -c 'echo more >>b'; try with 1002 50 cat b
        try as 1001 cat f; setfacl -m u:1001:r-- f; try as 1001 cat f; try as 1002 cat f
        try as 1001 sh -c 'echo x >>f'; setfacl -m u:1001:rw- f; try as 1001 sh -c 'echo x >>f'
        chmod g-w f; try as 1001 sh -c 'echo y >>f'; chmod g+w f; try as 1001 sh -c 'echo y >>f'
        setfacl -m g:50:--- f; try with 1002 50 cat f; setfacl -m g:60:r-- f; try with 1002 50,60 cat f
        setfacl -x u:1001 f; try as 1001 cat f; setfacl -b f; try with 1002 60 cat f; mode f b
        try as 1001 cat d/g; setfacl -m u:1001:--x d; try as 1001 cat d/g; try as 1001 ls d
        try as 1001 touch d/new; setfacl -m u:1001:rwx d; try as 1001 touch d/new; try as 1001 rm d/g
        try as 1001 setfacl -m u:1001:rwx f; try as 1001 chmod 777 d; getfacl -nps f d b
        ",
    );
    assert!(printed.is_empty() || printed.contains("yes") && printed.contains("no: as 1001 cat f"));
}

#[test]
fn a_chmod_rewrites_the_mask_and_an_acl_rewrites_the_mode() {
    as_on_the_plain_filesystem(
        "touch b; setfacl -m u:1001:rwx,g:50:rw- b; mkdir d; setfacl -m u:1001:r-x d; touch minimal",
        "
        touch f; setfacl -m u:1001:rw- f
        for o in f b d; do for m in 600 666 751 4711 2070 0; do chmod $m $o; mode $o; getfacl -nps $o; done; done
        setfacl -m m::r-- f; mode f; setfacl -m g::rwx f; mode f; setfacl -n -m u:1002:rwx f; mode f
        setfacl --set u::r--,g::-w-,o::--x minimal; mode minimal; getfattr -dm- minimal
        setfacl --set u::rw-,g::r--,m::rwx,o::--- minimal; mode minimal; getfattr -dm- -e hex minimal
        setfacl -b minimal; mode minimal; getfattr -dm- minimal
        setfattr -x system.posix_acl_access b; mode b; getfattr -dm- b
        setfattr -x system.posix_acl_access b; echo $?
        setfattr -x system.posix_acl_default d; echo $?
        ",
    );
}

#[test]
fn the_kernel_forgets_mode_and_acl_at_once() {
    as_on_the_plain_filesystem(
        "touch b; chmod 600 b; mkdir d; chmod 700 d; touch d/f",
        "
        for n in 1 2 3 4 5 6 7 8 9 10; do for o in b d; do
            setfacl -m u:1001:r-x $o; mode $o; as 1001 test -r $o; echo $?
            chmod 700 $o; as 1001 test -r $o; echo $?; mode $o
            setfacl -m m::rwx $o; as 1001 test -r $o; echo $?; mode $o
            setfacl -b $o; as 1001 test -r $o; echo $?; mode $o
        done; done
        as 1001 cat b; setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff04000400ffffffff20000400ffffffff b
        mode b; as 1001 cat b; echo $?
        ",
    );
}

#[test]
fn what_is_no_acl_is_refused_as_on_the_plain_filesystem() {
    let minimal = "0x0200000001000600ffffffff04000400ffffffff20000400ffffffff";
    let set = |name: &str, value: &str, on: &str| {
        format!(
            "setfattr -h -n system.posix_acl_{name} -v {value} {on}; echo $?; mode {on}; getfattr -hdm- -e hex {on}\n"
        )
    };
    let mut steps = "touch f; mkdir d; ln -s f l; mkfifo p; mknod n c 1 3\n".to_owned();
    for on in ["f", "d", "l", "p", "n"] {
        steps += &set("access", minimal, on);
        steps += &set("default", minimal, on);
        steps += &set("default", "0x02000000", on);
        steps += &set("access", "0x02000000", on);
    }
    for value in [
        "0x",
        "0x020000",
        "0x01000000",
        "0x0200000001000600ffffffff",
        "0x0200000001000600ffffffff04000400ffffff",
        // out of order; doubled; named without a mask; a permission too many; nobody named
        "0x0200000004000400ffffffff01000600ffffffff20000400ffffffff",
        "0x0200000001000600ffffffff01000600ffffffff04000400ffffffff20000400ffffffff",
        "0x0200000001000600ffffffff02000600e903000004000400ffffffff20000400ffffffff",
        "0x0200000001000e00ffffffff04000400ffffffff20000400ffffffff",
        "0x0200000001000600ffffffff02000600ffffffff04000400ffffffff10000600ffffffff20000400ffffffff",
        // one user named twice
        "0x0200000001000600ffffffff02000600e903000002000400e903000004000400ffffffff10000600ffffffff20000400ffffffff",
    ] {
        steps += &set("access", value, "f");
        steps += &set("default", value, "d");
    }
    as_on_the_plain_filesystem("", &steps);
}
