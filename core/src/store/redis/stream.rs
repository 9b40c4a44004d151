//! A byte stream to a server: a socket, or TLS on top of one.

use super::config::Config;
#[cfg(feature = "redis-tls")]
use super::tls;
use crate::Result;
use crate::lease::BootTime;
use crate::store::net::Socket;
use std::io;
use std::os::fd::RawFd;

/// Plain, or with TLS on top.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    #[cfg(feature = "redis-tls")]
    Tls(Box<tls::TlsStream>),
}

impl Stream {
    pub fn connect(config: &Config, deadline: BootTime) -> Result<Self> {
        let socket = Socket::connect(&config.address, config.connect_timeout, deadline)?;
        match &config.tls {
            None => Ok(Stream::Plain(socket)),
            #[cfg(feature = "redis-tls")]
            Some(options) => tls::TlsStream::connect(socket, config, options, deadline)
                .map(|tls| Stream::Tls(Box::new(tls))),
            #[cfg(not(feature = "redis-tls"))]
            Some(_) => Err(crate::Error::new(
                crate::Code::NotInBuild,
                "this build has no TLS for redis",
            )),
        }
    }

    pub fn fd(&self) -> RawFd {
        match self {
            Stream::Plain(socket) => socket.fd(),
            #[cfg(feature = "redis-tls")]
            Stream::Tls(tls) => tls.fd(),
        }
    }

    pub fn send(&mut self, bytes: &[u8], deadline: BootTime, sent: &mut usize) -> io::Result<()> {
        match self {
            Stream::Plain(socket) => socket.send(bytes, deadline, sent),
            #[cfg(feature = "redis-tls")]
            Stream::Tls(tls) => tls.send(bytes, deadline, sent),
        }
    }

    pub fn receive(&mut self, into: &mut [u8], deadline: BootTime) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.receive(into, deadline),
            #[cfg(feature = "redis-tls")]
            Stream::Tls(tls) => tls.receive(into, deadline),
        }
    }

    pub fn receive_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Stream::Plain(socket) => socket.receive_now(into),
            #[cfg(feature = "redis-tls")]
            Stream::Tls(tls) => tls.receive_now(into),
        }
    }
}
