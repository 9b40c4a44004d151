//! A socket to a server, for every store that has one: each wait is bounded by a deadline, no write
//! raises a signal, and it crosses no fork.

#[cfg(any(feature = "redis", feature = "etcd"))]
mod hosts;
mod spin;
#[cfg(any(feature = "redis", feature = "tls"))]
mod stream;
#[cfg(feature = "tls")]
mod tls;

#[cfg(any(feature = "redis", feature = "etcd"))]
pub(super) use hosts::hosts;
#[cfg(any(feature = "redis", feature = "tls"))]
pub(super) use stream::Stream;

use spin::Spin;

use crate::codes::Code;
use crate::fork::{ForkWatch, ProcessFd};
use crate::lease::BootTime;
use crate::store::cautions::of_addresses;
use crate::{Error, Result};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// How long a receive may block in the kernel before the deadline is looked at.
const SLICE: Duration = Duration::from_millis(500);
/// How often a socket is made anew because of a fork.
const MOST_TRIES: u32 = 64;

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    #[cfg_attr(
        not(any(
            feature = "redis",
            feature = "memcached",
            feature = "postgres",
            feature = "mysql"
        )),
        expect(dead_code, reason = "these listen at files, too")
    )]
    Unix(String),
}

/// How to trust a server's certificate.
#[cfg(any(feature = "redis", feature = "tls"))]
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Tls {
    /// PEM file of authorities; the public ones if there is none.
    pub ca_file: Option<String>,
    /// Accept any certificate.
    pub insecure: bool,
}

/// A connected socket. It blocks for a slice at most.
#[derive(Debug)]
pub(super) struct Socket {
    fd: ProcessFd,
    /// What is to be said of the way to the server.
    words: Option<String>,
    spin: Spin,
}

impl Drop for Socket {
    /// The connection ends before the descriptor is struck off the list: a child made between that and its close has a
    /// copy, which would keep a session and its locks alive.
    fn drop(&mut self) {
        if self.fd.is_ours() {
            // SAFETY: no memory involved; the descriptor is open.
            unsafe { libc::shutdown(self.fd(), libc::SHUT_RDWR) };
        }
    }
}

impl Socket {
    /// Connects within `within`, and before `deadline`.
    pub fn connect(address: &Address, within: Duration, deadline: BootTime) -> Result<Self> {
        let deadline = deadline.min(BootTime::now().after(within));
        let socket = match address {
            Address::Tcp { host, port } => connect_tcp(host, *port, deadline),
            Address::Unix(path) => connect_unix(path, deadline),
        }?;
        socket.block_in_slices()?;
        Ok(socket)
    }

    fn over(fd: OwnedFd) -> Self {
        Socket {
            fd: ProcessFd::new(fd),
            words: None,
            spin: Spin::default(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Whether this is the process that opened it.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn is_ours(&self) -> bool {
        self.fd.is_ours()
    }

    /// Words about the server's address, once.
    #[allow(dead_code, reason = "not every store has one server")]
    pub fn take_words(&mut self) -> Option<String> {
        self.words.take()
    }

    /// Sends all of it; how much went out stands in `sent` even if it fails.
    pub fn send(&self, bytes: &[u8], deadline: BootTime, sent: &mut usize) -> io::Result<()> {
        *sent = 0;
        while *sent < bytes.len() {
            let rest = bytes.get(*sent..).unwrap_or_default();
            match self.send_now(rest) {
                Ok(done) => *sent += done,
                Err(error) => self.wait_after(error, libc::POLLOUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Sends what goes out without blocking.
    pub fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        let quiet = if cfg!(canary = "loud_pipe") {
            0
        } else {
            libc::MSG_NOSIGNAL
        };
        // SAFETY: sends from a live slice; MSG_NOSIGNAL keeps SIGPIPE from the host.
        let done = unsafe {
            libc::send(
                self.fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT | quiet,
            )
        };
        usize::try_from(done).map_err(|_| io::Error::last_os_error())
    }

    /// Receives something; 0 at the end of the stream.
    pub fn receive(&self, into: &mut [u8], deadline: BootTime) -> io::Result<usize> {
        let look = || self.receive_now(&mut *into);
        if let Some(got) = self.spin.find(deadline.left(), look)? {
            return Ok(got);
        }
        loop {
            // With time enough, one system call waits and reads.
            let flags = if deadline.left() > SLICE {
                0
            } else {
                wait(self.fd(), libc::POLLIN, deadline)?;
                libc::MSG_DONTWAIT
            };
            if let Some(got) = self.receive_with(into, flags)? {
                return Ok(got);
            }
        }
    }

    /// Receives what has arrived; `None` if nothing has.
    pub fn receive_now(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.receive_with(into, libc::MSG_DONTWAIT)
    }

    fn receive_with(&self, into: &mut [u8], flags: libc::c_int) -> io::Result<Option<usize>> {
        // SAFETY: writes at most `into.len()` bytes into a live slice.
        let done = unsafe { libc::recv(self.fd(), into.as_mut_ptr().cast(), into.len(), flags) };
        match usize::try_from(done) {
            Ok(done) => Ok(Some(done)),
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::Interrupted if cfg!(canary = "no_retry") => Err(error),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                }
            }
        }
    }

    /// Lets a receive block for a slice.
    fn block_in_slices(&self) -> Result<()> {
        let time = libc::timeval {
            tv_sec: 0,
            tv_usec: SLICE.subsec_micros() as libc::suseconds_t,
        };
        let size = size_of::<libc::timeval>() as libc::socklen_t;
        // SAFETY: the option's value is a timeval, valid during the call; F_SETFL takes no pointer.
        // The descriptor has no other flags.
        let done = unsafe {
            libc::setsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                (&raw const time).cast(),
                size,
            ) | libc::fcntl(self.fd(), libc::F_SETFL, 0)
        };
        if done == 0 {
            Ok(())
        } else {
            Err(unreachable(io::Error::last_os_error()))
        }
    }

    fn wait_after(
        &self,
        error: io::Error,
        events: libc::c_short,
        deadline: BootTime,
    ) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::WouldBlock => wait(self.fd(), events, deadline),
            io::ErrorKind::Interrupted => Ok(()),
            _ => Err(error),
        }
    }
}

/// Waits for readiness; `TimedOut` at the deadline.
pub(super) fn wait(fd: RawFd, events: libc::c_short, deadline: BootTime) -> io::Result<()> {
    loop {
        let left = deadline.left();
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut poll = libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        let ms = left.min(Duration::from_secs(1)).as_micros().div_ceil(1000);
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, ms as libc::c_int) };
        if ready > 0 {
            return Ok(());
        }
        if ready < 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

fn unreachable(error: io::Error) -> Error {
    let code = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Code::Exhausted,
        Some(libc::EACCES | libc::EPERM) => Code::Permission,
        _ => Code::Unavailable,
    };
    Error::new(code, format!("the server cannot be reached: {error}")).with_source(error)
}

fn connect_unix(path: &str, deadline: BootTime) -> Result<Socket> {
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if path.len() >= address.sun_path.len() || path.contains('\0') {
        return Err(Error::new(
            Code::InvalidUrl,
            "the path of the socket is too long",
        ));
    }
    for (to, from) in address.sun_path.iter_mut().zip(path.bytes()) {
        *to = from as libc::c_char;
    }
    let socket = open(libc::AF_UNIX)?;
    // SAFETY: the address is valid for its size.
    let done = unsafe {
        libc::connect(
            socket.fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_un>() as libc::socklen_t,
        )
    };
    finish(socket, done, deadline)
}

fn connect_tcp(host: &str, port: u16, deadline: BootTime) -> Result<Socket> {
    let addresses = (host, port).to_socket_addrs().map_err(unreachable)?;
    let addresses: Vec<SocketAddr> = addresses.collect();
    let mut socket = connect_any(&addresses, deadline)?;
    socket.words = of_addresses(host, &addresses);
    Ok(socket)
}

/// To the first that lets us in. Each has its share of the time: one that is silent leaves the others theirs.
fn connect_any(addresses: &[SocketAddr], deadline: BootTime) -> Result<Socket> {
    let mut last = Error::new(Code::Unavailable, "the server's name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let shares = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let until = BootTime::now().after(deadline.left() / shares);
        match connect_address(*address, until.min(deadline)) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_address(address: SocketAddr, deadline: BootTime) -> Result<Socket> {
    let left = deadline.left();
    if left.is_zero() {
        return Err(unreachable(io::ErrorKind::TimedOut.into()));
    }
    let (raw, size) = raw(address);
    let socket = open(libc::c_int::from(raw.ss_family))?;
    // SAFETY: the address is valid for its size.
    let done = unsafe { libc::connect(socket.fd(), (&raw const raw).cast(), size) };
    let socket = finish(socket, done, deadline)?;
    // A peer that vanished is noticed while we wait for wake-ups, too.
    for (level, option, value) in [
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, 5),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, 2),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 3),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 10_000),
    ] {
        let value: libc::c_int = value;
        // SAFETY: the option's value is an int, valid during the call. Failure costs only speed of notice.
        unsafe {
            libc::setsockopt(
                socket.fd(),
                level,
                option,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
    }
    Ok(socket)
}

/// An address as the kernel wants it.
fn raw(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let place = &raw mut storage;
    let size = match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr {
                    s_addr: u32::from_ne_bytes(address.ip().octets()),
                },
                sin_zero: [0; 8],
            };
            // SAFETY: a sockaddr_storage has room for an address of any family.
            unsafe { place.cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr {
                    s6_addr: address.ip().octets(),
                },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, size as libc::socklen_t)
}

/// A socket that no child has a copy of: one would keep a dead parent's session, and its locks, alive.
fn open(family: libc::c_int) -> Result<Socket> {
    let mut tries = MOST_TRIES;
    loop {
        let watch = ForkWatch::start();
        // SAFETY: no pointers; the descriptor is owned below.
        let fd = unsafe {
            libc::socket(
                family,
                libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                0,
            )
        };
        if fd < 0 {
            return Err(unreachable(io::Error::last_os_error()));
        }
        // SAFETY: just made, owned by nobody else.
        let socket = Socket::over(unsafe { OwnedFd::from_raw_fd(fd) });
        tries -= 1;
        // Where forks never end, a copy is the lesser evil.
        if watch.is_quiet() || tries == 0 {
            return Ok(socket);
        }
    }
}

fn finish(socket: Socket, done: libc::c_int, deadline: BootTime) -> Result<Socket> {
    if done == 0 {
        return Ok(socket);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A unix socket whose backlog is full says EAGAIN: the server is alive but overwhelmed.
        Some(libc::EINPROGRESS | libc::EINTR) => wait(socket.fd(), libc::POLLOUT, deadline)
            .and_then(|()| trouble_of(socket.fd()))
            .map_err(unreachable)
            .map(|()| socket),
        _ => Err(unreachable(error)),
    }
}

/// What has become of a connect.
fn trouble_of(fd: RawFd) -> io::Result<()> {
    let mut trouble: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: writes an int into a place of its size.
    let done = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut trouble).cast(),
            &raw mut size,
        )
    };
    match (done, trouble) {
        (0, 0) => Ok(()),
        (0, trouble) => Err(io::Error::from_raw_os_error(trouble)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_silent_address_leaves_time_for_the_next() {
        let (full, open) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        let addresses = [full.local_addr().unwrap(), open.local_addr().unwrap()];
        // Nobody accepts: once so many wait, the next is not answered.
        let brief = Duration::from_millis(500);
        let mut waiting = Vec::new();
        while let Ok(one) = TcpStream::connect_timeout(&addresses[0], brief) {
            waiting.push(one);
        }
        let deadline = BootTime::now().after(Duration::from_secs(8));
        let socket = connect_any(&addresses, deadline);
        assert!(socket.is_ok(), "{socket:?}");
    }
}
