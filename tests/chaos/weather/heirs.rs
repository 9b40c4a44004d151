//! Row 16 for hand-overs: each reply to an adoption is lost once, with its connection.

use crate::remote::{Remote, lock};
use crate::{code, ms};
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::services::redis_fake::Proxy;

/// Longer than anybody waits here for a hold of nobody's to go.
const TTL: u64 = 30_000;

/// `replies` are so many as there may be to one adoption.
fn lost_adoptions(proxy: impl Fn() -> Proxy, open: impl Fn(&Proxy) -> Store, replies: i64) {
    let mut lost = 0;
    for _ in 0..if is_full_load() { 20 } else { 1 } {
        for k in 1..=replies {
            let proxy = proxy();
            let store = open(&proxy);
            let name = unique("heir");
            let (first, other) = (lock(&store, &name, ms(TTL)), store.lock(&name).unwrap());
            first.acquire(Wait::For(SOON), None).unwrap();
            let text = first.export().unwrap();
            let options = first.options().clone();
            let what = format!("{}: reply {k}", store.url());
            proxy.lose(k);
            let mut adopted = store.adopt(&text, options.clone());
            let has_lost = proxy.has_lost();
            lost += u32::from(has_lost);
            proxy.heal();
            if let Err(error) = &adopted {
                let told = error.code();
                assert!(
                    has_lost && matches!(told, Code::Uncertain | Code::Unavailable),
                    "{what}: {error}"
                );
                // Whoever asks again gets it, unless it has been let go meanwhile: it is nobody's.
                adopted = store.adopt(&text, options);
                let again = adopted.as_ref().err().map(|error| error.code());
                let is_gone = again == Some(Code::Lost) && told == Code::Uncertain;
                assert!(again.is_none() || is_gone, "{what}: {again:?}");
            }
            if let Ok(heir) = adopted {
                assert!(other.try_acquire().unwrap().is_none(), "{what}");
                assert_eq!(code(heir.ensure_held()), Code::Ok, "{what}");
                assert_eq!(code(heir.release()), Code::Ok, "{what}");
            }
            other.acquire(Wait::For(SOON), None).unwrap();
            other.release().unwrap();
        }
    }
    assert!(lost > 0, "no reply was lost");
}

fn behind(remote: &Remote, queries: &[&str], replies: i64) {
    for query in queries {
        let open = |proxy: &Proxy| remote.store_behind(proxy, query);
        lost_adoptions(|| remote.proxy(), open, replies);
    }
}

#[test]
fn lost_adoptions_of_redis() {
    let server = synlock_tests::redis::RedisServer::start();
    for dialect in ["native", "plain", "symfony"] {
        let open = |proxy: &Proxy| {
            let url = format!("{}?dialect={dialect}", proxy.url());
            Store::open(&synlock_tests::load::patient(&url)).unwrap()
        };
        lost_adoptions(|| Proxy::start(server.port()), open, 3);
    }
}

#[cfg(feature = "memcached")]
#[test]
fn lost_adoptions_of_memcached() {
    behind(&Remote::memcached(), &["", "dialect=symfony"], 4);
}

#[cfg(feature = "etcd")]
#[test]
fn lost_adoptions_of_etcd() {
    behind(&Remote::etcd(), &[""], 5);
}

#[cfg(any(feature = "postgres", feature = "mysql"))]
const TABLES: [&str; 4] = ["", "dialect=symfony", "dialect=drupal", "dialect=laravel"];

#[cfg(feature = "postgres")]
#[test]
fn lost_adoptions_of_postgres() {
    behind(&Remote::postgres("postgres"), &TABLES, 4);
}

#[cfg(feature = "mysql")]
#[test]
fn lost_adoptions_of_mysql() {
    behind(&Remote::mysql("mysql"), &TABLES, 4);
}
