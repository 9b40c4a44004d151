//! rslock as a peer: `rslock-peer NAME URL…`, answering the requests of `tests/interop/README.md`.
//! One URL is one server; of several, a majority.

use rslock::{Lock, LockManager};
use std::io::{BufRead, Write};
use std::time::Duration;

const TTL: Duration = Duration::from_millis(8000);

struct Peer {
    name: String,
    waits: LockManager,
    tries: LockManager,
    held: Option<Lock>,
}

impl Peer {
    async fn take(&mut self) -> &'static str {
        let taken = self.waits.lock(self.name.as_str(), TTL).await;
        self.held = Some(taken.expect("the lock"));
        "taken"
    }

    async fn attempt(&mut self) -> &'static str {
        match self.tries.lock(self.name.as_str(), TTL).await {
            Ok(lock) => {
                self.held = Some(lock);
                "taken"
            }
            Err(rslock::LockError::Unavailable) => "busy",
            Err(error) => panic!("{error}"),
        }
    }

    /// rslock says nothing of whether the lock was still ours.
    async fn release(&mut self) -> &'static str {
        self.held.take().expect("a hold").release().await;
        "released"
    }

    async fn turns(&mut self, count: u32, file: &str) -> &'static str {
        for _ in 0..count {
            self.take().await;
            let text = std::fs::read_to_string(file).expect("the counter");
            let number: u64 = text.trim().parse().unwrap_or(0);
            std::fs::write(file, (number + 1).to_string()).expect("the counter");
            self.release().await;
        }
        "done"
    }

    async fn answer(&mut self, line: &str) -> &'static str {
        let mut words = line.splitn(3, ' ');
        match words.next().unwrap_or_default() {
            "take" => self.take().await,
            "try" => self.attempt().await,
            "release" => self.release().await,
            "turns" => {
                let count = words.next().and_then(|word| word.parse().ok());
                let file = words.next().expect("a file");
                self.turns(count.expect("a number"), file).await
            }
            other => panic!("no request: {other}"),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("a name");
    let urls: Vec<String> = arguments.collect();
    let manager = |retries| {
        let mut manager = LockManager::new(urls.clone());
        manager.set_retry(retries, Duration::from_millis(20));
        manager
    };
    let mut peer = Peer {
        name,
        waits: manager(u32::MAX),
        tries: manager(1),
        held: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    for line in std::io::stdin().lock().lines() {
        let said = runtime.block_on(peer.answer(&line.expect("a line")));
        let mut out = std::io::stdout();
        writeln!(out, "{said}")
            .and_then(|()| out.flush())
            .expect("somebody listens");
    }
}
