//! Store URLs: `scheme:authority/path?key=value…`, percent-decoded, secrets kept out of every text.

#[cfg(test)]
mod tests;
mod words;

pub(crate) use words::{distance, encode};

use crate::codes::Code;
use crate::secret::{MAX_PASSWORD, Secret, read_small};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;
use words::{decode, is_cut_login, may_be_host, split_list};

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
