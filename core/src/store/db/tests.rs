//! What needs no server; the stores' suites talk to real ones.

use super::{Config, Engine};
use crate::Code;
use crate::store::net::{Address, Tls};
use crate::url::Url;

fn read(text: &str, engine: Engine) -> crate::Result<Config> {
    let mut url = Url::parse(text, &[])?;
    let config = Config::read(&mut url, engine)?;
    url.finish()?;
    Ok(config)
}

#[test]
fn a_url_says_where_and_who() {
    let config = read("postgres://me:p%2Fw@db/jobs?io_timeout=5", Engine::Postgres).unwrap();
    assert_eq!(config.place(), "db:5432/jobs");
    assert_eq!(config.user.reveal(), "me");
    assert_eq!(config.password.unwrap().reveal(), "p/w");
    assert_eq!(config.io_timeout.as_millis(), 5);
    for (text, engine, path) in [
        (
            "postgres://me@%2Frun%2Fpg:77/db",
            Engine::Postgres,
            "/run/pg/.s.PGSQL.77",
        ),
        (
            "postgres://me@/db?socket=/run/pg/.s.PGSQL.5",
            Engine::Postgres,
            "/run/pg/.s.PGSQL.5",
        ),
        (
            "mysql://me@localhost/db?socket=/run/my.sock",
            Engine::Mysql,
            "/run/my.sock",
        ),
    ] {
        let config = read(text, engine).unwrap();
        assert_eq!(config.address, Address::Unix(path.to_owned()), "{text}");
    }
}

/// Where the URL names no database: two that lock apart are not called one, and one is not called two.
#[test]
fn a_database_that_is_not_named_is_the_users_on_postgres() {
    let place = |text: &str, engine| read(text, engine).unwrap().place();
    let unnamed = place("postgres://me@db", Engine::Postgres);
    assert_eq!(unnamed, place("postgres://me@db/", Engine::Postgres));
    // Who logs in is nobody's business.
    assert!(!unnamed.contains("me"), "{unnamed}");
    assert_ne!(unnamed, place("postgres://you@db", Engine::Postgres));
    // A server of MySQL has none then.
    assert_eq!(
        place("mysql://me@db", Engine::Mysql),
        place("mysql://you@db", Engine::Mysql)
    );
}

#[test]
fn tls_is_spelled_and_fails_closed() {
    let tls = |text: &str| read(text, Engine::Postgres).map(|config| config.tls);
    assert_eq!(tls("postgres://me@h/").unwrap(), None);
    assert_eq!(tls("postgres://me@h/?sslmode=disable").unwrap(), None);
    for text in [
        "postgres://me@h/?tls=1",
        "postgres://me@h/?sslmode=verify-full",
    ] {
        assert_eq!(tls(text).unwrap(), Some(Tls::default()), "{text}");
    }
    assert!(
        tls("postgres://me@h/?ca_file=/ca")
            .unwrap()
            .is_some_and(|tls| !tls.insecure)
    );
    for text in [
        "postgres://me@h/?sslmode=require",
        "postgres://me@h/?sslmode=prefer",
        "postgres://me@h/?tls=0&ca_file=/ca",
        "postgres://me@h/?tls=0&sslmode=verify-full",
        "postgres://me@/?socket=/run&tls=1",
    ] {
        assert_eq!(tls(text).unwrap_err().code(), Code::InvalidUrl, "{text}");
    }
}

#[test]
fn secrets_stay_out_of_what_is_printed() {
    let config = read("mysql://canary1:canary2@h/db", Engine::Mysql).unwrap();
    assert!(!format!("{config:?}").contains("canary"));
    for text in [
        "postgres://u:12/canary@h/db",
        "postgres:u:canary@h",
        "postgres://h?sslmode=canary",
    ] {
        let error = read(text, Engine::Postgres).unwrap_err();
        assert!(!format!("{error:?}").contains("canary"), "{error:?}");
    }
}
