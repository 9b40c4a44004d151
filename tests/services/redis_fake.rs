//! Servers that misbehave: one that answers what it is told, and a proxy that loses a reply.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// What to answer to everything but the login.
#[derive(Clone, Debug)]
pub enum Act {
    /// These bytes, then silence.
    Say(Vec<u8>),
    /// These bytes, then the end.
    SayAndClose(Vec<u8>),
    /// The first bytes, then the others for ever.
    Endless(Vec<u8>, Vec<u8>),
    /// A map of a cluster in which everything is here, and that everything has moved here.
    Circle,
    /// A sentinel's word that the master is at this port.
    Master(u16),
    /// The first bytes to whoever comes, then as the other.
    Greet(Vec<u8>, Box<Act>),
    /// Nothing, not even to the login.
    Mute,
}

/// A server on a free port; it ends with the test program.
#[derive(Debug)]
pub struct Fake {
    port: u16,
    act: Arc<Mutex<Act>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    /// Starts it.
    pub fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket or a lock");
        let port = listener.local_addr().expect("a socket or a lock").port();
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

    /// `SCHEME://127.0.0.1:PORT`.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// What to answer from now on.
    pub fn set(&self, act: Act) {
        *self.act.lock().expect("a socket or a lock") = act;
    }

    /// All that clients have sent.
    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().expect("a socket or a lock").clone()
    }
}

fn serve(mut stream: TcpStream, act: &Mutex<Act>, heard: &Mutex<Vec<u8>>) -> Option<()> {
    if let Act::Greet(words, _) = &*act.lock().expect("a socket or a lock") {
        stream.write_all(words).ok()?;
    }
    let mut chunk = [0; 4096];
    loop {
        let got = stream.read(&mut chunk).ok().filter(|got| *got > 0)?;
        heard
            .lock()
            .expect("a socket or a lock")
            .extend(&chunk[..got]);
        let mut act = act.lock().expect("a socket or a lock").clone();
        if let Act::Greet(_, then) = act {
            act = *then;
        }
        let is_login = chunk[..got].ends_with(b"$6\r\nCLIENT\r\n$2\r\nID\r\n");
        match act {
            Act::Mute | Act::Greet(..) => {}
            // What `memcached:` begins with.
            _ if &chunk[..got] == b"mn\r\n" => stream.write_all(b"MN\r\n").ok()?,
            // It does not say what it is like, nor which life this is.
            _ if is_login => {
                let asks = |word: &[u8]| chunk[..got].windows(word.len()).any(|some| some == word);
                let asked = usize::from(asks(b"\r\nINFO\r\n")) + usize::from(asks(b"\r\nGET\r\n"));
                let words = "$-1\r\n".repeat(asked) + "+OK\r\n:7\r\n";
                stream.write_all(words.as_bytes()).ok()?;
            }
            Act::Circle => {
                let port = stream.local_addr().ok()?.port();
                let map = format!("a 127.0.0.1:{port}@1 master - 0 1 1 connected 0-16383\n");
                let text = if chunk[..got].windows(5).any(|word| word == b"NODES") {
                    format!("${}\r\n{map}\r\n", map.len())
                } else {
                    format!("-MOVED 1 127.0.0.1:{port}\r\n")
                };
                stream.write_all(text.as_bytes()).ok()?;
            }
            Act::Master(port) => {
                let port = port.to_string();
                let text = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
                stream.write_all(text.as_bytes()).ok()?;
            }
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

/// What becomes of a connection when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The reply is lost, and the connection ends.
    Cut,
    /// Nothing arrives any more, in either direction, as when packets are dropped.
    Silence,
    /// Requests arrive, replies do not.
    OneWay,
    /// The connection is reset.
    Reset,
    /// These bytes come in place of the reply.
    Reply(&'static [u8]),
    /// They come, and the connection ends.
    LastWords(&'static [u8]),
}

/// Passes everything on to a server, but for one reply. Takes no new connection once it is dropped.
#[derive(Debug)]
pub struct Proxy {
    place: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// So many replies until the one that is lost.
    left: AtomicI64,
    fault: Mutex<Fault>,
    /// What holds for all connections, until it is over.
    weather: Mutex<Option<Fault>>,
    /// How many scripts must be on their way on one connection before a reply passes; 0 after that.
    dam: AtomicUsize,
    closed: AtomicBool,
    late: Mutex<Late>,
    /// One of these the late request has in it, if it is to be no script of Redis'.
    late_words: Mutex<Vec<Vec<u8>>>,
}

/// A request that arrives later than others sent after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Late {
    /// None is.
    Never,
    /// The next script will be.
    Next,
    /// It is kept back.
    Kept,
    /// It is on its way.
    Sent,
    /// It arrived on a connection that was open still.
    Answered,
    /// It did not.
    Refused,
}

/// What both directions of a connection know.
#[derive(Debug, Default)]
struct Link {
    /// Scripts that were sent since a reply passed.
    waiting: AtomicUsize,
    /// Some of them are counted, and not passed on yet.
    is_passing: AtomicBool,
    ended: AtomicBool,
    is_late: AtomicBool,
}

impl Link {
    /// The server's word on a late request, though its client has gone.
    fn wait_for_late(&self) {
        while self.is_late.load(Ordering::SeqCst) && !self.ended.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What has become of the late request of this connection.
    fn tell(&self, state: &State, late: Late) {
        if self.is_late.swap(false, Ordering::SeqCst) {
            state.set_late(late);
        }
    }
}

impl State {
    fn late(&self) -> Late {
        *self.late.lock().expect("a socket or a lock")
    }

    fn set_late(&self, late: Late) {
        *self.late.lock().expect("a socket or a lock") = late;
    }

    /// Whether what passes may be the late request.
    fn is_wanted(&self, chunk: &[u8], scripts: usize) -> bool {
        let words = self.late_words.lock().expect("a socket or a lock");
        if words.is_empty() {
            return scripts > 0;
        }
        let has = |word: &Vec<u8>| chunk.windows(word.len()).any(|bytes| bytes == *word);
        words.iter().any(has)
    }
}

impl Proxy {
    /// Before the server at this port.
    pub fn start(server: u16) -> Self {
        Self::start_on("127.0.0.1", server)
    }

    /// The same, on another address of this host.
    pub fn start_on(host: &str, server: u16) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a socket or a lock");
        let state = Arc::new(State {
            left: AtomicI64::new(0),
            fault: Mutex::new(Fault::Cut),
            weather: Mutex::new(None),
            dam: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            late: Mutex::new(Late::Never),
            late_words: Mutex::default(),
        });
        let proxy = Proxy {
            place: listener.local_addr().expect("a socket or a lock"),
            state: Arc::clone(&state),
        };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if state.closed.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
                    continue;
                };
                let (to, from) = (
                    server.try_clone().expect("a socket or a lock"),
                    client.try_clone().expect("a socket or a lock"),
                );
                let link = Arc::new(Link::default());
                let both = (Arc::clone(&state), Arc::clone(&link));
                thread::spawn(move || copy(from, to, &both.0, &both.1, false));
                let both = (Arc::clone(&state), link);
                thread::spawn(move || copy(server, client, &both.0, &both.1, true));
            }
        });
        proxy
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.place.port())
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.place.port()
    }

    /// Loses the reply after `count - 1` others, and cuts its connection.
    pub fn lose(&self, count: i64) {
        self.fail(count, Fault::Cut);
    }

    /// From the reply after `count - 1` others on, this happens to every connection until `heal`.
    pub fn fail(&self, count: i64, fault: Fault) {
        *self.state.fault.lock().expect("a socket or a lock") = fault;
        self.state.left.store(count, Ordering::SeqCst);
    }

    /// New connections work again; those of before are cut.
    pub fn heal(&self) {
        self.state.left.store(0, Ordering::SeqCst);
        *self.state.weather.lock().expect("a socket or a lock") = None;
    }

    /// No reply passes until so many scripts are waiting for theirs on one connection; then all pass.
    pub fn dam(&self, scripts: usize) {
        self.state.dam.store(scripts, Ordering::SeqCst);
    }

    /// Keeps the next script back until `send_late`; what is sent on other connections passes it.
    pub fn keep_next(&self) {
        self.state.set_late(Late::Next);
    }

    /// The same of what has this word in it, as it is or in the digits that `mysql:` sends.
    pub fn keep_next_with(&self, word: &str) {
        let digits: String = word.bytes().map(|byte| format!("{byte:02x}")).collect();
        *self.state.late_words.lock().expect("a socket or a lock") =
            vec![word.into(), digits.into_bytes()];
        self.keep_next();
    }

    /// Lets it go on.
    pub fn send_late(&self) {
        let mut late = self.state.late.lock().expect("a socket or a lock");
        if *late == Late::Kept {
            *late = Late::Sent;
        }
    }

    /// What has become of it.
    pub fn late(&self) -> Late {
        self.state.late()
    }

    /// Whether so many were.
    pub fn has_dam_broken(&self) -> bool {
        self.state.dam.load(Ordering::SeqCst) == 0
    }

    /// Whether the reply that `lose` spoke of has come and gone.
    pub fn has_lost(&self) -> bool {
        self.state.left.load(Ordering::SeqCst) <= 0
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        // Wakes the thread that listens.
        let _ = TcpStream::connect(self.place);
    }
}

/// Counts the requests in what passes piece by piece.
#[derive(Default)]
struct Scripts(Vec<u8>);

impl Scripts {
    fn count(&mut self, chunk: &[u8]) -> usize {
        const WORD: &[u8] = b"\r\nEVALSHA\r\n";
        self.0.extend_from_slice(chunk);
        let seen = self.0.windows(WORD.len()).filter(|word| *word == WORD);
        let seen = seen.count();
        self.0.drain(..self.0.len().saturating_sub(WORD.len() - 1));
        seen
    }
}

fn hold_back(state: &State, link: &Link) {
    loop {
        let wanted = state.dam.load(Ordering::SeqCst);
        if wanted == 0 || link.ended.load(Ordering::SeqCst) {
            return;
        }
        let all_wait = link.waiting.load(Ordering::SeqCst) >= wanted;
        // The server is to have them all, whatever becomes of the replies.
        if all_wait && !link.is_passing.load(Ordering::SeqCst) {
            state.dam.store(0, Ordering::SeqCst);
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn keep_back(state: &State, link: &Link) {
    if state.late() != Late::Next {
        return;
    }
    link.is_late.store(true, Ordering::SeqCst);
    state.set_late(Late::Kept);
    while state.late() == Late::Kept {
        thread::sleep(Duration::from_millis(1));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, state: &State, link: &Link, replies: bool) {
    let mut chunk = [0; 65536];
    let mut scripts = Scripts::default();
    while let Ok(got) = from.read(&mut chunk) {
        if replies {
            let late = [Late::Refused, Late::Answered][usize::from(got > 0)];
            link.tell(state, late);
            hold_back(state, link);
            link.waiting.store(0, Ordering::SeqCst);
        } else {
            let seen = scripts.count(&chunk[..got]);
            link.is_passing.store(true, Ordering::SeqCst);
            link.waiting.fetch_add(seen, Ordering::SeqCst);
            if state.is_wanted(&chunk[..got], seen) {
                keep_back(state, link);
            }
        }
        if replies && state.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let fault = *state.fault.lock().expect("a socket or a lock");
            match fault {
                Fault::Cut => {
                    let_finish(&mut from);
                    break;
                }
                Fault::Reply(bytes) => {
                    if to.write_all(bytes).is_err() {
                        break;
                    }
                    continue;
                }
                Fault::LastWords(bytes) => {
                    let _ = to.write_all(bytes);
                    break;
                }
                Fault::Silence | Fault::OneWay | Fault::Reset => {}
            }
            *state.weather.lock().expect("a socket or a lock") = Some(fault);
        }
        let weather = *state.weather.lock().expect("a socket or a lock");
        match weather {
            Some(Fault::Reset) => {
                reset(if replies { &to } else { &from });
                break;
            }
            Some(Fault::OneWay) if !replies => {}
            Some(_) => {
                while state.weather.lock().expect("a socket or a lock").is_some() {
                    thread::sleep(Duration::from_millis(1));
                }
                break;
            }
            None => {}
        }
        if got == 0 || to.write_all(&chunk[..got]).is_err() {
            break;
        }
        if !replies {
            link.is_passing.store(false, Ordering::SeqCst);
            link.wait_for_late();
        }
    }
    link.tell(state, Late::Refused);
    link.ended.store(true, Ordering::SeqCst);
    // A moment, so that what was sent to the other side before is read there.
    thread::sleep(Duration::from_millis(1));
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// The server is to carry out what it was sent. It would not read the rest of it if the connection were closed
/// over replies that nobody has read: that resets it.
fn let_finish(server: &mut TcpStream) {
    const LONGEST: Duration = Duration::from_secs(2);
    let began = Instant::now();
    let _ = server.shutdown(Shutdown::Write);
    let _ = server.set_read_timeout(Some(LONGEST));
    let mut chunk = [0; 65536];
    while began.elapsed() < LONGEST && matches!(server.read(&mut chunk), Ok(got) if got > 0) {}
}

/// Ends a connection with RST rather than FIN.
fn reset(client: &TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the option's value is a linger, valid during the call.
    unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(client),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
}
