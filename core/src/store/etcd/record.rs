//! What stands in a claim's key: JSON, for people and for the rules. A peer's is empty.

use super::names;
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::store::Claim;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// Number of the layout; others with the same fields are read as well.
const LAYOUT: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };

/// What is read out of one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Record {
    /// `None` in a peer's.
    pub token: Option<OwnerToken>,
    pub mode: Mode,
    pub host: Option<String>,
    pub pid: Option<u32>,
    pub label: Option<String>,
    /// The lock's whole name, if its key shows it in part.
    pub name: Option<Vec<u8>>,
}

fn mode_text(mode: Mode) -> String {
    match mode {
        Mode::Exclusive => "x".to_owned(),
        Mode::Shared => "s".to_owned(),
        Mode::Permits { take, of } => format!("p{take}of{of}"),
    }
}

fn mode_of(text: &str) -> Option<Mode> {
    match text {
        "x" => Some(Mode::Exclusive),
        "s" => Some(Mode::Shared),
        permits => {
            let (take, of) = permits.strip_prefix('p')?.split_once("of")?;
            let (take, of) = (take.parse().ok()?, of.parse().ok()?);
            Mode::Permits { take, of }.check().ok()
        }
    }
}

/// The record of a claim of `token`, by a process that others see as `host` and `pid`.
pub(super) fn write(claim: &Claim, token: OwnerToken, host: &str, pid: u32) -> String {
    let mut out = json!({
        "synlock": LAYOUT,
        "token": token.to_hex(),
        "mode": mode_text(claim.mode),
        "host": host,
        "pid": pid,
    });
    if let Some(label) = &claim.label {
        out["label"] = json!(**label);
    }
    if names::is_long(claim.name.as_bytes()) {
        out["name"] = json!(BASE64.encode(claim.name.as_bytes()));
    }
    out.to_string()
}

/// What a key says. Whatever is not ours is a peer's, and exclusive.
pub(super) fn read(data: &[u8]) -> Record {
    ours(data).unwrap_or_default()
}

fn ours(data: &[u8]) -> Option<Record> {
    if data.first() != Some(&b'{') {
        return None;
    }
    let value: Value = serde_json::from_slice(data).ok()?;
    value.get("synlock")?.as_u64()?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    Some(Record {
        token: OwnerToken::from_hex(text("token")?.as_bytes()),
        // What cannot be read keeps everybody out.
        mode: text("mode").and_then(mode_of).unwrap_or_default(),
        host: text("host")
            .map(str::to_owned)
            .filter(|host| !host.is_empty()),
        pid: value
            .get("pid")
            .and_then(Value::as_u64)
            .and_then(|pid| u32::try_from(pid).ok()),
        label: text("label").map(str::to_owned),
        name: text("name").and_then(|name| BASE64.decode(name).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_come_back_and_a_peer_s_is_exclusive() {
        for mode in [
            Mode::Exclusive,
            Mode::Shared,
            Mode::Permits { take: 2, of: 9 },
        ] {
            assert_eq!(mode_of(&mode_text(mode)), Some(mode));
        }
        for data in ["", "x", "{}", "[1]", "{\"token\":\"00\"}", "{"] {
            assert_eq!(read(data.as_bytes()), Record::default(), "{data}");
        }
        let odd = read(br#"{"synlock":7,"token":"00","mode":"p9of2","pid":-1}"#);
        assert_eq!(
            (odd.token, odd.mode, odd.pid),
            (None, Mode::Exclusive, None)
        );
    }
}
