//! Where a reply ends: RESP2 frames are measured before they are parsed, so that a hostile server
//! cannot make us allocate or recurse.

use crate::codes::Code;
use crate::{Error, Result};

/// The longest reply that is ours to expect.
pub(super) const LONGEST: usize = 16 * 1024 * 1024;
/// Far more than SCAN gives or a lock has holders; each costs the parser some hundred bytes.
const MOST_ELEMENTS: usize = 1 << 17;
/// Arrays in one reply; ours have three at most, and nested ones cost the parser its stack.
const MOST_ARRAYS: usize = 64;
/// The longest line that tells a length, an integer or an error.
const LONGEST_LINE: usize = 64 * 1024;

fn bad(words: &str) -> Error {
    Error::new(
        Code::Protocol,
        format!("the server answered what is no reply of Redis: {words}"),
    )
}

/// Length of the first whole reply in `bytes`; `None` if more must arrive.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let mut at = 0;
    // Elements that are still to come.
    let mut left = 1usize;
    let mut arrays = 0;
    while left > 0 {
        let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else {
            return Ok(None);
        };
        let Some(end) = rest
            .iter()
            .take(LONGEST_LINE)
            .position(|byte| *byte == b'\n')
        else {
            return if rest.len() >= LONGEST_LINE {
                Err(bad("an endless line"))
            } else {
                check_type(rest).map(|()| None)
            };
        };
        check_type(rest)?;
        let line = rest
            .get(1..end)
            .and_then(|line| line.strip_suffix(b"\r"))
            .ok_or_else(|| bad("a line without its end"))?;
        at += end + 1;
        left -= 1;
        match rest[0] {
            b'$' => {
                if let Some(size) = size(line, LONGEST)? {
                    at += size + 2;
                }
            }
            b'*' => {
                left += size(line, MOST_ELEMENTS)?.unwrap_or(0);
                arrays += 1;
                if left > MOST_ELEMENTS || arrays > MOST_ARRAYS {
                    return Err(bad("too many elements"));
                }
            }
            _ => {}
        }
        if at > LONGEST && !cfg!(canary = "no_bounds") {
            return Err(bad("a reply of over 16 MiB"));
        }
    }
    Ok((at <= bytes.len()).then_some(at))
}

/// The number, if the bytes are one whole integer reply and nothing else: what a pair is answered with.
pub(super) fn integer(bytes: &[u8]) -> Option<i64> {
    let digits = bytes.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    if digits.is_empty() || digits.len() > 18 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0')),
    )
}

/// Takes the first whole reply out of `bytes`; `None` if more must arrive.
pub(super) fn take(bytes: &mut Vec<u8>) -> Result<Option<redis::Value>> {
    if bytes.is_empty() {
        return Ok(None);
    }
    if let Some(number) = integer(bytes) {
        bytes.clear();
        return Ok(Some(redis::Value::Int(number)));
    }
    let Some(length) = length(bytes)? else {
        return Ok(None);
    };
    let frame: Vec<u8> = bytes.drain(..length).collect();
    redis::parse_redis_value(&frame)
        .map(Some)
        .map_err(|_| bad("it cannot be read"))
}

fn check_type(rest: &[u8]) -> Result<()> {
    if matches!(rest.first(), Some(b'+' | b'-' | b':' | b'$' | b'*')) {
        Ok(())
    } else {
        Err(bad("an unknown type"))
    }
}

fn size(line: &[u8], most: usize) -> Result<Option<usize>> {
    if line == b"-1" {
        return Ok(None);
    }
    let text = std::str::from_utf8(line).map_err(|_| bad("a length that is no number"))?;
    match text.parse::<usize>() {
        Ok(size)
            if (size <= most || cfg!(canary = "no_bounds"))
                && text.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            Ok(Some(size))
        }
        _ => Err(bad("an impossible length")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_whole_replies() {
        for whole in [
            "+OK\r\n",
            ":12\r\n",
            "$3\r\nabc\r\n",
            "$-1\r\n",
            "*2\r\n:1\r\n$0\r\n\r\n",
            "*0\r\n",
            "*1\r\n*1\r\n+x\r\n",
        ] {
            assert_eq!(
                length(whole.as_bytes()).unwrap(),
                Some(whole.len()),
                "{whole:?}"
            );
            for cut in 0..whole.len() {
                assert_eq!(
                    length(&whole.as_bytes()[..cut]).unwrap(),
                    None,
                    "{whole:?} cut at {cut}"
                );
            }
            assert_eq!(
                length(format!("{whole}+more\r\n").as_bytes()).unwrap(),
                Some(whole.len())
            );
        }
    }

    #[test]
    fn short_integers_are_read_at_once_and_as_the_parser_does() {
        for text in [":0\r\n", ":1\r\n", ":999999999999999999\r\n"] {
            let parsed = redis::parse_redis_value(text.as_bytes()).unwrap();
            assert_eq!(
                integer(text.as_bytes()).map(redis::Value::Int),
                Some(parsed)
            );
        }
        for other in [
            ":",
            ":\r\n",
            ":1\r",
            ":-1\r\n",
            ":1\r\n:2\r\n",
            "+1\r\n",
            ":1a\r\n",
            ":1234567890123456789\r\n",
        ] {
            assert_eq!(integer(other.as_bytes()), None, "{other:?}");
        }
    }

    #[test]
    fn refuses_what_no_server_says() {
        for hostile in [
            "HTTP/1.1 200 OK\r\n",
            "$9223372036854775807\r\n",
            "*99999999999\r\n",
            "$-2\r\n",
            "$+5\r\n",
            "+a\n",
            "$999999999\r\n",
        ] {
            assert_eq!(
                length(hostile.as_bytes()).unwrap_err().code(),
                Code::Protocol,
                "{hostile:?}"
            );
        }
        // Small to send, and a hundred megabytes once parsed.
        let many = format!("*{}\r\n{}", 1 << 20, "+\r\n".repeat(1 << 20));
        assert!(length(many.as_bytes()).is_err());
        assert!(length(&[b'+'; LONGEST_LINE + 1]).is_err());
        assert!(length(&b"*1\r\n".repeat(MOST_ARRAYS + 1)).is_err());
    }

    #[test]
    fn never_panics_on_noise() {
        let mut state = 1u64;
        for _ in 0..200_000 {
            let noise: Vec<u8> = (0..20)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    b"+-:$*0123456789\r\n\xffab"[(state >> 33) as usize % 20]
                })
                .collect();
            let _ = length(&noise);
        }
    }
}
