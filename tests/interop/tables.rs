//! The tables of Symfony, Drupal and Laravel, on three engines, beside Symfony's `PdoStore` and the
//! statements of the other two by plain PDO.

use crate::pair::{LEASE, Pair, php};
use std::sync::Arc;
use synlock_core::{Store, Wait};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

type Keep = Arc<dyn std::any::Any + Send + Sync>;

/// A database as synlock, and as PDO, is told of it.
struct Place {
    names: [&'static str; 3],
    url: String,
    dsn: String,
    user: &'static str,
    keep: Keep,
}

fn places() -> Vec<Place> {
    let folder = TempDir::within("/dev/shm", "synlock-interop");
    let file = format!("{}/site.db", folder.path().display());
    let postgres = PostgresServer::start();
    let mariadb = MariadbServer::start();
    vec![
        Place {
            names: ["sqlite+PdoStore", "sqlite+drupal", "sqlite+laravel"],
            url: format!("sqlite:{file}?io_timeout=20000"),
            dsn: format!("sqlite:{file}"),
            user: "",
            keep: Arc::new(folder),
        },
        Place {
            names: ["postgres+PdoStore", "postgres+drupal", "postgres+laravel"],
            url: format!("postgres://{}?io_timeout=20000", postgres.place()),
            dsn: format!(
                "pgsql:host=127.0.0.1;port={};dbname=postgres",
                postgres.port()
            ),
            user: "postgres",
            keep: Arc::new(postgres),
        },
        Place {
            names: ["mysql+PdoStore", "mysql+drupal", "mysql+laravel"],
            url: format!("mysql://{}?io_timeout=20000", mariadb.place()),
            dsn: format!("mysql:host=127.0.0.1;port={};dbname=test", mariadb.port()),
            user: "locker",
            keep: Arc::new(mariadb),
        },
    ]
}

/// Three dialects on each of three engines: pairs whose leases are long, and such that are killed.
pub(crate) fn pairs() -> (Vec<Pair>, Vec<Pair>) {
    let (mut pairs, mut mortal) = (Vec::new(), Vec::new());
    for place in places() {
        for (dialect, name) in ["symfony", "drupal", "laravel"]
            .into_iter()
            .zip(place.names)
        {
            let url = format!("{}&dialect={dialect}", place.url);
            let store = Store::open(&url).expect("a store");
            // Whichever side comes first finds it.
            store
                .create_table(Wait::Forever)
                .expect("the table is made");
            pairs.push(pair(&place, dialect, name, url.clone()));
            // Renewed in time on any machine.
            let brief = format!("{url}&ttl={LEASE}000&renew=1");
            mortal.push(pair(&place, dialect, name, brief));
        }
    }
    (pairs, mortal)
}

fn pair(place: &Place, dialect: &str, name: &'static str, url: String) -> Pair {
    let lock = unique("import.é");
    let lock = if dialect == "symfony" {
        lock
    } else {
        // What their columns show as it is.
        lock.replace('é', "e")
    };
    let peer = if dialect == "symfony" {
        php("symfony.php", &["pdo", &lock, &place.dsn, place.user])
    } else {
        php("pdo.php", &[dialect, &lock, &place.dsn, place.user])
    };
    Pair {
        name,
        url,
        lock,
        peer,
        // That is tried with the mortal ones, all at once, since each waits for a lease's end.
        frees_on_death: false,
        _keep: place.keep.clone(),
    }
}

/// Each waits for the end of a lease, so all do it at once.
pub(crate) fn die(pairs: &[Pair]) {
    std::thread::scope(|scope| {
        let all: Vec<_> = pairs
            .iter()
            .map(|pair| (pair.name, scope.spawn(|| pair.die())))
            .collect();
        for (name, one) in all {
            assert!(one.join().is_ok(), "{name}");
        }
    });
}
