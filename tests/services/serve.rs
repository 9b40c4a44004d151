//! Servers for suites that are not written in Rust: `services NAME…` starts them side by side, prints a line
//! `NAME PORT` for each and an empty one, and ends them when its input does.

#![allow(clippy::print_stdout, reason = "its output is its answer")]

use std::io::Read as _;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::memcached::MemcachedServer;
use synlock_tests::services::postgres::PostgresServer;
use synlock_tests::services::redis::RedisServer;
use synlock_tests::services::zookeeper::ZookeeperServer;

fn start(name: &str) -> (u16, Box<dyn std::any::Any + Send>) {
    match name {
        "redis" => {
            let server = RedisServer::start();
            (server.port(), Box::new(server))
        }
        "memcached" => {
            let server = MemcachedServer::start();
            (server.port(), Box::new(server))
        }
        "postgres" => {
            let server = PostgresServer::start();
            (server.port(), Box::new(server))
        }
        "mariadb" => {
            let server = MariadbServer::start();
            (server.port(), Box::new(server))
        }
        "zookeeper" => {
            let server = ZookeeperServer::start();
            (server.port(), Box::new(server))
        }
        other => panic!("there is no server {other}"),
    }
}

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let starting: Vec<_> = names
        .into_iter()
        .map(|name| std::thread::spawn(move || (start(&name), name)))
        .collect();
    let mut kept = Vec::new();
    for thread in starting {
        let ((port, server), name) = thread.join().expect("a server");
        println!("{name} {port}");
        kept.push(server);
    }
    println!();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
