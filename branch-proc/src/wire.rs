//! What the child tells its spawner over pipes: fixed-size messages, far below `PIPE_BUF`, so each is
//! atomic.

use crate::error::Step;

/// A step that failed in the child. Plain numbers: the child must not allocate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fail {
    pub(crate) step: Step,
    /// Which of several things of the step (the n-th bind, the n-th descriptor).
    pub(crate) index: u32,
    pub(crate) errno: i32,
}

impl Fail {
    pub(crate) fn new(step: Step, errno: rustix::io::Errno) -> Fail {
        Fail { step, index: 0, errno: errno.raw_os_error() }
    }

    pub(crate) fn at(self, index: usize) -> Fail {
        Fail { index: index as u32, ..self }
    }
}

/// A message on the error pipe. End of file without `Failed` means that the program was executed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Report {
    /// The fresh `/proc` was refused and the request allows the inherited one.
    ProcInherited,
    /// The confinement is entered; the program waits to be released.
    Ready,
    /// The init's pid, where its parent has not made it itself.
    Init(i32),
    /// A step failed; nothing more will come.
    Failed(Fail),
}

const TAG_PROC_INHERITED: u32 = 1;
const TAG_FAILED: u32 = 2;
const TAG_READY: u32 = 3;
const TAG_INIT: u32 = 4;
/// Size of a [`Report`] on the pipe.
pub(crate) const REPORT_BYTES: usize = 16;
/// Size of an [`Ended`] on the pipe.
pub(crate) const ENDED_BYTES: usize = 16;

impl Report {
    pub(crate) fn encode(self) -> [u8; REPORT_BYTES] {
        let (tag, step, index, errno) = match self {
            Report::ProcInherited => (TAG_PROC_INHERITED, 0, 0, 0),
            Report::Ready => (TAG_READY, 0, 0, 0),
            Report::Init(pid) => (TAG_INIT, 0, 0, pid as u32),
            Report::Failed(fail) => (TAG_FAILED, fail.step as u32, fail.index, fail.errno as u32),
        };
        pack([tag, step, index, errno])
    }

    /// None for bytes that no child of ours writes.
    pub(crate) fn decode(bytes: [u8; REPORT_BYTES]) -> Option<Report> {
        let [tag, step, index, errno] = unpack(bytes);
        match tag {
            TAG_PROC_INHERITED => Some(Report::ProcInherited),
            TAG_READY => Some(Report::Ready),
            TAG_INIT => Some(Report::Init(errno as i32)),
            TAG_FAILED => {
                let step = *Step::ALL.get(step as usize)?;
                Some(Report::Failed(Fail { step, index, errno: errno as i32 }))
            }
            _ => None,
        }
    }
}

/// Written by the init to the status pipe when the program has ended: a pid namespace's init cannot die by
/// a signal of its choice, so the exact wait status has to travel this way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) wait_status: i32,
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub(crate) at_nanos: u64,
}

impl Ended {
    pub(crate) fn encode(self) -> [u8; ENDED_BYTES] {
        pack([self.wait_status as u32, 0, self.at_nanos as u32, (self.at_nanos >> 32) as u32])
    }

    pub(crate) fn decode(bytes: [u8; ENDED_BYTES]) -> Ended {
        let [status, _, low, high] = unpack(bytes);
        Ended { wait_status: status as i32, at_nanos: u64::from(low) | u64::from(high) << 32 }
    }
}

fn pack(words: [u32; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

fn unpack(bytes: [u8; 16]) -> [u32; 4] {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_number_and_survives_the_pipe() {
        for (number, step) in Step::ALL.into_iter().enumerate() {
            assert_eq!(step as usize, number);
            let sent = Fail { step, index: 7, errno: libc::ENOENT };
            match Report::decode(Report::Failed(sent).encode()) {
                Some(Report::Failed(got)) => {
                    assert_eq!((got.step, got.index, got.errno), (step, 7, libc::ENOENT))
                }
                other => panic!("{step:?} came back as {other:?}"),
            }
        }
    }

    #[test]
    fn an_end_survives_the_pipe() {
        let got = Ended::decode(Ended { wait_status: 9, at_nanos: 0x1_2345_6789_abcd }.encode());
        assert_eq!((got.wait_status, got.at_nanos), (9, 0x1_2345_6789_abcd));
    }
}
