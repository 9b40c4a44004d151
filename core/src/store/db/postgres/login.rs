//! How a session on PostgreSQL begins.

use super::super::config::Config;
use super::super::fault::Fault;
use super::super::rows::odd;
use super::Done;
use super::answer::{out_of_turn, said};
use super::wire::{Wire, nonsense, unfit};
use crate::lease::BootTime;
use crate::secret::Secret;
use crate::store::net::Stream;
use crate::{Code, Error, Result};
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use std::io;

/// Rounds of hashing that a server may ask of us: real ones ask for 4096.
const MOST_ROUNDS: u32 = 1_000_000;
/// Logs in; the server's number of the session, and its version.
pub(super) fn log_in(wire: &mut Wire, config: &Config, deadline: BootTime) -> Done<(i64, String)> {
    let (mut pid, mut version) = (0, String::new());
    // For whoever looks at pg_stat_activity.
    let name = format!("synlock-{}", std::process::id());
    let user = config.user.reveal();
    let database = config.database.as_deref().unwrap_or(user);
    let words = [
        ("user", user),
        ("database", database),
        ("application_name", &name),
        ("client_encoding", "UTF8"),
    ];
    frontend::startup_message(words, &mut wire.out).map_err(|error| Fault::dead(unfit(&error)))?;
    wire.flush(deadline)?;
    let (mut proof, mut begun) = (None, false);
    loop {
        match wire.next(deadline)? {
            Message::AuthenticationOk => {
                if proof.is_some() {
                    return Err(Fault::dead(odd("the server does not prove who it is")));
                }
            }
            Message::AuthenticationCleartextPassword => {
                if !config.is_private() {
                    return Err(Fault::dead(Error::new(
                        Code::Permission,
                        "the server wants the password as it is, which only goes over TLS or a unix socket",
                    )));
                }
                say_password(wire, wanted(config)?.reveal().as_bytes(), deadline)?;
            }
            Message::AuthenticationMd5Password(body) => {
                let password = wanted(config)?.reveal().as_bytes();
                let hash = md5_hash(user.as_bytes(), password, body.salt());
                say_password(wire, hash.as_bytes(), deadline)?;
            }
            // Once: each time costs us the hashing that the server asks for.
            Message::AuthenticationSasl(body) if !begun => {
                begun = true;
                proof = Some(begin_scram(wire, config, &body, deadline)?);
            }
            Message::AuthenticationSaslContinue(body) => {
                let scram = proof.as_mut().ok_or_else(out_of_turn)?;
                if rounds(body.data()).is_none_or(|rounds| rounds > MOST_ROUNDS) {
                    return Err(Fault::dead(odd("it asks for too many rounds of hashing")));
                }
                scram
                    .update(body.data())
                    .map_err(|error| nonsense(&error))?;
                frontend::sasl_response(scram.message(), &mut wire.out)
                    .map_err(|error| nonsense(&error))?;
                wire.flush(deadline)?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let mut scram = proof.take().ok_or_else(out_of_turn)?;
                scram.finish(body.data()).map_err(|_| {
                    let words = "the server does not accept the password, or does not know it";
                    Fault::dead(Error::new(Code::Permission, words))
                })?;
            }
            Message::BackendKeyData(body) => pid = i64::from(body.process_id()),
            Message::ParameterStatus(body) => {
                if body.name().is_ok_and(|name| name == "server_version") {
                    version = body.value().unwrap_or_default().to_owned();
                }
            }
            // Some servers repeat what they did not understand.
            Message::ErrorResponse(body) => return Err(said(body.fields(), false)),
            Message::NoticeResponse(_) => {}
            Message::ReadyForQuery(_) => return Ok((pid, version)),
            Message::AuthenticationGss
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential
            | Message::AuthenticationSspi => {
                return Err(Fault::dead(Error::unsupported(
                    "the server wants another proof of who we are than a password",
                )));
            }
            _ => return Err(out_of_turn()),
        }
    }
}

fn say_password(wire: &mut Wire, words: &[u8], deadline: BootTime) -> Done<()> {
    frontend::password_message(words, &mut wire.out).map_err(|error| Fault::dead(unfit(&error)))?;
    wire.flush(deadline)
}

fn begin_scram(
    wire: &mut Wire,
    config: &Config,
    body: &AuthenticationSaslBody,
    deadline: BootTime,
) -> Done<sasl::ScramSha256> {
    let known = body
        .mechanisms()
        .any(|mechanism| Ok(mechanism == sasl::SCRAM_SHA_256))
        .map_err(|error| nonsense(&error))?;
    if !known {
        return Err(Fault::dead(Error::unsupported(
            "the server wants another proof of who we are than SCRAM-SHA-256",
        )));
    }
    let password = wanted(config)?.reveal().as_bytes();
    let scram = sasl::ScramSha256::new(password, sasl::ChannelBinding::unsupported());
    frontend::sasl_initial_response(sasl::SCRAM_SHA_256, scram.message(), &mut wire.out)
        .map_err(|error| nonsense(&error))?;
    wire.flush(deadline)?;
    Ok(scram)
}

/// TLS begins once the server has said so with one letter; what it says behind that letter was not
/// said by it.
pub(super) fn ask_for_tls(stream: &mut Stream, deadline: BootTime) -> Result<()> {
    let mut words = bytes::BytesMut::new();
    frontend::ssl_request(&mut words);
    let failed = |error: io::Error| {
        Error::new(
            Code::Unavailable,
            format!("the server does not answer: {error}"),
        )
    };
    let mut sent = 0;
    stream.send(&words, deadline, &mut sent).map_err(failed)?;
    let mut letter = [0u8; 1];
    match stream.receive(&mut letter, deadline).map_err(failed)? {
        1 if letter == *b"S" => Ok(()),
        1 if letter == *b"N" => Err(Error::new(
            Code::Permission,
            "the server has no TLS, and without it nothing is sent",
        )),
        0 => Err(failed(io::ErrorKind::UnexpectedEof.into())),
        _ => Err(odd("it does not know whether it has TLS")),
    }
}

fn wanted(config: &Config) -> Done<&Secret> {
    config
        .password
        .as_ref()
        .ok_or_else(|| Fault::dead(Error::new(Code::Permission, "the server wants a password")))
}

/// Rounds of hashing in a server's first message: `r=…,s=…,i=4096`.
pub(super) fn rounds(message: &[u8]) -> Option<u32> {
    std::str::from_utf8(message)
        .ok()?
        .split(',')
        .find_map(|part| part.strip_prefix("i="))?
        .parse()
        .ok()
}
