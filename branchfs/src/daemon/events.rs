//! Subscribers and what they hear. Publishing never blocks: each subscriber has a bounded queue, and one
//! that does not keep up loses its connection, never an event in the middle.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use branch_proto::{Event, FrameError, write_frame};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};

use super::wake::Wake;

/// Most events waiting for one subscriber.
/// An abort of a deep subtree is one burst.
const QUEUE_MAX: usize = 16 * 1024;

/// All subscribers. Lock order: `subscribers`, then one `queue`; both are leaves for everybody else.
#[derive(Default)]
pub(super) struct Events {
    subscribers: Mutex<Subscribers>,
}

#[derive(Default)]
struct Subscribers {
    all: Vec<Arc<Subscriber>>,
    /// [`Event::Shutdown`], once it was published: who subscribes later hears it at once.
    last: Option<Event>,
}

/// One connection that was turned into an event stream. Its own thread writes; publishers only queue.
struct Subscriber {
    stream: UnixStream,
    queue: Mutex<VecDeque<Event>>,
    wake: Wake,
}

impl Events {
    /// Tells every subscriber. Those who have `QUEUE_MAX` events waiting already are cut off.
    pub(super) fn publish(&self, event: &Event) {
        let mut subscribers = self.subscribers.lock();
        if *event == Event::Shutdown {
            subscribers.last = Some(event.clone());
        }
        subscribers.all.retain(|subscriber| subscriber.push(event));
    }

    /// Serves the subscription on the calling thread, until the client hangs up or the daemon goes down.
    pub(super) fn serve(&self, stream: UnixStream) -> Result<(), FrameError> {
        let subscriber = Arc::new(Subscriber {
            stream,
            queue: Mutex::new(VecDeque::from([Event::Subscribed])),
            wake: Wake::new()?,
        });
        subscriber.wake.notify();
        self.add(&subscriber);
        let served = subscriber.follow();
        self.subscribers.lock().all.retain(|other| !Arc::ptr_eq(other, &subscriber));
        served
    }

    fn add(&self, subscriber: &Arc<Subscriber>) {
        let mut subscribers = self.subscribers.lock();
        subscriber.queue.lock().extend(subscribers.last.clone());
        subscribers.all.push(subscriber.clone());
    }
}

impl Subscriber {
    /// Whether it is still one. A cut-off one wakes up because its stream is shut down.
    fn push(&self, event: &Event) -> bool {
        let mut queue = self.queue.lock();
        if queue.len() == QUEUE_MAX {
            tracing::warn!("a subscriber does not read its events: connection closed");
            if let Err(error) = self.stream.shutdown(Shutdown::Both) {
                tracing::debug!(%error, "shutdown of a subscriber's connection");
            }
            return false;
        }
        queue.push_back(event.clone());
        self.wake.notify();
        true
    }

    fn follow(&self) -> Result<(), FrameError> {
        loop {
            let connected = self.wait()?;
            self.wake.clear();
            while let Some(event) = self.take() {
                write_frame(&self.stream, &event)?;
                if event == Event::Shutdown {
                    return Ok(());
                }
            }
            if !connected {
                return Ok(());
            }
        }
    }

    fn take(&self) -> Option<Event> {
        self.queue.lock().pop_front()
    }

    /// Waits for an event or the end of the connection. Requests that come meanwhile are not read; a hang-up
    /// is reported without being asked for.
    fn wait(&self) -> io::Result<bool> {
        let mut fds = [
            PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::empty()),
            PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN),
        ];
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut fds, None))?;
        Ok(fds[0].revents().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use branch_proto::{EndReason, read_frame};

    use super::*;

    fn ended(n: usize) -> Event {
        Event::Ended { branch: format!("b{n}"), reason: EndReason::Aborted }
    }

    /// A subscriber that has heard `Subscribed`.
    fn subscribe(events: &Arc<Events>) -> (UnixStream, std::thread::JoinHandle<Result<(), FrameError>>) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        let daemon = events.clone();
        let served = std::thread::spawn(move || daemon.serve(theirs));
        assert_eq!(read_frame::<Event>(&ours).expect("whole"), Some(Event::Subscribed));
        (ours, served)
    }

    #[test]
    fn everything_published_after_subscribed_is_heard_in_order() {
        let events = Arc::new(Events::default());
        let (stream, served) = subscribe(&events);
        (0..100).for_each(|n| events.publish(&ended(n)));
        events.publish(&Event::Shutdown);
        for n in 0..100 {
            assert_eq!(read_frame::<Event>(&stream).expect("whole"), Some(ended(n)));
        }
        assert_eq!(read_frame::<Event>(&stream).expect("whole"), Some(Event::Shutdown));
        served.join().expect("thread").expect("served");
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_cut_off_and_others_are_not() {
        let events = Arc::new(Events::default());
        let (stuck, served) = subscribe(&events);
        // Fill the socket first: its thread then waits in write(2) while the queue grows.
        let mut published = 0;
        while !served.is_finished() {
            events.publish(&ended(published));
            published += 1;
            assert!(published < 1_000_000, "never cut off");
        }
        assert!(published > QUEUE_MAX);
        served.join().expect("thread").expect_err("its connection was cut under the write");
        assert!(events.subscribers.lock().all.is_empty());
        let (stream, _served) = subscribe(&events);
        events.publish(&ended(7));
        assert_eq!(read_frame::<Event>(&stream).expect("whole"), Some(ended(7)));
        drop(stuck);
    }

    #[test]
    fn a_subscriber_that_hangs_up_is_forgotten_without_an_event() {
        let events = Arc::new(Events::default());
        let (stream, served) = subscribe(&events);
        drop(stream);
        served.join().expect("thread").expect("a hang-up is no error");
        assert!(events.subscribers.lock().all.is_empty());
    }
}
