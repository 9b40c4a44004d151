//! Servers that misbehave: one that answers what it is told, and a proxy that loses a reply.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What to answer to everything but the login.
#[derive(Clone, Debug)]
pub enum Act {
    /// These bytes, then silence.
    Say(Vec<u8>),
    /// These bytes, then the end.
    SayAndClose(Vec<u8>),
    /// The first bytes, then the others for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// Nothing, not even to the login.
    Mute,
}

/// A server on a free port; it ends with the test program.
pub struct Fake {
    port: u16,
    act: Arc<Mutex<Act>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    pub fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (act, heard) = (Arc::new(Mutex::new(act)), Arc::new(Mutex::default()));
        let fake = Fake {
            port,
            act: Arc::clone(&act),
            heard: Arc::clone(&heard),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (act, heard) = (Arc::clone(&act), Arc::clone(&heard));
                thread::spawn(move || serve(stream, &act, &heard));
            }
        });
        fake
    }

    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    /// All that clients have sent.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, act: &Mutex<Act>, heard: &Mutex<Vec<u8>>) -> Option<()> {
    let mut chunk = [0; 4096];
    loop {
        let got = stream.read(&mut chunk).ok().filter(|got| *got > 0)?;
        heard.lock().unwrap().extend(&chunk[..got]);
        let act = act.lock().unwrap().clone();
        let is_login = chunk[..got].ends_with(b"$6\r\nCLIENT\r\n$2\r\nID\r\n");
        match act {
            Act::Mute => {}
            _ if is_login => stream.write_all(b"+OK\r\n:7\r\n").ok()?,
            Act::Say(bytes) => stream.write_all(&bytes).ok()?,
            Act::SayAndClose(bytes) => return stream.write_all(&bytes).ok(),
            Act::Endless(first, then) => {
                stream.write_all(&first).ok()?;
                loop {
                    stream.write_all(&then).ok()?;
                }
            }
        }
    }
}

/// Passes everything on to a server, but for one reply.
pub struct Proxy {
    port: u16,
    /// So many replies until the one that is lost.
    left: Arc<AtomicI64>,
}

impl Proxy {
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicI64::new(0));
        let proxy = Proxy {
            port,
            left: Arc::clone(&left),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let (to, from) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || copy(from, to, None));
                let left = Arc::clone(&left);
                thread::spawn(move || copy(server, client, Some(left)));
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Loses the reply after `count - 1` others, and cuts its connection.
    pub fn lose(&self, count: i64) {
        self.left.store(count, Ordering::SeqCst);
    }

    /// Whether the reply that `lose` spoke of has come and gone.
    pub fn has_lost(&self) -> bool {
        self.left.load(Ordering::SeqCst) <= 0
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, left: Option<Arc<AtomicI64>>) {
    let mut chunk = [0; 65536];
    while let Ok(got) = from.read(&mut chunk) {
        let lost = left
            .as_ref()
            .is_some_and(|left| left.fetch_sub(1, Ordering::SeqCst) == 1);
        if got == 0 || lost || to.write_all(&chunk[..got]).is_err() {
            break;
        }
    }
    // A moment, so that what was sent to the other side before is read there.
    thread::sleep(Duration::from_millis(1));
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
