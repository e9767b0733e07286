//! The proxy's bounds: whatever a program does, it costs the process that spawned it no more than this.

use std::time::Duration;

/// Connections served at a time; more wait in the kernel's queue.
pub(crate) const CONNECTIONS_MAX: usize = 128;
/// Names being looked up at a time, those counted in that nobody waits for any more.
pub(crate) const LOOKUPS_MAX: usize = 2 * CONNECTIONS_MAX;
/// Bytes of the head of a request or an answer.
pub(crate) const HEAD_MAX: usize = 32 << 10;
/// Lines of a head.
pub(crate) const HEADERS_MAX: usize = 128;
/// Bytes on their way in one direction of a connection.
pub(crate) const BUFFER: usize = 64 << 10;
/// Bytes of the line that begins a chunk, and of each line of a trailer.
pub(crate) const CHUNK_LINE_MAX: usize = 1024;
/// Bytes that are held back to find a server name in them.
pub(crate) const HELLO_MAX: usize = 32 << 10;
/// Addresses of a name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 16;
/// Different refusals that are remembered.
pub(crate) const DENIALS_MAX: usize = 256;
/// Stack of a lookup's thread, in bytes: what the system's resolver loads may want more than we do.
pub(crate) const LOOKUP_STACK: usize = 1 << 20;
/// Stack of any other of the proxy's threads, in bytes.
pub(crate) const STACK: usize = 256 << 10;

/// From the first byte of a head to its last.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(10);
/// Between two requests of a connection, and before the first.
pub(crate) const BETWEEN_REQUESTS_TIME: Duration = Duration::from_secs(60);
/// For finding a name's addresses.
pub(crate) const LOOKUP_TIME: Duration = Duration::from_secs(15);
/// For a connection to one address.
pub(crate) const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Without a byte in either direction.
pub(crate) const IDLE_TIME: Duration = Duration::from_secs(600);
/// For a client to take a refusal, after which the connection is closed.
pub(crate) const PARTING_TIME: Duration = Duration::from_secs(1);

/// Bytes of a client that are read and thrown away meanwhile.
pub(crate) const PARTING_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(HEAD_MAX < BUFFER, "a whole head fits into the buffer it is read into");
const _: () = assert!(HELLO_MAX < BUFFER);
const _: () = assert!(CONNECTIONS_MAX < LOOKUPS_MAX, "each connection may look up a name");
const _: () = assert!(CHUNK_LINE_MAX < HEAD_MAX);
