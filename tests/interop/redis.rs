//! Peers on Redis.

use super::pair::{Pair, Words, node, php, python, rust};
use std::sync::Arc;
use synlock_tests::load::patient;
use synlock_tests::redis::RedisServer;

pub(crate) fn pairs() -> Vec<Pair> {
    let server = Arc::new(RedisServer::start());
    let port = server.port().to_string();
    type Peer = fn(port: &str, lock: &str) -> Words;
    let all: [(&'static str, &str, &str, Peer); 7] = [
        ("redis-plain+redis-py", "plain", "job a", |port, lock| {
            python("redis_peer.py", &["redis-py", port, lock])
        }),
        ("redis-plain+redlock", "plain", "job b", |port, lock| {
            node("redis.cjs", &["redlock", port, lock])
        }),
        ("redis-plain+rslock", "plain", "job c", |port, lock| {
            rust("rslock", &[lock, &format!("redis://127.0.0.1:{port}")])
        }),
        (
            "redis-python-redis-lock+python-redis-lock",
            "python-redis-lock",
            "job é",
            |port, lock| python("redis_peer.py", &["python-redis-lock", port, lock]),
        ),
        (
            "redis-redis-semaphore+redis-semaphore",
            "redis-semaphore",
            "job d",
            |port, lock| node("redis.cjs", &["redis-semaphore", port, lock]),
        ),
        (
            "redis-symfony+RedisStore",
            "symfony",
            "import é/1",
            |port, lock| php("symfony.php", &["redis", lock, port]),
        ),
        ("redis-redisson+RLock", "redisson", "job f", |port, lock| {
            python("redis_peer.py", &["redisson", port, lock])
        }),
    ];
    let mut pairs: Vec<Pair> = all
        .into_iter()
        .map(|(name, dialect, lock, peer)| Pair {
            name,
            // Short, so that the lock of a killed holder is not waited for long, and renewed in time on any machine.
            url: patient(&format!(
                "{}?dialect={dialect}&ttl=6000&renew=1",
                server.url()
            )),
            lock: lock.to_owned(),
            peer: peer(&port, lock),
            frees_on_death: true,
            _keep: server.clone(),
        })
        .collect();
    pairs.push(majority());
    pairs
}

/// Redlock on three servers, with whom a quorum of plain texts counts alike.
fn majority() -> Pair {
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start()).collect();
    let urls: Vec<String> = servers.iter().map(RedisServer::url).collect();
    let lock = "job of three";
    let members: Vec<String> = urls
        .iter()
        .map(|url| patient(&format!("{url}?dialect=plain")))
        .collect();
    let mut words = vec![lock];
    words.extend(urls.iter().map(String::as_str));
    Pair {
        name: "quorum-of-redis-plain+rslock",
        // The servers have just come up, and have nothing to forget.
        url: format!(
            "quorum:({})?cold_start=1&ttl=6000&renew=1",
            members.join(",")
        ),
        lock: lock.to_owned(),
        peer: rust("rslock", &words),
        frees_on_death: true,
        _keep: Arc::new(servers),
    }
}
