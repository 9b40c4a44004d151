//! A byte stream to a server, bounded by a deadline, that raises no signal and crosses no fork.

use super::config::{Address, Config};
use crate::codes::Code;
use crate::fork::ProcessFd;
use crate::lease::BootTime;
use crate::{Error, Result};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A connected socket, non-blocking; every wait is a `poll` with what is left of the deadline.
#[derive(Debug)]
pub(super) struct Socket(ProcessFd);

impl Socket {
    pub fn connect(config: &Config, deadline: BootTime) -> Result<Self> {
        let deadline = deadline.min(BootTime::now().after(config.connect_timeout));
        match &config.address {
            Address::Tcp { host, port } => connect_tcp(host, *port, deadline),
            Address::Unix(path) => connect_unix(path, deadline),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Sends all of it; how much went out stands in `sent` even if it fails.
    pub fn send(&self, bytes: &[u8], deadline: BootTime, sent: &mut usize) -> io::Result<()> {
        *sent = 0;
        while *sent < bytes.len() {
            let rest = bytes.get(*sent..).unwrap_or_default();
            // SAFETY: sends from a live slice; MSG_NOSIGNAL keeps SIGPIPE from the host.
            let done = unsafe {
                libc::send(
                    self.fd(),
                    rest.as_ptr().cast(),
                    rest.len(),
                    libc::MSG_NOSIGNAL,
                )
            };
            match usize::try_from(done) {
                Ok(done) => *sent += done,
                Err(_) => self.wait_after(io::Error::last_os_error(), libc::POLLOUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Receives something; 0 at the end of the stream.
    pub fn receive(&self, into: &mut [u8], deadline: BootTime) -> io::Result<usize> {
        loop {
            match self.receive_now(into)? {
                Some(got) => return Ok(got),
                None => wait(self.fd(), libc::POLLIN, deadline)?,
            }
        }
    }

    /// Receives what has arrived; `None` if nothing has.
    pub fn receive_now(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: writes at most `into.len()` bytes into a live slice.
        let done = unsafe { libc::recv(self.fd(), into.as_mut_ptr().cast(), into.len(), 0) };
        match usize::try_from(done) {
            Ok(done) => Ok(Some(done)),
            Err(_) => {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    _ => Err(error),
                }
            }
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
fn wait(fd: RawFd, events: libc::c_short, deadline: BootTime) -> io::Result<()> {
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
    let mut last = Error::new(Code::Unavailable, "the server's name has no address");
    for address in addresses {
        match connect_address(address, deadline) {
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
    let stream = TcpStream::connect_timeout(&address, left).map_err(unreachable)?;
    stream
        .set_nodelay(true)
        .and_then(|()| stream.set_nonblocking(true))
        .map_err(unreachable)?;
    let socket = Socket(ProcessFd::new(OwnedFd::from(stream)));
    // A peer that vanished is noticed while we wait for wake-ups, too.
    for (level, option, value) in [
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

fn open(family: libc::c_int) -> Result<Socket> {
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
    Ok(Socket(ProcessFd::new(unsafe { OwnedFd::from_raw_fd(fd) })))
}

fn finish(socket: Socket, done: libc::c_int, deadline: BootTime) -> Result<Socket> {
    if done == 0 {
        return Ok(socket);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A unix socket whose backlog is full says EAGAIN: the server is alive but overwhelmed.
        Some(libc::EINPROGRESS | libc::EINTR) => wait(socket.fd(), libc::POLLOUT, deadline)
            .map_err(unreachable)
            .map(|()| socket),
        _ => Err(unreachable(error)),
    }
}

/// Plain, or with TLS on top.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Socket),
    #[cfg(feature = "redis-tls")]
    Tls(Box<tls::TlsStream>),
}

impl Stream {
    pub fn connect(config: &Config, deadline: BootTime) -> Result<Self> {
        let socket = Socket::connect(config, deadline)?;
        match &config.tls {
            None => Ok(Stream::Plain(socket)),
            #[cfg(feature = "redis-tls")]
            Some(options) => tls::TlsStream::connect(socket, config, options, deadline)
                .map(|tls| Stream::Tls(Box::new(tls))),
            #[cfg(not(feature = "redis-tls"))]
            Some(_) => Err(Error::new(
                Code::NotInBuild,
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

#[cfg(feature = "redis-tls")]
mod tls {
    use super::{Address, BootTime, Code, Config, Error, RawFd, Result, Socket, io};
    use crate::store::redis::config::Tls;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    };
    use std::io::{Read, Write};
    use std::sync::Arc;

    #[derive(Debug)]
    pub(in super::super) struct TlsStream {
        socket: Socket,
        tls: ClientConnection,
    }

    /// Bytes of a `ca_file`; a system's whole collection has a quarter of a megabyte.
    const MOST_AUTHORITIES: usize = 8 * 1024 * 1024;

    /// What rustls reads from and writes to: never blocks, never raises SIGPIPE.
    struct Wire<'a>(&'a Socket);

    impl Read for Wire<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0
                .receive_now(into)?
                .ok_or_else(|| io::ErrorKind::WouldBlock.into())
        }
    }

    impl Write for Wire<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // SAFETY: sends from a live slice; MSG_NOSIGNAL keeps SIGPIPE from the host.
            let done = unsafe {
                libc::send(
                    self.0.fd(),
                    bytes.as_ptr().cast(),
                    bytes.len(),
                    libc::MSG_NOSIGNAL,
                )
            };
            usize::try_from(done).map_err(|_| io::Error::last_os_error())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl TlsStream {
        pub fn connect(
            socket: Socket,
            config: &Config,
            options: &Tls,
            deadline: BootTime,
        ) -> Result<Self> {
            let Address::Tcp { host, .. } = &config.address else {
                return Err(Error::new(Code::InvalidUrl, "TLS needs a host"));
            };
            let name = ServerName::try_from(host.clone()).map_err(|_| {
                Error::new(
                    Code::InvalidUrl,
                    "the host is no name that a certificate can have",
                )
            })?;
            let tls = ClientConnection::new(client_config(options)?, name).map_err(refused)?;
            let mut stream = TlsStream { socket, tls };
            // A request may be as long as a name; what is written goes out at once.
            stream.tls.set_buffer_limit(None);
            while stream.tls.is_handshaking() {
                stream.turn(deadline).map_err(|error| {
                    match error
                        .get_ref()
                        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                    {
                        Some(rustls::Error::InvalidCertificate(_)) => Error::new(
                            Code::Permission,
                            format!("the server's certificate is not accepted: {error}"),
                        ),
                        Some(_) => Error::new(
                            Code::Protocol,
                            format!("the server does not speak TLS as it should: {error}"),
                        ),
                        None => Error::new(
                            Code::Unavailable,
                            format!("the TLS handshake failed: {error}"),
                        ),
                    }
                })?;
            }
            Ok(stream)
        }

        pub fn fd(&self) -> RawFd {
            self.socket.fd()
        }

        /// Moves bytes in whichever direction TLS wants next.
        fn turn(&mut self, deadline: BootTime) -> io::Result<()> {
            if self.tls.wants_write() {
                match self.tls.write_tls(&mut Wire(&self.socket)) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        super::wait(self.fd(), libc::POLLOUT, deadline)
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                    other => other.map(drop),
                }
            } else {
                match self.pull()? {
                    Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                    Some(_) => Ok(()),
                    None => super::wait(self.fd(), libc::POLLIN, deadline),
                }
            }
        }

        /// Takes in what has arrived.
        fn pull(&mut self) -> io::Result<Option<usize>> {
            match self.tls.read_tls(&mut Wire(&self.socket)) {
                Ok(got) => {
                    self.tls
                        .process_new_packets()
                        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                    Ok(Some(got))
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    Ok(None)
                }
                Err(error) => Err(error),
            }
        }

        pub fn send(
            &mut self,
            bytes: &[u8],
            deadline: BootTime,
            sent: &mut usize,
        ) -> io::Result<()> {
            *sent = 0;
            self.tls.writer().write_all(bytes)?;
            // From here on parts may be under way.
            *sent = 1;
            while self.tls.wants_write() {
                self.turn(deadline)?;
            }
            *sent = bytes.len();
            Ok(())
        }

        pub fn receive(&mut self, into: &mut [u8], deadline: BootTime) -> io::Result<usize> {
            loop {
                if let Some(got) = self.receive_now(into)? {
                    return Ok(got);
                }
                super::wait(self.fd(), libc::POLLIN, deadline)?;
            }
        }

        pub fn receive_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
            loop {
                match self.tls.reader().read(into) {
                    Ok(got) => return Ok(Some(got)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                match self.pull()? {
                    None => return Ok(None),
                    Some(0) => return Ok(Some(0)),
                    Some(_) => {}
                }
            }
        }
    }

    fn refused(error: rustls::Error) -> Error {
        Error::new(Code::Protocol, format!("TLS cannot be set up: {error}"))
    }

    fn client_config(options: &Tls) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(refused)?;
        if options.insecure || cfg!(canary = "trust_anything") {
            let verifier = Arc::new(AcceptAnything(provider));
            return Ok(Arc::new(
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
                    .with_no_client_auth(),
            ));
        }
        let mut roots = RootCertStore::empty();
        match &options.ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                let unreadable = |why: &dyn std::fmt::Display| {
                    Error::new(Code::InvalidUrl, format!("`ca_file` cannot be used: {why}"))
                };
                let pem = crate::url::read_small(file, MOST_AUTHORITIES)
                    .map_err(|error| unreadable(&error.kind()))?;
                for certificate in CertificateDer::pem_slice_iter(&pem) {
                    roots
                        .add(certificate.map_err(|error| unreadable(&error))?)
                        .map_err(|error| unreadable(&error))?;
                }
            }
        }
        Ok(Arc::new(
            builder.with_root_certificates(roots).with_no_client_auth(),
        ))
    }

    /// `insecure=1`: somebody spelled it.
    #[derive(Debug)]
    struct AcceptAnything(Arc<rustls::crypto::CryptoProvider>);

    impl ServerCertVerifier for AcceptAnything {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> std::result::Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls12_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
            rustls::crypto::verify_tls13_signature(
                message,
                certificate,
                signature,
                &self.0.signature_verification_algorithms,
            )
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
