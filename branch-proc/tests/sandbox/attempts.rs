//! Making attempts, each in a process of its own, and telling how they went.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use branch_proc::{Captured, Command, Denial};

use crate::common::run;
use crate::foretold::{self, Step};
use crate::table::expectations;

/// Set in the group: make all attempts, or the one of this name.
const MAKE: &str = "BRANCH_PROC_TEST_ATTEMPTS";
const ALL: &str = "all";
/// Set in the group: make these operations.
const SCRIPT: &str = "BRANCH_PROC_TEST_SCRIPT";

/// The answer of an attempt: 0, an error number, or -n when signal n killed it.
pub(crate) type Answer = i32;

/// What an attempt can refer to.
pub(crate) struct Places {
    pub(crate) base: PathBuf,
    pub(crate) outside: PathBuf,
    pub(crate) home: PathBuf,
    /// In /tmp.
    pub(crate) scratch: PathBuf,
    /// The abstract name of a socket outside that is listened on.
    pub(crate) listener: String,
    /// The network namespace of who makes the group.
    pub(crate) network: PathBuf,
}

impl Places {
    fn from_env() -> Places {
        let path = |name| PathBuf::from(std::env::var_os(name).unwrap());
        let listener = std::env::var("LISTENER").unwrap();
        Places {
            listener,
            network: path("NETWORK"),
            base: path("BASE"),
            outside: path("OUTSIDE"),
            home: path("HOME"),
            scratch: path("SCRATCH"),
        }
    }

    pub(crate) fn base(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    pub(crate) fn outside(&self, name: &str) -> PathBuf {
        self.outside.join(name)
    }

    /// From the base upwards and down again.
    pub(crate) fn dotted(&self, path: &Path) -> PathBuf {
        let ups = "../".repeat(self.base.components().count());
        self.base.join(ups).join(path.strip_prefix("/").unwrap())
    }
}

/// In the group: each attempt in a child, so that none changes what the next one finds.
pub(crate) fn make_those_asked_for() {
    let Ok(asked) = std::env::var(MAKE) else { return };
    let places = Places::from_env();
    for attempt in expectations().iter().filter(|attempt| asked == ALL || asked == attempt.name) {
        let answer = in_a_child(|| (attempt.make)(&places));
        println!("\n@ {answer} {}", attempt.name);
    }
}

/// In the group: the operations of a script, in order.
pub(crate) fn make_scripted() {
    let Ok(script) = std::env::var(SCRIPT) else { return };
    for line in script.lines() {
        let step = Step::from_line(line);
        println!("\n@ {} x", in_a_child(|| foretold::make(&step)));
    }
}

fn in_a_child(make: impl FnOnce() -> Result<(), i32>) -> Answer {
    // SAFETY: this process has one thread (--test-threads=1), so its child may do anything.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            let code = make().err().unwrap_or(0);
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        child => {
            let mut status = 0;
            // SAFETY: status is a place for the answer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            if libc::WIFSIGNALED(status) { -libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
        }
    }
}

/// Runs all attempts in a group; their answers by name.
pub(crate) fn tell_all(command: Command) -> (BTreeMap<String, Answer>, Captured) {
    let (answers, outcome) = answers(command.env(MAKE, ALL));
    let answers: BTreeMap<String, Answer> = answers.into_iter().collect();
    assert_eq!(answers.len(), expectations().len());
    (answers, outcome)
}

/// Runs one attempt in a group.
pub(crate) fn tell(command: Command, name: &str) -> Captured {
    let (answers, outcome) = answers(command.env(MAKE, name));
    assert_eq!(answers.len(), 1);
    outcome
}

/// Runs a script in a group: the answer to each step.
pub(crate) fn scripted(command: Command, steps: &[Step]) -> (Vec<Answer>, Vec<Denial>) {
    let script: Vec<String> = steps.iter().map(Step::to_line).collect();
    let (answers, captured) = answers(command.env(SCRIPT, script.join("\n")));
    assert_eq!(answers.len(), steps.len());
    (answers.into_iter().map(|(_, answer)| answer).collect(), captured.outcome.denials)
}

fn answers(command: Command) -> (Vec<(String, Answer)>, Captured) {
    let captured = run(command);
    let text = String::from_utf8_lossy(&captured.stdout.bytes).into_owned();
    let errors = String::from_utf8_lossy(&captured.stderr.bytes).into_owned();
    assert!(captured.outcome.success(), "{:?}\n{text}\n{errors}", captured.outcome);
    (text.lines().filter_map(parse).collect(), captured)
}

fn parse(line: &str) -> Option<(String, Answer)> {
    let (answer, name) = line.strip_prefix("@ ")?.split_once(' ')?;
    Some((name.to_owned(), answer.parse().unwrap()))
}
