//! A patch on its way: what the backend writes on one thread is read on another, so that its length does not matter.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use branch_proto::{Compared, Omitted};

use crate::backend::Backend;
use crate::error::Error;

/// A patch to be read to its end, and then [`Patch::finish`]ed: only that says whether it is whole. Dropped before, it
/// stops being made.
#[derive(Debug)]
pub struct Patch {
    from: PipeReader,
    call: JoinHandle<Result<Vec<Omitted>, Error>>,
}

impl Patch {
    pub(crate) fn start(backend: Arc<dyn Backend>, compared: Compared) -> Result<Patch, Error> {
        let failed = |source| Error::System { doing: "start a patch", source };
        let (from, to) = io::pipe().map_err(failed)?;
        let body = move || backend.patch(&compared, to.as_fd());
        let call = thread::Builder::new().name("patch".into()).spawn(body).map_err(failed)?;
        Ok(Patch { from, call })
    }

    /// What is not in the patch, if all that can be has been written. To be called after the end has been read.
    pub fn finish(self) -> Result<Vec<Omitted>, Error> {
        let Patch { from, call } = self;
        // A backend that still writes must not wait for us.
        drop(from);
        match call.join() {
            Ok(answer) => answer,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Read for Patch {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer)
    }
}
