//! What stands in a claim's node: for people, and for peers that compare it.

use super::config::Dialect;
use crate::owner::OwnerToken;
use crate::store::Claim;
use sha2::{Digest, Sha256};

/// Number of the layout of nodes; others with the same fields are read as well.
const LAYOUT: &str = if cfg!(feature = "next-layout") {
    "2"
} else {
    "1"
};

/// `layout host pid label`; for Symfony the token as it writes its own.
pub(super) fn write(dialect: Dialect, claim: &Claim, who: &str) -> Vec<u8> {
    if dialect == Dialect::Symfony {
        return symfony_token(claim.token).into_bytes();
    }
    let label = claim.label.as_deref().unwrap_or_default();
    format!("{LAYOUT} {who} {label}").into_bytes()
}

/// Host, pid and label, if it is one of ours; otherwise what a peer wrote, as a label.
pub(super) fn read(data: &[u8]) -> (Option<String>, Option<u32>, Option<String>) {
    let text = String::from_utf8_lossy(data);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut parts = text.splitn(4, ' ');
    let ours = || {
        parts.next()?.parse::<u32>().ok()?;
        let (host, pid) = (parts.next()?, parts.next()?.parse::<u32>().ok()?);
        Some((host.to_owned(), pid, some(parts.next()?)))
    };
    match { ours }() {
        Some((host, pid, label)) => (Some(host), Some(pid), label),
        None => (None, None, some(&text)),
    }
}

/// Of who broke the lock under those with a fencing token up to `last`: `broken last layout host pid label`.
pub(super) fn write_note(last: u64, who: &str, label: &str) -> Vec<u8> {
    format!("broken {last} {LAYOUT} {who} {label}").into_bytes()
}

/// The token, and what `read` reads.
pub(super) fn read_note(data: &[u8]) -> Option<(u64, &[u8])> {
    let rest = data.strip_prefix(b"broken ")?;
    let end = rest.iter().position(|byte| *byte == b' ')?;
    let last = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((last, &rest[end + 1..]))
}

/// 32 bytes in base64, as Symfony draws them; ours begin with the token.
pub(super) fn symfony_token(token: OwnerToken) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let hash = Sha256::digest(token.as_bytes());
    let bytes = [&token.as_bytes()[..], &hash[..16]].concat();
    let mut out = String::with_capacity(44);
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * (3 - three.len()));
        for place in 0..4 {
            if place <= three.len() {
                let digit = bits >> (18 - 6 * place) & 63;
                out.push(char::from(DIGITS[digit as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_looks_like_symfony_s() {
        let text = symfony_token(OwnerToken::from_bytes([0; 16]));
        assert_eq!(text.len(), 44);
        assert!(text.starts_with("AAAAAAAAAAAAAAAAAAAAA") && text.ends_with('='));
    }

    #[test]
    fn records_are_read_back_and_peers_words_are_labels() {
        let ours = read("1 host 42 nightly | café".as_bytes());
        assert_eq!(
            ours,
            (Some("host".into()), Some(42), Some("nightly | café".into()))
        );
        assert_eq!(read(b"1 h 2 "), (Some("h".into()), Some(2), None));
        assert_eq!(
            read(b"worker of kazoo"),
            (None, None, Some("worker of kazoo".into()))
        );
        assert_eq!(read(b""), (None, None, None));
    }

    #[test]
    fn notes_are_read_back() {
        let note = write_note(77, "host 42", "the boss");
        assert_eq!(read_note(&note), Some((77, &b"1 host 42 the boss"[..])));
        for other in [&b""[..], b"broken", b"broken x 1 h 2 z", b"the whole name"] {
            assert_eq!(read_note(other), None);
        }
    }
}
