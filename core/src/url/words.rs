//! What the parts of a URL are read and written with.

/// Whether this can be `user:password@host` with a `?` in the password. Names and absolute paths with an `@`
/// in the label beside them stay readable.
pub(super) fn is_cut_login(path: &str, query: &str) -> bool {
    let is_plain = path.is_empty() || (path.starts_with('/') && !path.contains(':'));
    let has_host = |pair: &str| pair.contains('@') && !pair.starts_with("label=");
    !is_plain && query.split('&').any(has_host)
}

/// Splits `A,B,C)…` at the commas that stand in no inner list; what follows it.
pub(super) fn split_list(text: &str) -> std::result::Result<(Vec<String>, &str), String> {
    let (mut depth, mut start, mut members) = (0u32, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b',' if depth == 0 => {
                members.push(text[start..at].to_owned());
                start = at + 1;
            }
            b')' if depth == 0 => {
                members.push(text[start..at].to_owned());
                let rest = &text[at + 1..];
                return if rest.is_empty() || rest.starts_with('?') {
                    Ok((members, rest))
                } else {
                    Err("something other than options follows the list of members".into())
                };
            }
            b')' => depth -= 1,
            _ => {}
        }
    }
    Err("the list of members lacks its closing parenthesis".into())
}

/// Whether this can be one of several hosts before the last port: at most a name and a port.
pub(super) fn may_be_host(text: &str) -> bool {
    text.split_once(':')
        .is_none_or(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

pub(super) fn decode(text: &str) -> std::result::Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
            // Canary of row 36: the end of the text is not expected here.
            if cfg!(canary = "loose_percent") && rest.len() < 2 {
                unreachable!("two digits follow");
            }
            match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => bytes.push((high * 16 + low) as u8),
                _ => {
                    return Err(
                        "the URL has a `%` that two hexadecimal digits do not follow".into(),
                    );
                }
            }
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| "the URL is not UTF-8 once decoded".into())
}

/// Percent-encodes whatever could mean something in a URL.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}

/// Levenshtein distance, for suggestions.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(40).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
