//! synlock as a peer: `interop-synlock URL NAME`, answering the requests of `README.md`.

use std::io::{BufRead, Write};
use synlock_core::{Code, Lock, Store, Wait};

fn turns(lock: &Lock, count: u32, file: &str) -> &'static str {
    for _ in 0..count {
        lock.acquire(Wait::Forever, None).expect("a turn");
        let text = std::fs::read_to_string(file).expect("the counter");
        let number: u64 = text.trim().parse().unwrap_or(0);
        std::fs::write(file, (number + 1).to_string()).expect("the counter");
        lock.release().expect("still ours");
    }
    "done"
}

fn answer(lock: &Lock, line: &str) -> &'static str {
    let mut words = line.splitn(3, ' ');
    match words.next().unwrap_or_default() {
        "take" => {
            lock.acquire(Wait::Forever, None).expect("the lock");
            "taken"
        }
        "try" => match lock.try_acquire().expect("an answer") {
            Some(_) => "taken",
            None => "busy",
        },
        "release" => match lock.release() {
            Ok(_) => "released",
            Err(error) if error.code() == Code::Lost => "lost",
            Err(error) => panic!("{error}"),
        },
        "turns" => {
            let count = words.next().and_then(|word| word.parse().ok());
            let file = words.next().expect("a file");
            turns(lock, count.expect("a number"), file)
        }
        other => panic!("no request: {other}"),
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("a URL");
    let name = arguments.next().expect("a name");
    let store = Store::open(&url).expect("the store");
    let lock = store.lock(&name).expect("a lock");
    for line in std::io::stdin().lock().lines() {
        let said = answer(&lock, &line.expect("a line"));
        let mut out = std::io::stdout();
        writeln!(out, "{said}")
            .and_then(|()| out.flush())
            .expect("somebody listens");
    }
}
