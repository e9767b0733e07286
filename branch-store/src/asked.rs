//! What the host is asked in one operation, so that tests can count it. Costs nothing elsewhere.

#[cfg(test)]
use std::cell::RefCell;

#[cfg(test)]
thread_local! {
    static CALLS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// A system call, or the clock's two of them, is about to be made by this thread.
#[cfg(test)]
pub(crate) fn note(call: &'static str) {
    CALLS.with_borrow_mut(|calls| calls.push(call));
}

#[cfg(not(test))]
pub(crate) fn note(_call: &'static str) {}

/// What `act` asks of the host, in order.
#[cfg(test)]
pub(crate) fn calls_of<T>(act: impl FnOnce() -> T) -> (T, Vec<&'static str>) {
    CALLS.take();
    let done = act();
    (done, CALLS.take())
}
