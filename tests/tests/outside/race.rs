use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use branch_proto::GroupKind;

use crate::views::{wait_until_shown, watched};

const FILES: usize = 200;
const ROUNDS: usize = 12;

/// One edit of each file, of a kind that goes with its number.
fn edit(base: &Path, round: usize) {
    for n in 0..FILES {
        let path = base.join(format!("d/{n}"));
        let text = format!("{round} {}", "x".repeat(round));
        match n % 5 {
            0 => fs::write(&path, text).unwrap(),
            1 => {
                fs::write(base.join("new"), text).unwrap();
                fs::rename(base.join("new"), &path).unwrap();
            }
            2 => {
                let mode = fs::Permissions::from_mode(0o600 + round as u32);
                fs::set_permissions(&path, mode).unwrap();
            }
            3 if round.is_multiple_of(2) => fs::remove_file(&path).unwrap(),
            3 => drop(File::create(&path).unwrap()),
            _ => File::options().write(true).open(&path).unwrap().set_len(round as u64).unwrap(),
        }
    }
}

/// Each file is looked up for the first time in a view while it is edited for the only time. An answer from before
/// the edit that is believed after it would stay for minutes.
#[test]
fn what_is_looked_up_while_it_is_edited_is_not_stale_afterwards() {
    for how in ["fanotify", "inotify"] {
        let Some(workspace) = watched(how, |base| {
            fs::create_dir(base.join("d")).unwrap();
            (0..FILES).for_each(|n| fs::write(base.join(format!("d/{n}")), "first").unwrap());
        }) else {
            return;
        };
        let mut branches = Vec::new();
        for round in 0..ROUNDS {
            let name = format!("r{round}");
            workspace.fork(&[&name], "main", GroupKind::Independent);
            let (base, view) = (workspace.base(), workspace.view(&name));
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for n in 0..FILES {
                            let path = view.join(format!("d/{n}"));
                            drop(fs::symlink_metadata(&path));
                            drop(fs::read(&path));
                        }
                    });
                }
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert!(fs::read_dir(view.join("d")).unwrap().count() > 0);
                    }
                });
                scope.spawn(|| edit(&base, round));
            });
            branches.push(name);
        }
        let names: Vec<&str> = branches.iter().map(String::as_str).collect();
        let removed: Vec<PathBuf> = (0..FILES).map(|n| format!("d/{n}").into()).collect();
        wait_until_shown(&workspace, &names, &removed, how);
    }
}
