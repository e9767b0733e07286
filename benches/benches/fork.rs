//! Fork, commit and abort as library calls: what they cost, and that fork costs the same whatever the size of
//! the base, the changes of the parent and the depth of nesting (S1). Fork is one journal record (one
//! write(2)); with it counts making the `n` branches, without it the abort that cleans up after each round.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark stops where it fails")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use branch_store::{Access, Branch, Children, GroupKind, New, NewKind, Options, Store, Unrecovered, init};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const FILES_PER_DIR: usize = 100;

struct Workspace {
    store: Store,
    _dir: tempfile::TempDir,
}

fn workspace(files: usize) -> Workspace {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    fill(&base, files);
    init(&base, &base.join(".branchfs")).unwrap();
    let options = Options { store: base.join(".branchfs"), base };
    let (store, _) = Unrecovered::open(options).unwrap().recover().unwrap();
    Workspace { store, _dir: dir }
}

fn fill(base: &Path, files: usize) {
    for i in 0..files {
        let dir = base.join(format!("d{}", i / FILES_PER_DIR));
        if i % FILES_PER_DIR == 0 {
            std::fs::create_dir(&dir).unwrap();
        }
        std::fs::write(dir.join(format!("f{i}")), b"x").unwrap();
    }
}

fn fork(store: &Store, parent: &Branch, names: &[String]) -> Vec<Arc<Branch>> {
    store.fork(parent, names, GroupKind::Exclusive).unwrap()
}

fn names(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("bench-{i}")).collect()
}

/// Time of `rounds` forks alone.
fn time_forks(store: &Store, parent: &Branch, names: &[String], rounds: u64) -> Duration {
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let start = Instant::now();
        let made = fork(store, parent, names);
        total += start.elapsed();
        for branch in made {
            store.abort(&branch, Children::Refuse).unwrap();
        }
    }
    total
}

fn write(branch: &Arc<Branch>, name: &str) {
    let new = New { kind: NewKind::File, mode: 0o644, uid: 0, gid: 0, xattrs: Default::default() };
    let (object, _) = branch.create(&branch.root(), name.as_bytes(), new).unwrap();
    branch.open(&object, Access::Write).unwrap().write_at(b"1 KiB".repeat(205).as_slice(), 0).unwrap();
}

fn fork_by_base_size(c: &mut Criterion) {
    let mut group = c.benchmark_group("fork of main by files in the base");
    for files in [100, 10_000, 200_000] {
        let w = workspace(files);
        let names = names(1);
        group.bench_function(BenchmarkId::from_parameter(files), |b| {
            b.iter_custom(|rounds| time_forks(&w.store, &w.store.main(), &names, rounds));
        });
    }
    group.finish();
}

fn fork_by_depth(c: &mut Criterion) {
    let mut group = c.benchmark_group("fork by depth of nesting");
    let w = workspace(100);
    let mut parent = w.store.main();
    let names = names(1);
    for depth in 1..=1000 {
        parent = fork(&w.store, &parent, &[format!("depth-{depth}")]).remove(0);
        if depth % 10 == 0 {
            write(&parent, &format!("made-at-{depth}"));
        }
        if [1, 100, 1000].contains(&depth) {
            group.bench_function(BenchmarkId::from_parameter(depth), |b| {
                b.iter_custom(|rounds| time_forks(&w.store, &parent, &names, rounds));
            });
        }
    }
    group.finish();
}

fn fork_by_changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("fork by files changed in the parent");
    let w = workspace(100);
    let parent = fork(&w.store, &w.store.main(), &["parent".to_owned()]).remove(0);
    let mut made = 0;
    for changed in [0, 100, 10_000] {
        while made < changed {
            write(&parent, &format!("f{made}"));
            made += 1;
        }
        let names = names(1);
        group.bench_function(BenchmarkId::from_parameter(changed), |b| {
            b.iter_custom(|rounds| time_forks(&w.store, &parent, &names, rounds));
        });
    }
    let names = names(64);
    group.bench_function("64 branches at once", |b| {
        b.iter_custom(|rounds| time_forks(&w.store, &parent, &names, rounds));
    });
    group.finish();
}

fn endings(c: &mut Criterion) {
    let w = workspace(100);
    let parent = fork(&w.store, &w.store.main(), &["parent".to_owned()]).remove(0);
    let names = names(1);
    c.bench_function("abort of a branch with one file", |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let branch = fork(&w.store, &parent, &names).remove(0);
                write(&branch, "f");
                let start = Instant::now();
                w.store.abort(&branch, Children::Refuse).unwrap();
                total += start.elapsed();
            }
            total
        });
    });
    for (to, from) in [("a parent branch", &parent), ("the base", &w.store.main())] {
        let mut round = 0u64;
        c.bench_function(&format!("durable commit of one 1 KiB file into {to}"), |b| {
            b.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    round += 1;
                    let branch = fork(&w.store, from, &names).remove(0);
                    write(&branch, &format!("f{round}"));
                    let start = Instant::now();
                    w.store.commit(&branch).unwrap();
                    total += start.elapsed();
                }
                total
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = fork_by_base_size, fork_by_depth, fork_by_changes, endings
}
criterion_main!(benches);
