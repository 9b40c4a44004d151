//! Stands between clients and a ZooKeeper server: loses a reply, falls silent, and counts what the server
//! tells of its own accord.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// A proxy on a free port; it ends with the test program.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// So many frames until the one that is lost, with its connection.
    left: AtomicI64,
    /// Nothing goes either way.
    silent: AtomicBool,
    events: AtomicU64,
}

impl Proxy {
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let proxy = Proxy {
            port,
            shared: Arc::clone(&shared),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (there, back) = (Arc::clone(&shared), Arc::clone(&shared));
                thread::spawn(move || requests(from, to, &there));
                thread::spawn(move || replies(server, client, &back));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!(
            "zookeeper://127.0.0.1:{}?session_timeout={}",
            self.port,
            synlock_tests::services::zookeeper::session()
        )
    }

    /// Loses the reply after `count - 1` others, and cuts its connection.
    pub fn lose(&self, count: i64) {
        self.shared.left.store(count, SeqCst);
    }

    /// Whether the reply that `lose` spoke of has come and gone.
    pub fn has_lost(&self) -> bool {
        self.shared.left.load(SeqCst) <= 0
    }

    /// Holds everything back, or lets it go on.
    pub fn silence(&self, on: bool) {
        self.shared.silent.store(on, SeqCst);
    }

    /// How often the server told of a watched node.
    pub fn events(&self) -> u64 {
        self.shared.events.load(SeqCst)
    }
}

fn hold_back(shared: &Shared) {
    while shared.silent.load(SeqCst) {
        thread::sleep(Duration::from_millis(2));
    }
}

fn requests(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let mut chunk = [0; 65536];
    while let Ok(got @ 1..) = from.read(&mut chunk) {
        hold_back(shared);
        if to.write_all(&chunk[..got]).is_err() {
            break;
        }
    }
    end(&from, &to);
}

fn replies(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    loop {
        let mut head = [0; 4];
        if from.read_exact(&mut head).is_err() {
            break;
        }
        let mut frame = vec![0; u32::from_be_bytes(head) as usize];
        if from.read_exact(&mut frame).is_err() {
            break;
        }
        hold_back(shared);
        if frame.starts_with(&(-1i32).to_be_bytes()) {
            shared.events.fetch_add(1, SeqCst);
        }
        let lost = shared.left.fetch_sub(1, SeqCst) == 1;
        if lost || to.write_all(&head).is_err() || to.write_all(&frame).is_err() {
            break;
        }
    }
    end(&from, &to);
}

fn end(from: &TcpStream, to: &TcpStream) {
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
