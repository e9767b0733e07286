//! Whether somebody changed something in the base since a commit.
//!
//! A change stamps the change time, which nobody can set, and `Record::Closed` says from which stamp on changes are
//! not the commit's own. Later commits, all taken back by now, have stamped what they touched, too: they noted
//! the change time it had before.

use crate::base::Found;
use crate::base::history::History;
use crate::ids::CommitId;
use crate::journal::record::LogLine;
use crate::node::{Time, time_of};

pub(super) struct Closed {
    of: CommitId,
    /// When the commit was over, and when the newest was. `None` where the record was lost: nobody can tell then.
    then: Option<Time>,
    newest: Option<Time>,
}

impl Closed {
    pub(super) fn new(log: &[LogLine], of: CommitId) -> Closed {
        let then = log.iter().find(|line| line.commit == of).and_then(|line| line.closed);
        Closed { of, then, newest: log.last().and_then(|line| line.closed) }
    }

    /// Whether the object is as the commit left it.
    pub(super) fn holds(&self, found: &Found, history: &History) -> bool {
        let before = |time: Time, limit: Option<Time>| limit.is_some_and(|limit| time < limit);
        let now = time_of(&found.statx.stx_ctime);
        match history.object(&found.print, self.of) {
            Some(was) => before(was.meta.ctime, self.then) && before(now, self.newest),
            None => before(now, self.then),
        }
    }
}
