//! The pipe that a client reads a patch from. A reader that takes its time keeps its own thread of ours waiting and
//! nobody else; a client that hangs up, or a daemon that stops, ends the wait.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

pub(super) struct PatchPipe<'a> {
    to: OwnedFd,
    client: BorrowedFd<'a>,
}

impl<'a> PatchPipe<'a> {
    /// `client` is the connection the request came from: readable when the other side, or we, hung up.
    pub(super) fn new(to: OwnedFd, client: BorrowedFd<'a>) -> io::Result<PatchPipe<'a>> {
        fcntl_setfl(&to, fcntl_getfl(&to)? | OFlags::NONBLOCK)?;
        Ok(PatchPipe { to, client })
    }

    fn wait(&self) -> io::Result<()> {
        let mut polled = [
            PollFd::from_borrowed_fd(self.to.as_fd(), PollFlags::OUT),
            PollFd::from_borrowed_fd(self.client, PollFlags::IN | PollFlags::RDHUP),
        ];
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        if polled[1].revents().is_empty() { Ok(()) } else { Err(Errno::CANCELED.into()) }
    }
}

impl Write for PatchPipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.to, bytes) {
                Ok(written) => return Ok(written),
                Err(Errno::AGAIN) => self.wait()?,
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn a_client_that_hangs_up_ends_the_wait_of_a_full_pipe() {
        let (_reader, writer) = io::pipe().unwrap();
        let (client, connection) = UnixStream::pair().unwrap();
        let full = thread::spawn(move || {
            let mut pipe = PatchPipe::new(writer.into(), connection.as_fd()).unwrap();
            pipe.write_all(&vec![b'x'; 1 << 20]).map_err(|error| error.raw_os_error())
        });
        drop(client);
        assert_eq!(full.join().unwrap(), Err(Some(libc::ECANCELED)));
    }

    #[test]
    fn more_than_a_pipe_holds_arrives_whole() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (_client, connection) = UnixStream::pair().unwrap();
        let sent = thread::spawn(move || {
            let mut pipe = PatchPipe::new(writer.into(), connection.as_fd()).unwrap();
            pipe.write_all(&vec![b'x'; 3 << 20]).unwrap();
        });
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).unwrap();
        assert_eq!(heard.len(), 3 << 20);
        sent.join().unwrap();
    }
}
