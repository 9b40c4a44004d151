//! Advisory locks beside the databases' own clients and Symfony's `PostgreSqlStore`; a quorum beside
//! Symfony's `CombinedStore`.

use crate::pair::{Pair, php, shell};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use synlock_tests::load::patient;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// The number that stands for a name.
fn number(name: &str) -> i64 {
    let hash = Sha256::digest(format!("synlock:{name}"));
    i64::from_be_bytes(hash[..8].try_into().expect("eight bytes"))
}

pub(crate) fn pairs() -> Vec<Pair> {
    let postgres = Arc::new(PostgresServer::start());
    let mariadb = Arc::new(MariadbServer::start());
    let (pg, my) = (postgres.port().to_string(), mariadb.port().to_string());
    let psql = [
        "psql",
        "-XqAt",
        "-h127.0.0.1",
        "-Upostgres",
        "-p",
        &pg,
        "postgres",
    ];
    let client = [
        "mariadb",
        "--no-defaults",
        "-NBn",
        "-h127.0.0.1",
        "-ulocker",
        "-P",
        &my,
        "test",
    ];
    let url = format!("postgres+advisory://{}", postgres.place());
    vec![
        Pair {
            name: "postgres-advisory+psql",
            url: patient(&url),
            lock: "import".to_owned(),
            peer: shell(
                "sql.sh",
                &[&["postgres", &number("import").to_string()][..], &psql].concat(),
            ),
            frees_on_death: true,
            _keep: postgres.clone(),
        },
        Pair {
            name: "postgres-advisory-symfony+PostgreSqlStore",
            url: patient(&format!("{url}?dialect=symfony")),
            lock: "export é/1".to_owned(),
            peer: php(
                "symfony.php",
                &[
                    "pgsql",
                    "export é/1",
                    &format!("pgsql:host=127.0.0.1;port={pg};dbname=postgres"),
                    "postgres",
                ],
            ),
            frees_on_death: true,
            _keep: postgres,
        },
        Pair {
            name: "mysql-advisory+mariadb",
            url: patient(&format!("mysql+advisory://{}", mariadb.place())),
            lock: "import".to_owned(),
            peer: shell(
                "sql.sh",
                &[&["mysql", "synlock:import"][..], &client].concat(),
            ),
            frees_on_death: true,
            _keep: mariadb,
        },
        combined(),
    ]
}

/// Three servers, and two of them are enough.
fn combined() -> Pair {
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start()).collect();
    let members: Vec<String> = servers
        .iter()
        .map(|server| patient(&format!("{}?dialect=symfony", server.url())))
        .collect();
    let ports: Vec<String> = servers
        .iter()
        .map(|server| server.port().to_string())
        .collect();
    let mut words = vec!["combined", "import é/1"];
    words.extend(ports.iter().map(String::as_str));
    Pair {
        name: "quorum-symfony+CombinedStore",
        url: format!(
            "quorum:({})?cold_start=1&ttl=6000&renew=1",
            members.join(",")
        ),
        lock: "import é/1".to_owned(),
        peer: php("symfony.php", &words),
        frees_on_death: true,
        _keep: Arc::new(servers),
    }
}
