//! What stands in a lock's item.

use super::config::Dialect;
use crate::owner::OwnerToken;
use crate::store::Holder;
use crate::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::time::Duration;

/// Number of the layout; others with the same fields are read as well.
const LAYOUT: &str = if cfg!(feature = "next-layout") {
    "2"
} else {
    "1"
};

/// The value for an owner. Without a fencing token the item's own number is it.
pub(super) fn write(
    dialect: Dialect,
    token: OwnerToken,
    fence: Option<u64>,
    who: &str,
    hidden_name: Option<&[u8]>,
) -> Vec<u8> {
    let token = token.to_hex();
    if dialect == Dialect::Symfony {
        return BASE64.encode(token.as_bytes()).into_bytes();
    }
    let fence = fence.map(|fence| fence.to_string()).unwrap_or_default();
    let mut value = format!("{token}|{LAYOUT}|{fence}|{who}").into_bytes();
    if let Some(name) = hidden_name {
        value.extend_from_slice(b"\n\n");
        value.extend_from_slice(name);
    }
    value
}

/// `host pid label`. A record is one line.
pub(super) fn who(host_and_pid: &str, label: Option<&str>) -> String {
    let label = label.unwrap_or_default();
    let label = label.replace('%', "%25").replace('\n', "%0A");
    format!("{host_and_pid} {label}")
}

pub(super) fn is_of(dialect: Dialect, value: &[u8], token: OwnerToken) -> bool {
    let token = token.to_hex();
    match dialect {
        Dialect::Native => value
            .strip_prefix(token.as_bytes())
            .is_some_and(|rest| rest.first() == Some(&b'|')),
        Dialect::Symfony => value == BASE64.encode(token.as_bytes()).as_bytes(),
    }
}

/// The fields of a native value: token, layout, fence, who.
fn fields(value: &[u8]) -> Option<[&str; 4]> {
    let line = value.split(|byte| *byte == b'\n').next()?;
    let mut fields = std::str::from_utf8(line).ok()?.splitn(4, '|');
    let found = [
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    ];
    (found[0].len() == 32).then_some(found)
}

/// The fencing token of whoever holds the item with the number `cas`.
pub(super) fn fence(dialect: Dialect, value: &[u8], cas: u64) -> u64 {
    let kept = match dialect {
        Dialect::Native => fields(value).and_then(|[_, _, fence, _]| fence.parse().ok()),
        Dialect::Symfony => None,
    };
    kept.unwrap_or(cas)
}

/// The same value with a new owner, or its fencing token written down, which the item's next number
/// would hide.
pub(super) fn renew(
    dialect: Dialect,
    value: &[u8],
    cas: u64,
    owner: OwnerToken,
) -> Result<Vec<u8>> {
    if dialect == Dialect::Symfony {
        return Ok(write(dialect, owner, None, "", None));
    }
    let Some([_, layout, _, _]) = fields(value) else {
        return Err(odd());
    };
    let fence = fence(dialect, value, cas);
    // The rest is kept as it is, whatever a newer layout put there.
    let rest = value
        .splitn(4, |byte| *byte == b'|')
        .nth(3)
        .ok_or_else(odd)?;
    let head = format!("{}|{layout}|{fence}|", owner.to_hex());
    Ok([head.as_bytes(), rest].concat())
}

fn odd() -> Error {
    Error::new(
        crate::Code::Protocol,
        "something else than a lock stands at the key",
    )
}

/// The holder as people see it; `None` if this is no lock's value.
pub(super) fn holder(
    dialect: Dialect,
    value: &[u8],
    cas: u64,
    left: Option<Duration>,
) -> Option<Holder> {
    let holder = Holder {
        mode: "exclusive",
        permits: 1,
        remaining: left,
        fence: Some(fence(dialect, value, cas)),
        ..Holder::default()
    };
    if dialect == Dialect::Symfony {
        // Less than a quarter of the token.
        let owner = String::from_utf8_lossy(value).chars().take(8).collect();
        return Some(Holder { owner, ..holder });
    }
    let [token, _, _, who] = fields(value)?;
    let mut who = who.splitn(3, ' ');
    let (host, pid, label) = (who.next()?, who.next()?, who.next().unwrap_or_default());
    let label = label.replace("%0A", "\n").replace("%25", "%");
    Some(Holder {
        owner: token.get(..8)?.to_owned(),
        brand: OwnerToken::brand_of(token),
        host: Some(host.to_owned()),
        pid: pid.parse().ok(),
        label: Some(label).filter(|label| !label.is_empty()),
        ..holder
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_fence_and_its_holder() {
        let [a, b] = [1, 2].map(|byte| OwnerToken::from_bytes([byte; 16]));
        let who = who("box 7", Some("a|b%\nc"));
        let first = write(Dialect::Native, a, None, &who, Some(b"name|x"));
        assert!(is_of(Dialect::Native, &first, a) && !is_of(Dialect::Native, &first, b));
        assert_eq!(fence(Dialect::Native, &first, 9), 9);
        let second = renew(Dialect::Native, &first, 9, b).unwrap();
        assert!(is_of(Dialect::Native, &second, b));
        assert_eq!(fence(Dialect::Native, &second, 30), 9);
        assert!(second.ends_with(b"\n\nname|x"));
        let holder = holder(Dialect::Native, &second, 30, None).unwrap();
        assert_eq!(holder.label.as_deref(), Some("a|b%\nc"));
        assert_eq!((holder.pid, holder.fence), (Some(7), Some(9)));
        assert!(renew(Dialect::Native, b"cached page", 1, a).is_err());
    }

    #[test]
    fn symfony_sees_44_characters() {
        let token = OwnerToken::from_bytes([7; 16]);
        let value = write(Dialect::Symfony, token, Some(1), "", None);
        assert_eq!(value.len(), 44);
        assert!(value.ends_with(b"=") && is_of(Dialect::Symfony, &value, token));
    }
}
