//! Which lock a request is about.

use super::policy::{Anonymous, Dialect, Policy};
use crate::name::template::{self, Piece};
use crate::url::encode;
use crate::{Error, Result};
use md5::{Digest, Md5};
use std::borrow::Cow;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum User<'a> {
    /// The application has no notion of users: user isolation is an error.
    #[default]
    NoSource,
    /// It has, and this is nobody.
    Anonymous,
    /// One that is known.
    Known {
        /// The firewall or user provider, if there are several; may be empty.
        provider: &'a [u8],
        /// The user's identifier there.
        id: &'a [u8],
    },
}

/// What a guard needs to know of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Request<'a> {
    /// The handler: Symfony's `_controller`, the route of other frameworks.
    pub route: &'a [u8],
    /// The path of the URL as it was sent, without the query.
    pub path: &'a [u8],
    /// Parameters of the route, for placeholders.
    pub params: &'a [(&'a [u8], &'a [u8])],
    /// Who asks; only read with user isolation.
    pub user: User<'a>,
    /// The session's identifier, for `anonymous=session`.
    pub session: Option<&'a [u8]>,
    /// The client's address, for `anonymous=ip`.
    pub ip: Option<&'a [u8]>,
    /// The security token as PHP serialises it, for ixarlie's dialects.
    pub token: Option<&'a [u8]>,
}

impl Request<'_> {
    /// Words for whoever inspects the lock: at most 255 bytes.
    pub(super) fn label(&self) -> String {
        let words = format!(
            "request {} {}",
            String::from_utf8_lossy(self.route),
            String::from_utf8_lossy(self.path)
        );
        shorten(words.replace('\0', " ").trim_end().to_owned())
    }
}

/// Cut to what a label may have.
pub(super) fn shorten(mut words: String) -> String {
    let mut end = words.len().min(255);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    words.truncate(end);
    words
}

/// The name of the lock.
///
/// # Errors
/// `InvalidArgument` for a placeholder without a value, user isolation where there are no users, and
/// a request of nobody that the policy does not provide for.
pub(super) fn name(dialect: Dialect, policy: &Policy, request: &Request<'_>) -> Result<Vec<u8>> {
    let template = policy.name.as_deref().filter(|name| !name.is_empty());
    match dialect {
        Dialect::Native => {
            let mut name = match template {
                Some(template) => template::render_with(template, request.params)?,
                None if request.route.is_empty() && request.path.is_empty() => {
                    return Err(Error::invalid(
                        "the lock has no name, and neither a route nor a path to make one from",
                    ));
                }
                None => [request.route, request.path].join(&b' '),
            };
            if policy.user_isolation {
                name.extend_from_slice(identity(policy.anonymous, request)?.as_bytes());
            }
            Ok(name)
        }
        Dialect::Ixarlie => {
            let mut name = match template {
                Some(template) => expand_in_turn(template, request)?,
                None => {
                    let route = underscored(request.route, b"\\:");
                    [route, underscored(request.path, b"/")].join(&b'_')
                }
            };
            if policy.user_isolation {
                name.push(b'_');
                name.extend_from_slice(token_hash(request)?.as_bytes());
            }
            Ok(format!("ixarlie_mutex_{}", md5(&name)).into_bytes())
        }
        Dialect::Ixarlie2 => {
            let mut name = match template {
                Some(template) => template.to_vec(),
                None => underscored(&[request.route, request.path].concat(), b"\\:/"),
            };
            if policy.user_isolation {
                name.extend_from_slice(token_hash(request)?.as_bytes());
            }
            Ok(name)
        }
    }
}

/// What user isolation adds to a name. Its parts are encoded, so that it is the same for one user alone:
/// neither a user's name nor a route's value can make it another's.
fn identity(anonymous: Anonymous, request: &Request<'_>) -> Result<String> {
    let (kind, value) = match (request.user, anonymous) {
        (User::NoSource, _) => return Err(no_users()),
        (User::Known { provider, id }, _) => {
            return Ok(format!("@{}/{}", encode(provider), encode(id)));
        }
        (User::Anonymous, Anonymous::Share) => return Ok("@:anonymous".to_owned()),
        // Whoever reads the lock's name must not get the session with it. An identifier that cannot be
        // guessed cannot be found from its hash either.
        (User::Anonymous, Anonymous::Session) => (
            "session",
            request
                .session
                .map(|session| Cow::Owned(md5(session).into_bytes())),
        ),
        (User::Anonymous, Anonymous::Ip) => ("ip", request.ip.map(Cow::Borrowed)),
        (User::Anonymous, Anonymous::Refuse) => {
            return Err(Error::invalid(
                "user isolation, and nobody is logged in: log in, or say what is meant by `anonymous=share`, `session` or `ip`",
            ));
        }
    };
    match value.filter(|value| !value.is_empty()) {
        Some(value) => Ok(format!("@:{kind}/{}", encode(&value))),
        None => Err(Error::invalid(format!(
            "user isolation with `anonymous={kind}`, and the request has none"
        ))),
    }
}

fn no_users() -> Error {
    Error::invalid("user isolation, and the application has no source of users")
}

fn md5(bytes: &[u8]) -> String {
    let digest = Md5::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn underscored(text: &[u8], which: &[u8]) -> Vec<u8> {
    let change = |byte: &u8| if which.contains(byte) { b'_' } else { *byte };
    text.iter().map(change).collect()
}

/// Ixarlie's way: the placeholders of the template are replaced one after another, so that one that a
/// value brings along is replaced too if its turn is still to come.
fn expand_in_turn(template: &[u8], request: &Request<'_>) -> Result<Vec<u8>> {
    let mut name = template.to_vec();
    for piece in template::pieces(template) {
        let Piece::Placeholder(placeholder) = piece else {
            continue;
        };
        let value = template::find(request.params, placeholder)
            .ok_or_else(|| template::missing(template, placeholder))?;
        let wanted = [b"{", placeholder, b"}"].concat();
        name = replace(&name, &wanted, value);
        if name.len() > crate::name::MAX_NAME {
            return Err(Error::invalid("the template makes a name that is too long"));
        }
    }
    Ok(name)
}

fn replace(text: &[u8], wanted: &[u8], by: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        match rest.strip_prefix(wanted) {
            Some(after) => {
                replaced.extend_from_slice(by);
                rest = after;
            }
            None => {
                replaced.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    replaced
}

/// The hash of a user in ixarlie's dialects; empty for nobody.
fn token_hash(request: &Request<'_>) -> Result<String> {
    match (request.token, request.user) {
        (Some(token), _) => Ok(md5(token)),
        (None, User::NoSource) => Err(no_users()),
        (None, _) => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests;
