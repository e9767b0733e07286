//! What was decided, kept beside the preimages for as long as they are: who undoes the commit starts from it.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::branch::Shared;
use crate::disk::open_dir;
use crate::error::{Error, Result};
use crate::ids::CommitId;
use crate::journal::record::{Decide, Record};
use crate::journal::{Header, Unsynced, scan, write_records};
use crate::plan;

/// Its name in the preimage directory, beside numbers.
const NAME: &str = "decision";

/// Writes it; the caller makes it durable before the commit is called done.
pub(super) fn write(shared: &Shared, park: &OwnedFd, decided: &Arc<Decide>) -> Result<File> {
    let failed = |op: &'static str| move |e| Error::host(op, NAME, e);
    let flags = OFlags::RDWR | OFlags::TRUNC;
    let file = shared.disk.create(park, NAME.as_bytes(), flags, 0o600).map_err(failed("create"))?;
    let header = Header { workspace: shared.workspace, first: 1 };
    write_records(&file, NAME, header, &[Record::Decide(decided.clone())])?;
    Ok(file)
}

/// Reads it; `None` once the preimages are gone.
///
/// # Errors
/// `Corrupt`, and the host's.
pub(super) fn read(shared: &Shared, commit: CommitId) -> Result<Option<Arc<Decide>>> {
    let name = format!("preimage/{}/{NAME}", commit.0);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = open_dir(&shared.park_fd, commit.0.to_string().as_bytes())
        .and_then(|dir| rustix::fs::openat(&dir, NAME, flags, Mode::empty()));
    let mut file = match opened {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(Error::host("open", &name, e)),
    };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)
        .map_err(|e| Error::host("read", &name, Errno::from_io_error(&e).unwrap_or(Errno::IO)))?;
    let mut decided = None;
    scan(&bytes, &name, &shared.workspace, Unsynced::Kept, |_, record| {
        if let Record::Decide(record) = record {
            decided = Some(record);
        }
        Ok(())
    })?;
    let corrupt = |cause: &str| Error::Corrupt { file: name.clone(), offset: 0, cause: cause.to_owned() };
    let decided = decided.filter(|decided| decided.commit == commit);
    let decided = decided.ok_or_else(|| corrupt("is not the decision of its commit"))?;
    plan::check(&decided.plan).map_err(corrupt)?;
    Ok(Some(decided))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;
    use crate::journal::record::Origin;
    use crate::node::{Home, HostKey, Time};
    use crate::plan::{Park, Plan, Step};
    use crate::store::{Options, Unrecovered, init};

    /// Somebody who can write to the store must not lead undoing out of the base (S25).
    #[test]
    fn a_kept_decision_that_leaves_the_base_or_is_of_another_commit_is_damage() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = Options { base: dir.path().to_owned(), store: dir.path().join(".branchfs") };
        init(&options.base, &options.store).expect("a store");
        let (store, _) = Unrecovered::open(options).and_then(Unrecovered::recover).expect("it opens");
        let park = dir.path().join(".branchfs/preimage/1");
        std::fs::create_dir(&park).expect("a preimage directory");
        let park = OwnedFd::from(File::open(park).expect("it is there"));
        let object = HostKey { dev: 1, ino: 1 };
        let stat = crate::base::stat_fd(&park).expect("a stat");
        let print = Home::of(&stat).print(&stat).expect("a directory");
        let decided = |commit, path: &[u8], before: &[u8]| {
            let park = Park { commit: CommitId(commit), number: 1 };
            let steps = vec![Step::Attach { park, path: path.to_vec(), object, dir: None }];
            Arc::new(Decide {
                commit: CommitId(commit),
                origin: Origin::Undo(CommitId(9)),
                name: "a".to_owned(),
                time: Time::default(),
                stale: Vec::new(),
                park: (NodeId(NodeId::FIRST_ALLOCATED), print),
                displaced: Vec::new(),
                changed: 0,
                bytes: 0,
                note: crate::note::Note::default(),
                plan: Plan { steps, before: vec![(before.to_vec(), object)], ..Plan::default() },
                part: None,
            })
        };
        let read_back = |decided: &Arc<Decide>| {
            write(&store.shared, &park, decided).expect("written");
            read(&store.shared, CommitId(1))
        };
        let good = decided(1, b"a/b", b"");
        assert_eq!(read_back(&good).expect("good"), Some(good));
        for bad in [
            decided(2, b"a", b"a"),
            decided(1, b"../a", b"a"),
            decided(1, b"a", b"a/../../b"),
            decided(1, b".branchfs/lock", b"a"),
        ] {
            assert!(matches!(read_back(&bad), Err(Error::Corrupt { .. })), "{:?}", bad.plan);
        }
        assert_eq!(read(&store.shared, CommitId(2)).expect("no error"), None);
    }
}
