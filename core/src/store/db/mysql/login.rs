//! How a session on MySQL or MariaDB begins.

use super::super::LONGEST;
use super::super::config::Config;
use super::super::fault::Fault;
use super::packets::{Packets, out_of_turn, short, take, take_text};
use super::{Done, said};
use crate::lease::BootTime;
use crate::{Code, Error};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What we can: long passwords, matched rows counted, the 4.1 protocol, transactions, secure
/// passwords, plugins.
const ABILITIES: u32 = 0x1 | 0x2 | 0x200 | 0x2000 | 0x8000 | 0x8_0000;
const WITH_DATABASE: u32 = 0x8;
const WITH_TLS: u32 = 0x800;
const WITH_ATTRIBUTES: u32 = 0x10_0000;
/// `utf8mb4_general_ci`, which every server of either kind knows.
const CHARSET: u8 = 45;

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";
const CLEAR: &str = "mysql_clear_password";
const SOCKET: &str = "auth_socket";

/// How a server greets.
pub(super) struct Greeting {
    version: String,
    id: u32,
    abilities: u32,
    nonce: Vec<u8>,
    plugin: String,
}

/// Greets, secures and logs in; the server's number of the session, and its version.
pub(super) fn log_in(
    mut packets: Packets,
    config: &Config,
    deadline: BootTime,
) -> Done<(Packets, i64, String)> {
    let first = packets.next(deadline)?;
    if first.first() == Some(&0xff) {
        return Err(said(&first, false));
    }
    let greeting = Greeting::read(&first).ok_or_else(|| short("its greeting"))?;
    let mut abilities = ABILITIES | greeting.abilities & WITH_ATTRIBUTES;
    if config.database.is_some() {
        abilities |= WITH_DATABASE;
    }
    if let Some(options) = &config.tls {
        if greeting.abilities & WITH_TLS == 0 {
            return Err(Fault::dead(Error::new(
                Code::Permission,
                "the server has no TLS, and without it nothing is sent",
            )));
        }
        abilities |= WITH_TLS;
        packets.send(&login_head(abilities), deadline)?;
        packets = packets.secured(config, options, deadline)?;
    }
    let password = config
        .password
        .as_ref()
        .map_or("", |secret| secret.reveal());
    let (plugin, proof) = match prove(&greeting.plugin, password, &greeting.nonce) {
        Some(proof) => (greeting.plugin.as_str(), proof),
        // The server will say which one the user needs.
        None => (NATIVE, native(password, &greeting.nonce)),
    };
    let mut login = login_head(abilities);
    put_text(&mut login, config.user.reveal());
    login.push(u8::try_from(proof.len()).unwrap_or(0));
    login.extend(&proof);
    if let Some(database) = &config.database {
        put_text(&mut login, database);
    }
    put_text(&mut login, plugin);
    if abilities & WITH_ATTRIBUTES != 0 {
        put_attributes(&mut login);
    }
    packets.send(&login, deadline)?;
    prove_on(&mut packets, config, deadline)?;
    Ok((packets, i64::from(greeting.id), greeting.version))
}

/// Answers what the server asks for until it lets us in.
fn prove_on(packets: &mut Packets, config: &Config, deadline: BootTime) -> Done<()> {
    let password = config
        .password
        .as_ref()
        .map_or("", |secret| secret.reveal());
    for _ in 0..8 {
        let packet = packets.next(deadline)?;
        match (packet.first(), packet.get(1)) {
            (Some(0x00), _) => return Ok(()),
            (Some(0xff), _) => return Err(said(&packet, false)),
            // Use another plugin, with another nonce.
            (Some(0xfe), Some(_)) => {
                let mut rest = packet.get(1..).unwrap_or_default();
                let plugin = take_text(&mut rest).ok_or_else(|| short("a change of plugin"))?;
                let nonce = rest.strip_suffix(b"\0").unwrap_or(rest);
                let proof = match plugin.as_str() {
                    CLEAR if config.is_private() => terminated(password),
                    // The name of the system's user proves itself.
                    SOCKET => Vec::new(),
                    plugin => prove(plugin, password, nonce).ok_or_else(|| unknown(plugin))?,
                };
                packets.send(&proof, deadline)?;
            }
            // caching_sha2_password: it knows the proof, or wants the password itself.
            (Some(0x01), Some(3)) => {}
            (Some(0x01), Some(4)) => {
                if !config.is_private() {
                    return Err(Fault::dead(Error::new(
                        Code::Permission,
                        "the server wants the password as it is, which only goes over TLS or a unix socket",
                    )));
                }
                packets.send(&terminated(password), deadline)?;
            }
            _ => return Err(out_of_turn()),
        }
    }
    Err(out_of_turn())
}

impl Greeting {
    pub fn read(packet: &[u8]) -> Option<Self> {
        let mut rest = packet.strip_prefix(&[10])?;
        let version = take_text(&mut rest)?;
        let id = u32::from_le_bytes(take(&mut rest, 4)?.try_into().ok()?);
        let mut nonce = take(&mut rest, 8)?.to_vec();
        take(&mut rest, 1)?;
        let low = u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?);
        take(&mut rest, 3)?;
        let high = u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?);
        let length = usize::from(*take(&mut rest, 1)?.first()?);
        take(&mut rest, 10)?;
        let second = take(&mut rest, length.saturating_sub(8).max(13))?;
        nonce.extend(second.strip_suffix(b"\0").unwrap_or(second));
        let plugin = take_text(&mut rest).unwrap_or_default();
        Some(Greeting {
            version,
            id,
            abilities: u32::from(low) | u32::from(high) << 16,
            nonce,
            plugin,
        })
    }
}

/// What a login begins with, and all that is said of it before TLS.
fn login_head(abilities: u32) -> Vec<u8> {
    let mut head = abilities.to_le_bytes().to_vec();
    head.extend((LONGEST as u32).to_le_bytes());
    head.push(CHARSET);
    head.extend([0; 23]);
    head
}

/// What an administrator sees of us in `performance_schema`.
fn put_attributes(login: &mut Vec<u8>) {
    let pid = std::process::id().to_string();
    let words = ["_pid", &pid, "program_name", "synlock"];
    // Each with its length before it, and all of them with theirs: less than 251 bytes.
    let length = words.iter().map(|word| 1 + word.len()).sum::<usize>();
    login.push(u8::try_from(length).unwrap_or(0));
    for word in words {
        login.push(u8::try_from(word.len()).unwrap_or(0));
        login.extend(word.as_bytes());
    }
}

/// The proof that we know the password, by one of the plugins that we have.
fn prove(plugin: &str, password: &str, nonce: &[u8]) -> Option<Vec<u8>> {
    match plugin {
        NATIVE => Some(native(password, nonce)),
        CACHING => Some(caching(password, nonce)),
        _ => None,
    }
}

/// SHA1(password) xor SHA1(nonce, SHA1(SHA1(password))).
fn native(password: &str, nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha1::digest(password.as_bytes());
    let twice = Sha1::digest(once);
    let mixed = Sha1::new()
        .chain_update(nonce.get(..20).unwrap_or(nonce))
        .chain_update(twice)
        .finalize();
    once.iter().zip(mixed).map(|(a, b)| a ^ b).collect()
}

/// SHA256(password) xor SHA256(SHA256(SHA256(password)), nonce).
fn caching(password: &str, nonce: &[u8]) -> Vec<u8> {
    if password.is_empty() {
        return Vec::new();
    }
    let once = Sha256::digest(password.as_bytes());
    let mixed = Sha256::new()
        .chain_update(Sha256::digest(once))
        .chain_update(nonce.get(..20).unwrap_or(nonce))
        .finalize();
    once.iter().zip(mixed).map(|(a, b)| a ^ b).collect()
}

fn unknown(plugin: &str) -> Fault {
    let words = match plugin {
        CLEAR => {
            "the server wants the password as it is, which only goes over TLS or a unix socket"
        }
        _ => {
            "the server wants another proof of who we are than mysql_native_password or caching_sha2_password"
        }
    };
    Fault::dead(Error::new(Code::Permission, words))
}

fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend(text.as_bytes());
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by Python's hashlib.
    #[test]
    fn proofs_are_those_of_the_protocol() {
        let hex = |bytes: &[u8]| {
            bytes
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        let nonce = [b'n'; 20];
        assert_eq!(
            hex(&native("secret", &nonce)),
            "51ea93efd8faa66ad9987bd1be115299dd094149"
        );
        assert_eq!(
            hex(&caching("secret", &nonce)),
            "12237e3647e33196e46d6d0326f67725fe3e4cae9575c7c380d4dc033fd98aa2"
        );
        assert!(native("", &nonce).is_empty() && caching("", &nonce).is_empty());
    }
}
