//! TLS on top of a socket, by rustls.

use super::{Socket, Tls, wait};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::sync::Arc;

#[derive(Debug)]
pub(in crate::store) struct TlsStream {
    socket: Socket,
    tls: ClientConnection,
}

/// Bytes of a `ca_file`; a system's whole collection has a quarter of a megabyte.
const MOST_AUTHORITIES: usize = 8 * 1024 * 1024;

/// Reads in a row, none of which brings anything for us, after which others have their turn.
const MOST_PULLS: usize = 256;

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
        self.0.send_now(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsStream {
    pub fn connect(socket: Socket, host: &str, options: &Tls, deadline: BootTime) -> Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
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

    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    pub fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Moves bytes in whichever direction TLS wants next.
    fn turn(&mut self, deadline: BootTime) -> io::Result<()> {
        if self.tls.wants_write() {
            match self.tls.write_tls(&mut Wire(&self.socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(self.fd(), libc::POLLOUT, deadline)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                other => other.map(drop),
            }
        } else {
            match self.pull()? {
                Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => Ok(()),
                None => wait(self.fd(), libc::POLLIN, deadline),
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

    pub fn send(&mut self, bytes: &[u8], deadline: BootTime, sent: &mut usize) -> io::Result<()> {
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
            wait(self.fd(), libc::POLLIN, deadline)?;
        }
    }

    pub fn receive_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        // Records may bring nothing for us, and without an end.
        for _ in 0..MOST_PULLS {
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
        match self.tls.reader().read(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            done => done.map(Some),
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
            let pem = crate::secret::read_small(file, MOST_AUTHORITIES)
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
