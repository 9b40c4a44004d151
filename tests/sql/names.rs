//! Names: those of schemes that mean one store, and those of a table and its columns.

use crate::{code, lock};
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// Whoever holds by one of these URLs holds for all of them.
fn are_one(urls: &[String]) {
    for held in urls {
        let first = lock(held, "one");
        first.acquire(Wait::No, None).unwrap();
        for url in urls {
            assert_eq!(
                code(lock(url, "one").acquire(Wait::No, None)),
                Code::Busy,
                "{url}"
            );
            let fingerprints = [url, held].map(|url| Store::open(url).unwrap().fingerprint());
            assert_eq!(fingerprints[0], fingerprints[1]);
        }
        first.release().unwrap();
    }
}

#[test]
fn schemes_that_mean_one_store_are_one_store() {
    let (postgres, mariadb) = (PostgresServer::start(), MariadbServer::start());
    let of = |place: &str, schemes: &[&str]| -> Vec<String> {
        let url = |scheme| patient(&format!("{scheme}://{place}"));
        schemes.iter().map(url).collect()
    };
    are_one(&of(&mariadb.place(), &["mysql", "mariadb"]));
    are_one(&of(
        &mariadb.place(),
        &["mysql+advisory", "mariadb+advisory"],
    ));
    let place = postgres.place();
    are_one(&of(&place, &["postgres", "postgresql", "pgsql"]));
    let advisory = ["postgres+advisory", "postgresql+advisory", "pgsql+advisory"];
    are_one(&of(&place, &advisory));
    // The other's server is told apart from it, and is no such store.
    let other = format!(
        "mariadb://postgres@127.0.0.1:{}/postgres?io_timeout=2000",
        postgres.port()
    );
    let refused = code(lock(&other, "one").acquire(Wait::No, None));
    assert_ne!(refused, Code::Ok);
}

const NAMES: &str =
    "dialect=symfony&table=app_locks&id_col=the_id&token_col=the_token&expiration_col=the_end";

/// The names in the URL are those of the table, made by the store or by hand.
fn columns(url: &str, sql: &dyn Fn(&str) -> String) {
    let url = patient(url);
    let named = format!("{url}&{NAMES}");
    let store = Store::open(&named).unwrap();
    let ddl = store.ddl(None).unwrap();
    for name in ["app_locks", "the_id", "the_token", "the_end"] {
        assert!(ddl.contains(name), "{name}: {ddl}");
    }
    store.create_table(Wait::Forever).unwrap();
    let held = store.lock("n").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let count = "SELECT COUNT(*) FROM app_locks WHERE the_id IS NOT NULL AND the_token IS NOT NULL AND the_end > 0";
    assert!(sql(count).contains('1'), "{}", sql(count));
    // Another table is another store.
    let others = Store::open(&format!("{url}&dialect=symfony")).unwrap();
    assert_ne!(others.fingerprint(), store.fingerprint());
    others.lock("n").unwrap().acquire(Wait::No, None).unwrap();
    assert_eq!(code(lock(&named, "n").acquire(Wait::No, None)), Code::Busy);
    held.release().unwrap();
    assert!(sql(count).contains('0'));
    for (more, told) in [
        ("dialect=symfony&id_col=a%20b", Code::InvalidArgument),
        ("dialect=symfony&id_col=", Code::InvalidArgument),
        ("dialect=symfony&token_col=1a", Code::InvalidArgument),
        (
            "dialect=symfony&expiration_col=a%22%3B--",
            Code::InvalidArgument,
        ),
        ("dialect=symfony&expiration_col=s.a", Code::InvalidArgument),
        (
            "dialect=symfony&id_col=x&token_col=X",
            Code::InvalidArgument,
        ),
        ("dialect=symfony&id_col=key_token", Code::InvalidArgument),
        ("dialect=symfony&table=a.b.c", Code::InvalidArgument),
        ("table=a%60b", Code::InvalidArgument),
        // Their names are fixed.
        ("id_col=x", Code::UnknownOption),
        ("dialect=drupal&token_col=x", Code::UnknownOption),
        ("dialect=laravel&expiration_col=x", Code::UnknownOption),
    ] {
        assert_eq!(code(Store::open(&format!("{url}&{more}"))), told, "{more}");
    }
}

#[test]
fn names_of_columns_are_the_urls_on_postgresql() {
    let server = PostgresServer::start();
    columns(&format!("postgres://{}", server.place()), &|sql| {
        server.sql(sql)
    });
}

#[test]
fn names_of_columns_are_the_urls_on_mariadb() {
    let server = MariadbServer::start();
    columns(&format!("mariadb://{}", server.place()), &|sql| {
        server.sql(&format!("USE test; {sql}"))
    });
}
