//! Stands between clients and a ZooKeeper server: loses a reply, lets nobody in, falls silent, and counts what
//! the server tells of its own accord.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
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
    /// The request of this kind whose reply is lost, with its connection, and no other is let in; 0 for none.
    doomed: AtomicI32,
    /// The number of that request, once it has come by.
    number: AtomicI32,
    /// No connection is let in.
    shut: AtomicBool,
    /// The kinds of all requests, in their order.
    kinds: Mutex<Vec<i32>>,
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
                while shared.shut.load(SeqCst) {
                    thread::sleep(Duration::from_millis(2));
                }
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

    /// Loses the reply to the next request of this kind, cuts its connection, and lets nobody in until `open`.
    pub fn lose_reply_to(&self, kind: i32) {
        self.shared.number.store(0, SeqCst);
        self.shared.doomed.store(kind, SeqCst);
    }

    /// Whether that has happened.
    pub fn is_shut(&self) -> bool {
        self.shared.shut.load(SeqCst)
    }

    /// The kinds of all requests since this was asked last.
    pub fn kinds(&self) -> Vec<i32> {
        std::mem::take(&mut self.shared.kinds.lock().unwrap())
    }

    /// Lets connections in again.
    pub fn open(&self) {
        self.shared.shut.store(false, SeqCst);
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
    while let Some(frame) = frame(&mut from) {
        let int = |at: usize| {
            let bytes = frame.get(at..at + 4)?.try_into().ok()?;
            Some(i32::from_be_bytes(bytes))
        };
        // The first frame of a connection is no request, and begins with a nought.
        if let (Some(number @ 1..), Some(kind)) = (int(4), int(8)) {
            shared.kinds.lock().unwrap().push(kind);
            if kind == shared.doomed.load(SeqCst) {
                shared.doomed.store(0, SeqCst);
                shared.number.store(number, SeqCst);
            }
        }
        hold_back(shared);
        if to.write_all(&frame).is_err() {
            break;
        }
    }
    end(&from, &to);
}

/// One frame, with its length before it.
fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    from.read_exact(&mut frame).ok()?;
    let length = u32::from_be_bytes(frame[..4].try_into().ok()?);
    frame.resize(4 + length as usize, 0);
    from.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}

fn replies(mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    while let Some(frame) = frame(&mut from) {
        hold_back(shared);
        let number = i32::from_be_bytes(frame[4..8].try_into().unwrap_or_default());
        if number == -1 {
            shared.events.fetch_add(1, SeqCst);
        }
        if number > 0 && number == shared.number.load(SeqCst) {
            shared.shut.store(true, SeqCst);
            break;
        }
        let lost = shared.left.fetch_sub(1, SeqCst) == 1;
        if lost || to.write_all(&frame).is_err() {
            break;
        }
    }
    end(&from, &to);
}

fn end(from: &TcpStream, to: &TcpStream) {
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
