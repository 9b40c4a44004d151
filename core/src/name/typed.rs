//! Names made from typed keys: `["order_", 17]` and the like, the same name in every language.
//!
//! A key is text, which stands for itself, or a list: its first element as text, then the MD5 of the
//! whole list in the JSON that PHP writes. That is what Avtonom's semaphore manager does, so that both
//! exclude each other. Its two oddities are kept for that reason: a whole float is written without its
//! point, and of lists that JSON cannot say (text that is not UTF-8) nothing but the first element counts.

use super::MAX_NAME;
use crate::{Error, Result};
use md5::{Digest, Md5};
use std::fmt::Write;

/// How deep lists may lie in lists.
const DEEPEST: usize = 64;

/// A key, or a part of one.
#[derive(Clone, PartialEq, Debug)]
pub enum Key {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number; finite.
    Float(f64),
    /// Text, which should be UTF-8.
    Text(Vec<u8>),
    /// Parts in their order.
    List(Vec<Key>),
    /// Parts by name, in the order given.
    Map(Vec<(Vec<u8>, Key)>),
}

impl Key {
    /// From JSON. Text in it may be of any bytes.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no JSON, for whole numbers of more than 64 bits, and for lists more
    /// than 64 deep.
    pub fn from_json(json: &[u8]) -> Result<Key> {
        let mut reader = Reader { json, at: 0 };
        let key = reader.value(0)?;
        reader.space();
        if reader.at < json.len() {
            return Err(reader.wrong());
        }
        Ok(key)
    }

    /// The name that the key stands for.
    ///
    /// # Errors
    /// `InvalidArgument` for a key that is neither text nor a list that begins with text, a number or
    /// nothing.
    pub fn render(&self, prefix: &[u8]) -> Result<Vec<u8>> {
        let mut name = prefix.to_vec();
        match self {
            Key::Text(text) => name.extend_from_slice(text),
            Key::List(parts) => {
                name.extend_from_slice(&first(parts)?);
                let json = self.to_json().unwrap_or_default();
                let hash = Md5::digest(json.as_bytes());
                name.extend(
                    hash.iter()
                        .flat_map(|byte| format!("{byte:02x}").into_bytes()),
                );
            }
            _ => {
                return Err(Error::invalid(
                    "a key is text, or a list that begins with text",
                ));
            }
        }
        if name.len() > MAX_NAME {
            return Err(Error::invalid(format!(
                "the key makes a name of {} bytes; {MAX_NAME} are the most",
                name.len()
            )));
        }
        Ok(name)
    }

    /// The JSON that PHP writes; nothing if a text in it is not UTF-8 or a number is not finite.
    pub fn to_json(&self) -> Option<String> {
        let mut out = String::new();
        self.write(&mut out, true)?;
        Some(out)
    }

    /// JSON for people to read: nothing is escaped that need not be, and what is not UTF-8 is replaced.
    pub fn shown(&self) -> String {
        let mut out = String::new();
        let _ = self.write(&mut out, false);
        out
    }

    fn write(&self, out: &mut String, exact: bool) -> Option<()> {
        match self {
            Key::Null => out.push_str("null"),
            Key::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
            Key::Int(number) => {
                let _ = write!(out, "{number}");
            }
            Key::Float(number) if number.is_finite() => out.push_str(&float(*number, None, 'e')),
            Key::Float(_) if exact => return None,
            Key::Float(number) => {
                let _ = write!(out, "{number}");
            }
            Key::Text(text) => quote(text, out, exact)?,
            Key::List(parts) => {
                out.push('[');
                for (place, part) in parts.iter().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    part.write(out, exact)?;
                }
                out.push(']');
            }
            Key::Map(parts) => {
                out.push('{');
                for (place, (name, part)) in parts.iter().enumerate() {
                    if place > 0 {
                        out.push(',');
                    }
                    quote(name, out, exact)?;
                    out.push(':');
                    part.write(out, exact)?;
                }
                out.push('}');
            }
        }
        Some(())
    }
}

/// The first element as PHP makes text of it.
fn first(parts: &[Key]) -> Result<Vec<u8>> {
    Ok(match parts.first() {
        Some(Key::Text(text)) => text.clone(),
        Some(Key::Int(number)) => number.to_string().into_bytes(),
        Some(Key::Float(number)) if number.is_finite() => {
            float(*number, Some(14), 'E').into_bytes()
        }
        Some(Key::Bool(true)) => b"1".to_vec(),
        Some(Key::Bool(false) | Key::Null) => Vec::new(),
        _ => {
            return Err(Error::invalid(
                "the first element of a key is text, a number or nothing",
            ));
        }
    })
}

/// A float as PHP writes it: with so many digits, or with as few as tell it from every other.
fn float(number: f64, digits: Option<usize>, exponent_mark: char) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let scientific = match digits {
        Some(digits) => format!("{:.*e}", digits - 1, number.abs()),
        None => format!("{:e}", number.abs()),
    };
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits_found: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let found = digits_found.trim_end_matches('0');
    let found = if found.is_empty() { "0" } else { found };
    // Where the point stands, counted from before the first digit.
    let point = exponent.parse::<i64>().unwrap_or(0) + 1;
    let sign = if number < 0.0 { "-" } else { "" };
    let most = digits.map_or(17, |digits| digits as i64);
    let count = found.len() as i64;
    if point < -3 || point > most {
        let (head, tail) = found.split_at(1);
        let tail = if tail.is_empty() { "0" } else { tail };
        return format!("{sign}{head}.{tail}{exponent_mark}{:+}", point - 1);
    }
    if point <= 0 {
        return format!(
            "{sign}0.{}{found}",
            "0".repeat(point.unsigned_abs() as usize)
        );
    }
    if count <= point {
        let zeros = "0".repeat((point - count) as usize);
        return format!("{sign}{found}{zeros}");
    }
    let (whole, part) = found.split_at(point as usize);
    format!("{sign}{whole}.{part}")
}

/// A string of JSON: exactly as PHP writes it, or as it reads best.
fn quote(text: &[u8], out: &mut String, exact: bool) -> Option<()> {
    let text = match std::str::from_utf8(text) {
        Ok(text) => std::borrow::Cow::Borrowed(text),
        Err(_) if exact => return None,
        Err(_) => String::from_utf8_lossy(text),
    };
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' if exact => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c if exact && !c.is_ascii() => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    Some(())
}

/// Reads JSON.
struct Reader<'a> {
    json: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self) -> Error {
        Error::invalid(format!("the key is no JSON: byte {} is wrong", self.at))
    }

    fn space(&mut self) {
        while self
            .peek()
            .is_some_and(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
        {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn take(&mut self, wanted: &[u8]) -> bool {
        let found = self.json[self.at..].starts_with(wanted);
        if found {
            self.at += wanted.len();
        }
        found
    }

    fn value(&mut self, depth: usize) -> Result<Key> {
        if depth > DEEPEST {
            return Err(Error::invalid("the key has lists more than 64 deep"));
        }
        self.space();
        match self.peek() {
            Some(b'"') => Ok(Key::Text(self.text()?)),
            Some(b'[') => self.list(depth),
            Some(b'{') => self.map(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ if self.take(b"null") => Ok(Key::Null),
            _ if self.take(b"true") => Ok(Key::Bool(true)),
            _ if self.take(b"false") => Ok(Key::Bool(false)),
            _ => Err(self.wrong()),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Key> {
        self.at += 1;
        let mut parts = Vec::new();
        self.space();
        if self.take(b"]") {
            return Ok(Key::List(parts));
        }
        loop {
            parts.push(self.value(depth + 1)?);
            self.space();
            if self.take(b"]") {
                return Ok(Key::List(parts));
            }
            if !self.take(b",") {
                return Err(self.wrong());
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Key> {
        self.at += 1;
        let mut parts = Vec::new();
        self.space();
        if self.take(b"}") {
            return Ok(Key::Map(parts));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong());
            }
            let name = self.text()?;
            self.space();
            if !self.take(b":") {
                return Err(self.wrong());
            }
            parts.push((name, self.value(depth + 1)?));
            self.space();
            if self.take(b"}") {
                return Ok(Key::Map(parts));
            }
            if !self.take(b",") {
                return Err(self.wrong());
            }
        }
    }

    fn number(&mut self) -> Result<Key> {
        let start = self.at;
        while self
            .peek()
            .is_some_and(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
        {
            self.at += 1;
        }
        let text = String::from_utf8_lossy(&self.json[start..self.at]);
        if text.bytes().any(|byte| b".eE".contains(&byte)) {
            let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
            return number.map(Key::Float).ok_or_else(|| self.wrong());
        }
        text.parse().map(Key::Int).map_err(|_| {
            Error::invalid(format!("the key has the number {text}: of 64 bits at most"))
        })
    }

    fn text(&mut self) -> Result<Vec<u8>> {
        self.at += 1;
        let mut text = Vec::new();
        loop {
            let byte = self.peek().ok_or_else(|| self.wrong())?;
            self.at += 1;
            match byte {
                b'"' => return Ok(text),
                b'\\' => self.escape(&mut text)?,
                0..=0x1f => return Err(self.wrong()),
                byte => text.push(byte),
            }
        }
    }

    fn escape(&mut self, text: &mut Vec<u8>) -> Result<()> {
        let byte = self.peek().ok_or_else(|| self.wrong())?;
        self.at += 1;
        text.push(match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = u32::from(self.unit()?);
                if (0xd800..0xdc00).contains(&code) && self.take(b"\\u") {
                    let low = u32::from(self.unit()?);
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(self.wrong());
                    }
                    code = 0x1_0000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                let c = char::from_u32(code).ok_or_else(|| self.wrong())?;
                text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.wrong()),
        });
        Ok(())
    }

    fn unit(&mut self) -> Result<u16> {
        let digits = self.json.get(self.at..self.at + 4);
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        // `from_str_radix` would take a sign.
        let digits = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong())?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn name(json: &str) -> String {
        let key = Key::from_json(json.as_bytes()).unwrap();
        String::from_utf8(key.render(b"lock_").unwrap()).unwrap()
    }

    /// The vectors write bytes that are no UTF-8 as `{"hex": …}`.
    fn from_vector(key: &Key) -> Key {
        match key {
            Key::Map(parts) if parts.len() == 1 && parts[0].0 == b"hex" => {
                let Key::Text(hex) = &parts[0].1 else {
                    panic!("hex is text")
                };
                let hex = std::str::from_utf8(hex).unwrap();
                let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
                Key::Text((0..hex.len() / 2).map(byte).collect())
            }
            Key::List(parts) => Key::List(parts.iter().map(from_vector).collect()),
            other => other.clone(),
        }
    }

    fn field<'a>(of: &'a Key, name: &str) -> &'a Key {
        let Key::Map(parts) = of else {
            panic!("{name} of {of:?}")
        };
        let found = parts.iter().find(|(known, _)| known == name.as_bytes());
        &found.unwrap_or_else(|| panic!("no {name} in {of:?}")).1
    }

    #[test]
    fn keys_become_the_names_that_the_original_makes() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/vectors/avtonom_key.json"
        );
        let file = Key::from_json(&std::fs::read(path).unwrap()).unwrap();
        let Key::List(rows) = field(&file, "rows") else {
            panic!("rows are a list")
        };
        assert!(rows.len() >= 47, "{} rows", rows.len());
        for row in rows {
            let (key, expect) = (from_vector(field(row, "name")), field(row, "expect"));
            let name = key.render(b"lock_").unwrap();
            assert_eq!(Key::Text(name), *field(expect, "key"), "{key:?}");
            if let Key::Text(json) = field(expect, "json") {
                assert_eq!(key.to_json().unwrap().as_bytes(), json);
            }
            if *field(expect, "json_failed") == Key::Bool(true) {
                assert_eq!(key.to_json(), None);
            }
        }
    }

    #[test]
    fn the_example_of_the_original() {
        assert_eq!(
            name(r#"["M_K_",1]"#),
            "lock_M_K_378261a619eba75d288b4929dc312ddf"
        );
        assert_eq!(name(r#" "plain" "#), "lock_plain");
    }

    #[test]
    fn floats_are_written_as_php_writes_them() {
        for (number, text) in [
            (0.1, "0.1"),
            (-0.0, "-0"),
            (100.0, "100"),
            (123_456.789, "123456.789"),
            (0.0001, "0.0001"),
            (0.000_01, "1.0e-5"),
            (1e16, "10000000000000000"),
            (1e17, "1.0e+17"),
            (-2.5e-300, "-2.5e-300"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(float(number, None, 'e'), text);
        }
        assert_eq!(float(0.1 + 0.2, Some(14), 'E'), "0.3");
        assert_eq!(float(1e15, Some(14), 'E'), "1.0E+15");
        assert_eq!(float(9.999_999_999_999_99e13, Some(14), 'E'), "1.0E+14");
    }

    #[test]
    fn text_that_is_not_utf8_counts_as_nothing_but_its_first_element() {
        let key = Key::from_json(b"[\"a\",\"\xff\"]").unwrap();
        assert_eq!(key.to_json(), None);
        assert_eq!(
            key.render(b"").unwrap(),
            b"ad41d8cd98f00b204e9800998ecf8427e"
        );
        assert_eq!(key.shown(), "[\"a\",\"\u{fffd}\"]");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for json in [
            "",
            "[",
            "[1,]",
            "{\"a\":1",
            "nul",
            "\"a",
            "[1] x",
            "\"\\u12\"",
            "\"\\ud800x\"",
            "01e",
            "[1 2]",
            "{1:2}",
            "1e999",
            "9223372036854775808",
            "\"\\q\"",
            "\"\n\"",
            "-",
            "\"\\u+123\"",
        ] {
            let error = Key::from_json(json.as_bytes()).and_then(|key| key.render(b"x"));
            assert_eq!(error.unwrap_err().code(), Code::InvalidArgument, "{json}");
        }
        for json in ["1", "null", "{}", "[]", "[[1]]", "[{}]"] {
            let key = Key::from_json(json.as_bytes()).unwrap();
            assert_eq!(
                key.render(b"x").unwrap_err().code(),
                Code::InvalidArgument,
                "{json}"
            );
        }
        let deep = "[".repeat(100_000);
        assert!(Key::from_json(deep.as_bytes()).is_err());
    }

    #[test]
    fn escapes_are_read() {
        let key = Key::from_json(br#""\u00e9\ud83d\udd12\/\\\"\b\f\n\r\t""#).unwrap();
        assert_eq!(key, Key::Text("é🔒/\\\"\u{8}\u{c}\n\r\t".into()));
        assert_eq!(
            key.to_json().unwrap(),
            r#""\u00e9\ud83d\udd12\/\\\"\b\f\n\r\t""#
        );
    }
}
