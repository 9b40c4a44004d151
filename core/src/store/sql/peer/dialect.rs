//! Whose table it is, and what stands in it for a name and an owner.

use super::super::config::{take_column, take_table};
use super::Kind;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::url::Url;
use crate::{Error, Result, hex};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use sha2::{Digest, Sha256};

/// Whose table it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store::sql) enum Dialect {
    Symfony,
    Drupal,
    Laravel,
}

/// The option `dialect`.
pub(in crate::store::sql) fn take_dialect(url: &mut Url) -> Result<Option<Dialect>> {
    match url.take("dialect").as_deref() {
        None | Some("native") => Ok(None),
        Some("symfony") => Ok(Some(Dialect::Symfony)),
        Some("drupal") => Ok(Some(Dialect::Drupal)),
        Some("laravel") => Ok(Some(Dialect::Laravel)),
        Some(_) => Err(Error::invalid(
            "the option `dialect` is one of native, symfony, drupal, laravel",
        )),
    }
}

/// The names of a table and its columns.
#[derive(Clone, Debug)]
pub(in crate::store::sql) struct Columns {
    pub table: String,
    pub id: String,
    pub owner: String,
    pub expires: String,
}

impl Dialect {
    pub fn columns(self, url: &mut Url) -> Result<Columns> {
        let (table, id, owner, expires) = match self {
            Dialect::Symfony => ("lock_keys", "key_id", "key_token", "key_expiration"),
            Dialect::Drupal => ("semaphore", "name", "value", "expire"),
            Dialect::Laravel => ("cache_locks", "key", "owner", "expiration"),
        };
        let free = self == Dialect::Symfony;
        let mut column = |key, default: &str| {
            if free {
                take_column(url, key, default)
            } else {
                Ok(default.to_owned())
            }
        };
        let (id, owner, expires) = (
            column("id_col", id)?,
            column("token_col", owner)?,
            column("expiration_col", expires)?,
        );
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        if same(&id, &owner) || same(&id, &expires) || same(&owner, &expires) {
            return Err(Error::invalid(
                "the options `id_col`, `token_col` and `expiration_col` name one column twice",
            ));
        }
        Ok(Columns {
            table: take_table(url, table)?,
            id,
            owner,
            expires,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Dialect::Symfony => "symfony",
            Dialect::Drupal => "drupal",
            Dialect::Laravel => "laravel",
        }
    }

    /// Whether rows show the names of their locks.
    pub fn shows_names(self) -> bool {
        self != Dialect::Symfony
    }

    /// The owner's column for a token.
    pub fn owner(self, token: OwnerToken) -> String {
        match self {
            // As long as Symfony's: the token, and 16 bytes that follow from it.
            Dialect::Symfony => {
                let more = Sha256::digest(token.as_bytes());
                BASE64.encode([token.as_bytes().as_slice(), &more[..16]].concat())
            }
            Dialect::Drupal | Dialect::Laravel => token.to_hex(),
        }
    }

    /// The key's column for a name; Laravel's caches put their prefix before it.
    pub fn key(self, kind: Kind, prefix: &str, name: &Name) -> String {
        let bytes = name.as_bytes();
        match self {
            Dialect::Symfony => hex::encode(&Sha256::digest(bytes)),
            Dialect::Drupal => drupal_key(kind, bytes),
            Dialect::Laravel => laravel_key(prefix, bytes),
        }
    }
}

/// ASCII of at most 255 bytes stands as it is; the rest as Drupal hashes it. PostgreSQL's columns hold no NUL:
/// what PHP hands over ends before it.
fn drupal_key(kind: Kind, name: &[u8]) -> String {
    let key = drupal_name(name);
    match key.find('\0') {
        Some(end) if kind == Kind::Postgres => key[..end].to_owned(),
        _ => key,
    }
}

fn drupal_name(name: &[u8]) -> String {
    if name.is_ascii() && name.len() <= 255 {
        return String::from_utf8_lossy(name).into_owned();
    }
    let hash = BASE64_URL.encode(Sha256::digest(name));
    if name.is_ascii() {
        format!("{}{hash}", String::from_utf8_lossy(&name[..212]))
    } else {
        hash
    }
}

/// A key of Laravel's; what no column of 255 characters can hold, and so no peer has, as a hash.
fn laravel_key(prefix: &str, name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text)
            if !text.contains('\0') && prefix.chars().count() + text.chars().count() <= 255 =>
        {
            format!("{prefix}{text}")
        }
        _ => format!("{prefix}~{}", hex::encode(&Sha256::digest(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_peers_own() {
        assert_eq!(drupal_key(Kind::Postgres, b"nul\0byte"), "nul");
        assert_eq!(laravel_key("app-cache-", b"job"), "app-cache-job");
        assert_ne!(laravel_key("", &[b'x'; 300]), laravel_key("", &[b'x'; 301]));
    }

    #[test]
    fn drupals_names_are_those_that_its_own_code_made() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/vectors/drupal_lock.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let bytes = |value: &serde_json::Value| match value.as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => hex::decode(value["hex"].as_str().unwrap().as_bytes()).unwrap(),
        };
        let rows = all["rows"].as_array().unwrap();
        assert!(rows.len() >= 64, "{} rows", rows.len());
        for row in rows {
            let wanted = row["expect"]["semaphore_name"].as_str();
            let name = bytes(&row["name"]);
            for kind in [Kind::Sqlite, Kind::Mysql] {
                assert_eq!(
                    Some(drupal_key(kind, &name).as_str()),
                    wanted,
                    "{}",
                    row["name"]
                );
            }
        }
    }
}
