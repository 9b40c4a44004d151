//! A byte stream to a server: a socket, or TLS on top of one.

#[cfg(feature = "tls")]
use super::tls;
use super::{Address, Socket, Tls};
use crate::lease::BootTime;
use crate::{Code, Error, Result};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Plain, or with TLS on top.
#[derive(Debug)]
pub(in crate::store) enum Stream {
    Plain(Socket),
    #[cfg(feature = "tls")]
    Tls(Box<tls::TlsStream>),
}

impl Stream {
    /// Connects within `within`, and before `deadline`; without TLS.
    pub fn connect(address: &Address, within: Duration, deadline: BootTime) -> Result<Self> {
        Socket::connect(address, within, deadline).map(Stream::Plain)
    }

    /// Puts TLS on top, once the server waits for it.
    pub fn secure(self, address: &Address, options: &Tls, deadline: BootTime) -> Result<Self> {
        let Address::Tcp { host, .. } = address else {
            return Err(Error::new(Code::InvalidUrl, "TLS needs a host"));
        };
        match self {
            #[cfg(feature = "tls")]
            Stream::Plain(socket) => tls::TlsStream::connect(socket, host, options, deadline)
                .map(|tls| Stream::Tls(Box::new(tls))),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(Error::new(Code::Internal, "TLS inside of TLS")),
            #[cfg(not(feature = "tls"))]
            Stream::Plain(_) => {
                let _ = (host, options, deadline);
                Err(Error::new(Code::NotInBuild, "this build has no TLS"))
            }
        }
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Stream::Plain(socket) => socket.fd(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.fd(),
        }
    }

    /// Says something last, if it goes out at once; in a child of a fork, nothing.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn part(&mut self, words: &[u8]) {
        let socket = match self {
            Stream::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.socket(),
        };
        if socket.is_ours() {
            let _ = self.send(words, BootTime::from_nanos(0), &mut 0);
        }
    }

    /// Words about the server's address, once.
    #[allow(dead_code, reason = "not every store that has a stream is built in")]
    pub fn take_words(&mut self) -> Option<String> {
        match self {
            Stream::Plain(socket) => socket.take_words(),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.socket_mut().take_words(),
        }
    }

    pub fn send(&mut self, bytes: &[u8], deadline: BootTime, sent: &mut usize) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.send(bytes, deadline, sent),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.send(bytes, deadline, sent),
        }
    }

    /// Sends what goes out without blocking; over TLS nothing does.
    #[cfg(feature = "redis")]
    pub fn send_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.send_now(bytes),
            #[cfg(feature = "tls")]
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub fn receive(&mut self, into: &mut [u8], deadline: BootTime) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.receive(into, deadline),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.receive(into, deadline),
        }
    }

    pub fn receive_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Stream::Plain(socket) => socket.receive_now(into),
            #[cfg(feature = "tls")]
            Stream::Tls(tls) => tls.receive_now(into),
        }
    }
}
