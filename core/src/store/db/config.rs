//! What a URL says of a database: where it is, whom we log in as, how the server proves itself.

use crate::codes::Code;
use crate::secret::Secret;
use crate::store::cautions::Cautions;
use crate::store::net::{Address, Tls};
use crate::url::Url;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Which protocol the server speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    Postgres,
    Mysql,
}

#[derive(Clone)]
pub(crate) struct Config {
    pub engine: Engine,
    pub address: Address,
    pub tls: Option<Tls>,
    /// Hidden as well: a token may stand in its place.
    pub user: Secret,
    pub password: Option<Secret>,
    pub database: Option<String>,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
    /// For messages.
    pub url: String,
    /// Of the server.
    pub cautions: Arc<Cautions>,
}

/// The URL alone: part of a password that was not escaped may stand in any other field.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Takes `//user:password@host:port/database` and the options `socket`, `tls`, `ca_file`,
    /// `insecure`, `sslmode`, `password…`, `connect_timeout`, `io_timeout`.
    ///
    /// # Errors
    /// `InvalidUrl`, `InvalidArgument`.
    pub fn read(url: &mut Url, engine: Engine) -> Result<Self> {
        let bad = |words: &str| Error::new(Code::InvalidUrl, words);
        if url.has_raw_at {
            return Err(bad(
                "there is an `@` in the path: write `//` before a user, and in a password %2F for `/`",
            ));
        }
        let port = url.port.unwrap_or(match engine {
            Engine::Postgres => 5432,
            Engine::Mysql => 3306,
        });
        let socket = match (url.take("socket"), url.host.starts_with('/')) {
            (Some(_), _) if !url.host.is_empty() && url.host != "localhost" => {
                return Err(bad("the URL has a host and a socket"));
            }
            (Some(path), _) => Some(path),
            // As libpq writes it: the folder in place of the host, its slashes escaped.
            (None, true) => Some(url.host.clone()),
            (None, false) => None,
        };
        let address = match socket {
            Some(path) => Address::Unix(socket_file(&path, port, engine)?),
            None => Address::Tcp {
                host: if url.host.is_empty() {
                    "localhost".to_owned()
                } else {
                    url.host.clone()
                },
                port,
            },
        };
        let database = url.path.trim_start_matches('/').to_owned();
        if database.contains(['/', '\0']) {
            return Err(bad("the path is not the name of a database"));
        }
        let tls = read_tls(url, &address)?;
        let user = match url.take("username").or_else(|| url.user.take()) {
            Some(user) => user,
            None => own_user()?,
        };
        if user.contains('\0') {
            return Err(bad("the user is no name"));
        }
        Ok(Config {
            engine,
            address,
            tls,
            user: Secret::new(user),
            password: url.take_password()?,
            database: Some(database).filter(|name| !name.is_empty()),
            connect_timeout: url
                .take_millis("connect_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            io_timeout: url
                .take_millis("io_timeout")?
                .unwrap_or(Duration::from_secs(2)),
            url: url.redacted(),
            cautions: Arc::default(),
        })
    }

    /// Until when an exchange may take.
    pub fn limit(&self, deadline: Option<crate::lease::BootTime>) -> crate::lease::BootTime {
        let own = crate::lease::BootTime::now().after(self.io_timeout);
        deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// The server and database as others would name it, without credentials: a user's own database on PostgreSQL, which
    /// has the user's name, is told apart by a hash of that.
    pub fn place(&self) -> String {
        let server = match &self.address {
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.clone(),
        };
        let own = || match self.engine {
            Engine::Postgres => {
                let hash = Sha256::digest(self.user.reveal());
                let [a, b, c, d, e, f, ..] = hash.0;
                format!("~{a:02x}{b:02x}{c:02x}{d:02x}{e:02x}{f:02x}")
            }
            Engine::Mysql => String::new(),
        };
        let database = self.database.clone().unwrap_or_else(own);
        format!("{server}/{database}")
    }

    /// Whether nobody on the way can read what is sent, so that a password may be sent as it is.
    pub(super) fn is_private(&self) -> bool {
        match (&self.address, &self.tls) {
            (Address::Unix(_), _) => true,
            (_, Some(tls)) => !tls.insecure,
            (_, None) => false,
        }
    }
}

fn socket_file(path: &str, port: u16, engine: Engine) -> Result<String> {
    if !path.starts_with('/') {
        return Err(Error::new(
            Code::InvalidUrl,
            "the path of the socket does not begin with `/`",
        ));
    }
    let is_file = engine == Engine::Mysql
        || path
            .rsplit('/')
            .next()
            .is_some_and(|name| name.starts_with(".s.PGSQL."));
    Ok(if is_file {
        path.to_owned()
    } else {
        format!("{}/.s.PGSQL.{port}", path.trim_end_matches('/'))
    })
}

/// TLS is spelled, and then the server must prove who it is.
fn read_tls(url: &mut Url, address: &Address) -> Result<Option<Tls>> {
    let bad = |words: &str| Error::new(Code::InvalidUrl, words);
    let by_mode = match url.take("sslmode").as_deref() {
        None => None,
        Some("disable") => Some(false),
        Some("verify-full") => Some(true),
        Some(_) => {
            return Err(bad(
                "`sslmode` is disable or verify-full: the others do not check who the server is; for that write `insecure=1`",
            ));
        }
    };
    let ca_file = url.take("ca_file");
    let insecure = url.take_bool("insecure")?.unwrap_or(false);
    let spelled = url.take_bool("tls")?;
    let wanted = match (spelled, by_mode) {
        (Some(a), Some(b)) if a != b => {
            return Err(bad("`tls` and `sslmode` contradict each other"));
        }
        (a, b) => a.or(b).unwrap_or(ca_file.is_some() || insecure),
    };
    match address {
        _ if !wanted && (ca_file.is_some() || insecure) => {
            Err(bad("`ca_file` and `insecure` belong to TLS"))
        }
        _ if !wanted => Ok(None),
        Address::Unix(_) => Err(bad("TLS over a unix socket makes no sense")),
        Address::Tcp { .. } => Ok(Some(Tls { ca_file, insecure })),
    }
}

fn own_user() -> Result<String> {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map(|user| user.name)
        .ok_or_else(|| Error::new(Code::InvalidUrl, "the URL lacks the user"))
}
