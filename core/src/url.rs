//! Store URLs: `scheme:authority/path?key=value…`, percent-decoded, secrets kept out of every text.

use crate::codes::Code;
use crate::secret::{MAX_PASSWORD, Secret, read_small};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

/// A URL taken apart. Stores `take_…` the options they know; `finish` refuses what is left.
#[derive(Clone)]
pub struct Url {
    /// Lower-case scheme as written.
    pub scheme: String,
    /// User name, decoded.
    pub user: Option<String>,
    /// Password, decoded.
    pub password: Option<Secret>,
    /// Host or host list, decoded; empty if there is none.
    pub host: String,
    /// Port, if given.
    pub port: Option<u16>,
    /// Whether `//` followed the scheme.
    pub has_authority: bool,
    /// Everything after the authority, decoded.
    pub path: String,
    /// URLs of the stores that this one is made of.
    members: Vec<String>,
    options: BTreeMap<String, String>,
    known: Vec<&'static str>,
    /// Part of a password that was not escaped may stand anywhere, as a key for instance.
    has_secret: bool,
    /// The path has an `@` that is not escaped: a password with a `/` may be in it, or a URL lacks
    /// its `//`.
    pub(crate) has_raw_at: bool,
    /// The path may be what precedes the `?` of a password, in a URL that lacks its `//` as well.
    is_path_of_login: bool,
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// Schemes of stores that are made of others.
const COMPOSED: [&str; 2] = ["quorum", "tiered"];

/// What stands in place of a URL that cannot be read, since it might be a secret as a whole.
const UNREADABLE: &str = "(unreadable URL)";

impl Url {
    /// Takes a URL apart; `extra` options win over those of the URL, each key once.
    ///
    /// # Errors
    /// `InvalidUrl` for text that is no URL or has a key twice; the text itself is never quoted.
    pub fn parse(text: &str, extra: &[(&str, &str)]) -> Result<Self> {
        let bad = |why: String| Error::new(Code::InvalidUrl, why).with_store(UNREADABLE);
        if text.len() > 64 * 1024 {
            return Err(bad("the URL is longer than 64 KiB".into()));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme, rest)) => (scheme, rest),
            // Symfony writes `semaphore` and `in-memory` alone.
            None => (text, ""),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
        if scheme.is_empty() || !scheme.chars().all(legal) {
            return Err(bad(
                "the URL has no scheme such as `redis:` or `flock:`".into()
            ));
        }
        let composed = COMPOSED.contains(&scheme.to_ascii_lowercase().as_str());
        let (mut members, rest) = match rest.strip_prefix('(') {
            Some(list) if composed => split_list(list).map_err(bad)?,
            _ => (Vec::new(), rest),
        };
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match before.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None => (None, before),
        };
        let mut url = Url {
            scheme: scheme.to_ascii_lowercase(),
            user: None,
            password: None,
            host: String::new(),
            port: None,
            has_authority: authority.is_some(),
            path: decode(path).map_err(bad)?,
            members: Vec::new(),
            options: BTreeMap::new(),
            known: Vec::new(),
            // Userinfo behind a `?` is a password with a question mark in it.
            has_secret: query.contains('@'),
            has_raw_at: path.contains('@'),
            is_path_of_login: authority.is_none() && is_cut_login(path, query),
        };
        url.read_authority(authority.unwrap_or("")).map_err(bad)?;
        url.has_secret |= url.password.is_some()
            || query.contains("password")
            || extra.iter().any(|(key, _)| key.contains("password"));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, "1"));
            let key = decode(key).map_err(bad)?;
            let value = decode(value).map_err(bad)?;
            if composed && key == "member" {
                members.push(value);
                continue;
            }
            if url.options.insert(key.clone(), value).is_some() {
                return Err(bad(format!(
                    "the URL has the option `{}` twice",
                    url.safe_key(&key)
                )));
            }
        }
        url.members = members;
        let mut seen: Vec<&str> = Vec::new();
        for (key, value) in extra {
            if seen.contains(key) {
                return Err(Error::invalid(format!(
                    "the option `{}` is given twice",
                    url.safe_key(key)
                )));
            }
            seen.push(key);
            url.options.insert((*key).to_owned(), (*value).to_owned());
        }
        Ok(url)
    }

    fn read_authority(&mut self, authority: &str) -> std::result::Result<(), String> {
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        if let Some(userinfo) = userinfo {
            let (user, password) = match userinfo.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (userinfo, None),
            };
            self.user = Some(decode(user)?).filter(|user| !user.is_empty());
            self.password = password.map(decode).transpose()?.map(Secret::new);
        }
        let (host, port) = if let Some(rest) = host.strip_prefix('[') {
            let (inner, after) = rest
                .split_once(']')
                .ok_or("the address lacks its closing bracket")?;
            (inner, after.strip_prefix(':'))
        } else {
            match host.rsplit_once(':') {
                // An address lacks its brackets, or a password its `@`.
                Some((host, _)) if !host.split(',').all(may_be_host) => {
                    return Err("the host has a colon too many".into());
                }
                // The last of several hosts names no port.
                Some((_, port)) if port.contains(',') && host.split(',').all(may_be_host) => {
                    (host, None)
                }
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            }
        };
        self.host = decode(host)?;
        if let Some(port) = port.filter(|port| !port.is_empty()) {
            self.port = Some(
                port.parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .ok_or("the port is not a number from 1 to 65535")?,
            );
        }
        Ok(())
    }

    /// Whether a host, a port or a login is given: what a store without a server refuses.
    pub(crate) fn has_server(&self) -> bool {
        !self.host.is_empty()
            || self.port.is_some()
            || self.user.is_some()
            || self.password.is_some()
    }

    /// Spells the host as every other process will, unless it is a path.
    pub(crate) fn fold_host(&mut self) {
        if !self.host.contains('/') {
            self.host.make_ascii_lowercase();
        }
    }

    /// Takes the URLs of members out.
    pub(crate) fn take_members(&mut self) -> Vec<String> {
        self.known.push("member");
        let mut members = std::mem::take(&mut self.members);
        if self.scheme == "tiered" {
            members.extend(
                ["local", "remote"]
                    .into_iter()
                    .filter_map(|key| self.take(key)),
            );
        }
        members
    }

    /// Takes an option out.
    pub fn take(&mut self, key: &'static str) -> Option<String> {
        self.known.push(key);
        self.options.remove(key)
    }

    /// Takes all options `stem[…]`, and returns what stands in the brackets.
    #[cfg(feature = "memcached")]
    pub(crate) fn take_bracketed(&mut self, stem: &str) -> Vec<String> {
        let inside = |key: &String| {
            let rest = key.strip_prefix(stem)?.strip_prefix('[')?;
            rest.strip_suffix(']').map(str::to_owned)
        };
        let found = self.options.keys().filter_map(inside).collect();
        self.options.retain(|key, _| inside(key).is_none());
        found
    }

    /// Takes `0`/`1`/`true`/`false`/`yes`/`no`/`on`/`off`.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn take_bool(&mut self, key: &'static str) -> Result<Option<bool>> {
        self.take(key)
            .map(|value| match value.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Ok(true),
                "0" | "false" | "no" | "off" => Ok(false),
                _ => Err(Error::invalid(format!(
                    "the option `{key}` is neither 0 nor 1"
                ))),
            })
            .transpose()
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn take_int(&mut self, key: &'static str) -> Result<Option<i64>> {
        self.take(key)
            .map(|value| {
                value.parse().map_err(|_| {
                    Error::invalid(format!("the option `{key}` is not a whole number"))
                })
            })
            .transpose()
    }

    /// Takes milliseconds of at least 1.
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn take_millis(&mut self, key: &'static str) -> Result<Option<Duration>> {
        self.take_int(key)?
            .map(|value| match u64::try_from(value) {
                Ok(ms) if ms > 0 => Ok(Duration::from_millis(ms)),
                _ => Err(Error::invalid(format!(
                    "the option `{key}` must be at least 1 ms"
                ))),
            })
            .transpose()
    }

    /// Takes the password, also from `password=`, `password_file=` or `password_env=`.
    ///
    /// # Errors
    /// `InvalidUrl` if two places give one, or the file or variable cannot be read.
    pub fn take_password(&mut self) -> Result<Option<Secret>> {
        let written = self.password.take();
        self.take_secret(written, ["password", "password_file", "password_env"])
    }

    /// Takes a password from the three options of these names, which `written` is beside: itself, a file, a variable.
    ///
    /// # Errors
    /// As [`Url::take_password`].
    pub(crate) fn take_secret(
        &mut self,
        written: Option<Secret>,
        [itself, in_file, in_variable]: [&'static str; 3],
    ) -> Result<Option<Secret>> {
        let mut found: Vec<Secret> = written.into_iter().collect();
        found.extend(self.take(itself).map(Secret::new));
        let bad = |words: String| Error::new(Code::InvalidUrl, words);
        if let Some(file) = self.take(in_file) {
            let text = read_small(&file, MAX_PASSWORD)
                .and_then(|bytes| String::from_utf8(bytes).map_err(io::Error::other))
                .map_err(|error| {
                    bad(format!(
                        "the file named by `{in_file}` cannot be read: {}",
                        error.kind()
                    ))
                })?;
            found.push(Secret::new(text.trim_end_matches(['\r', '\n'])));
        }
        if let Some(name) = self.take(in_variable) {
            let value = std::env::var(&name)
                .map_err(|_| bad(format!("the variable named by `{in_variable}` is not set")))?;
            found.push(Secret::new(value));
        }
        if found.len() > 1 {
            return Err(bad(format!(
                "the password (`{itself}`) is given in more than one place"
            )));
        }
        Ok(found.pop())
    }

    /// Refuses options that nobody took.
    ///
    /// # Errors
    /// `UnknownOption`, with the nearest known names.
    pub fn finish(self) -> Result<()> {
        let Some(key) = self.options.keys().next() else {
            return Ok(());
        };
        let mut near: Vec<&&str> = self
            .known
            .iter()
            .filter(|known| distance(known, key) <= 2)
            .collect();
        near.sort_by_key(|known| distance(known, key));
        near.dedup();
        let hint = if near.is_empty() {
            let mut known = self.known.clone();
            known.sort_unstable();
            known.dedup();
            format!("known are {}", known.join(", "))
        } else {
            format!(
                "did you mean {}?",
                near.iter()
                    .map(|known| format!("`{known}`"))
                    .collect::<Vec<_>>()
                    .join(" or ")
            )
        };
        Err(Error::new(
            Code::UnknownOption,
            format!(
                "there is no option `{}`; {hint}",
                if near.is_empty() {
                    self.safe_key(key)
                } else {
                    key
                }
            ),
        ))
    }

    /// The URL with scheme, host, port and path alone: fit for messages.
    pub fn redacted(&self) -> String {
        let mut text = format!("{}:", self.scheme);
        if self.is_path_of_login {
            text.push_str("***");
            return text;
        }
        let path = match self.path.rsplit_once('@') {
            Some((before, after)) if self.has_raw_at && !cfg!(canary = "whole_path") => {
                let plain = self.path.starts_with('/') && !before.contains(':');
                if !plain || self.has_server() {
                    // All of it, and the host too, may be one.
                    text.push_str("***@");
                    text.push_str(&crate::error::printable(after.as_bytes()));
                    return text;
                }
                let folder = before.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/***@{after}")
            }
            _ => self.path.clone(),
        };
        if self.has_authority {
            text.push_str("//");
            if self.user.is_some() || self.password.is_some() {
                text.push_str("***@");
            }
            if self.host.contains(':') && !self.host.contains(',') {
                text.push_str(&format!("[{}]", self.host));
            } else {
                text.push_str(&self.host);
            }
            if let Some(port) = self.port {
                text.push_str(&format!(":{port}"));
            }
        }
        text.push_str(&crate::error::printable(path.as_bytes()));
        text
    }

    /// Keys are quoted in errors only if they look like keys and cannot be part of a secret.
    fn safe_key<'a>(&self, key: &'a str) -> &'a str {
        let looks_like_one = key.len() <= 32
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        if looks_like_one && !self.has_secret {
            key
        } else {
            "…"
        }
    }
}

/// Whether this can be `user:password@host` with a `?` in the password. Names and absolute paths with an `@`
/// in the label beside them stay readable.
fn is_cut_login(path: &str, query: &str) -> bool {
    let is_plain = path.is_empty() || (path.starts_with('/') && !path.contains(':'));
    let has_host = |pair: &str| pair.contains('@') && !pair.starts_with("label=");
    !is_plain && query.split('&').any(has_host)
}

/// Splits `A,B,C)…` at the commas that stand in no inner list; what follows it.
fn split_list(text: &str) -> std::result::Result<(Vec<String>, &str), String> {
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
fn may_be_host(text: &str) -> bool {
    text.split_once(':')
        .is_none_or(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok())
}

fn decode(text: &str) -> std::result::Result<String, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_url_apart() {
        let mut url = Url::parse(
            "redis://us%40er:p%3Aw@[::1]:7000/3?ttl=5000&fair=0",
            &[("fair", "1")],
        )
        .unwrap();
        assert_eq!(
            (
                url.scheme.as_str(),
                url.host.as_str(),
                url.port,
                url.path.as_str()
            ),
            ("redis", "::1", Some(7000), "/3")
        );
        assert_eq!(url.user.as_deref(), Some("us@er"));
        assert_eq!(url.take_password().unwrap().unwrap().reveal(), "p:w");
        assert_eq!(
            url.take_millis("ttl").unwrap(),
            Some(Duration::from_secs(5))
        );
        assert_eq!(url.take_bool("fair").unwrap(), Some(true));
        url.finish().unwrap();
    }

    #[test]
    fn members_are_listed_or_given_one_by_one() {
        let members = |text: &str| Url::parse(text, &[]).map(|mut url| url.take_members());
        let nested = "quorum:(redis://a/1?db=2,quorum:(shm:x,shm:y),memory:)?strategy=unanimous";
        assert_eq!(
            members(nested).unwrap(),
            ["redis://a/1?db=2", "quorum:(shm:x,shm:y)", "memory:"]
        );
        assert_eq!(
            members("quorum:?member=redis%3A%2F%2Fa%2Cb&member=memory:").unwrap(),
            ["redis://a,b", "memory:"]
        );
        for bad in ["quorum:(a:,b:", "quorum:(a:)b", "quorum:((a:,b:)"] {
            assert_eq!(members(bad).unwrap_err().code(), Code::InvalidUrl, "{bad}");
        }
        let url = Url::parse("quorum:(redis://u:canary@h,memory:)?x=1", &[]).unwrap();
        assert!(!format!("{url:?}").contains("canary"));
        assert!(!format!("{:?}", url.finish()).contains("canary"));
    }

    #[test]
    fn unknown_and_duplicate_options_are_refused_with_hints() {
        let mut url = Url::parse("memory:?tll=1", &[]).unwrap();
        let _ = url.take("ttl");
        let error = url.finish().unwrap_err();
        assert_eq!(error.code(), Code::UnknownOption);
        assert!(error.message().contains("`ttl`"), "{error}");
        assert_eq!(
            Url::parse("memory:?a=1&a=2", &[]).unwrap_err().code(),
            Code::InvalidUrl
        );
    }

    #[test]
    fn secrets_stay_out_of_debug_redaction_and_errors() {
        for text in [
            "redis://u:canary@h/0?password=canary2",
            "redis://canary@h:99999",
            "redis://h?canary%zz=1",
            ":canary",
            // A `/`, `?` or `&` that was not escaped, a forgotten `//`, `@` or host.
            "redis://u:12/canary@h/0",
            "redis://u:12?canary=3@h",
            "redis://h?password=a&canary=1",
            "redis:u:canary@h",
            "redis:/u:canary@h",
            "redis://u:canary:6379",
            "redis:u:canary?x@h/0?db=1",
            "redis::canary?3=4@h",
            "redis:/u:canary?x@h",
            "redis:canary?@h",
            "redis://:12/canary@h/@b",
        ] {
            match Url::parse(text, &[]) {
                Ok(url) => {
                    assert!(!url.redacted().contains("canary"), "{}", url.redacted());
                    assert!(!format!("{:?}", url.password).contains("canary"));
                    if let Err(error) = url.finish() {
                        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
                    }
                }
                Err(error) => assert!(!format!("{error:?}").contains("canary"), "{error:?}"),
            }
        }
    }

    #[test]
    fn paths_and_host_lists_stay_readable() {
        for text in [
            "flock:/home/x/***@work/x",
            "flock:///home/***@work",
            "redis://a:1,b:2,c:3/0",
            "redis://***@h/0",
            "redis:/run/redis.sock",
            "shm:app",
        ] {
            let secret = if text.contains("flock") { "x" } else { ":x" };
            let whole = text.replace("***", secret);
            for query in ["", "?label=me@here"] {
                let url = Url::parse(&format!("{whole}{query}"), &[]).unwrap();
                assert_eq!(url.redacted(), text);
            }
        }
    }

    #[test]
    fn a_password_stands_in_one_place_of_four() {
        let home = std::env::var("HOME").unwrap();
        let of = |text: &str| {
            let mut url = Url::parse(text, &[]).unwrap();
            let found = url.take_password().map_err(|error| error.code());
            found.map(|secret| secret.map(|secret| secret.reveal().to_owned()))
        };
        assert_eq!(of("redis://u@h"), Ok(None));
        for one in ["redis://:x@h", "redis://h?password=x"] {
            assert_eq!(of(one), Ok(Some("x".into())), "{one}");
        }
        assert_eq!(of("redis://h?password_env=HOME"), Ok(Some(home.clone())));
        for two in [
            "redis://:x@h?password=x",
            "redis://:x@h?password_env=HOME",
            "redis://h?password_env=HOME&password_file=/etc/hostname",
            "redis://h?password_env=SYNLOCK_NOT_SET",
        ] {
            assert_eq!(of(two), Err(Code::InvalidUrl), "{two}");
        }
        // Another's password, by the same three.
        let mut url = Url::parse("redis://:x@h?other_env=HOME", &[]).unwrap();
        let other = url.take_secret(None, ["other", "other_file", "other_env"]);
        assert_eq!(other.unwrap().unwrap().reveal(), home);
    }

    #[test]
    fn a_password_beside_the_url_hides_what_may_be_its_rest() {
        let url = Url::parse("redis://h", &[("sentinel_password", "x"), ("canary", "1")]).unwrap();
        let error = url.finish().unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[test]
    fn password_files_are_small_regular_files() {
        for file in ["/dev/zero", "/proc/self", "/nowhere"] {
            let mut url = Url::parse(&format!("redis://h?password_file={file}"), &[]).unwrap();
            let error = url.take_password().unwrap_err();
            assert_eq!(error.code(), Code::InvalidUrl, "{file}");
        }
    }
}
