//! Row 36: answers that no etcd gives.

use super::{PATIENCE, leased, lock, ms, store, tried, until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use synlock_core::Code;

/// What is answered.
#[derive(Clone, Debug)]
enum Say {
    /// These bytes.
    Raw(Vec<u8>),
    /// These bytes, and the end.
    Last(Vec<u8>),
    /// The first, then the others as long as they are taken.
    Endless(Vec<u8>, Vec<u8>),
}

/// What the gateway says to a request of this path.
type Script = Box<dyn Fn(&str) -> Say + Send + Sync>;

/// A gateway that says what it is told; it ends with the test program.
struct Gateway {
    url: String,
    /// An endless answer has found nobody who listens any more.
    left: Arc<AtomicBool>,
}

impl Gateway {
    fn start(script: impl Fn(&str) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let (script, left): (Arc<Script>, _) = (Arc::new(Box::new(script)), Arc::default());
        let gateway = Gateway {
            url: format!("etcd://127.0.0.1:{port}?io_timeout=400"),
            left: Arc::clone(&left),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, left) = (Arc::clone(&script), Arc::clone(&left));
                thread::spawn(move || serve(stream, &script, &left));
            }
        });
        gateway
    }
}

/// Answers one request after the other.
fn serve(mut stream: TcpStream, script: &Script, left: &AtomicBool) -> Option<()> {
    let mut requests = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut line = String::new();
        requests.read_line(&mut line).ok().filter(|got| *got > 0)?;
        let path = line.split(' ').nth(1)?.to_owned();
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            requests.read_line(&mut line).ok().filter(|got| *got > 0)?;
            if let Some(text) = line.strip_prefix("Content-Length: ") {
                length = text.trim().parse().ok()?;
            }
        }
        requests.read_exact(&mut vec![0; length]).ok()?;
        match script(&path) {
            Say::Raw(bytes) => stream.write_all(&bytes).ok()?,
            Say::Last(bytes) => return stream.write_all(&bytes).ok(),
            Say::Endless(first, then) => {
                stream.write_all(&first).ok()?;
                while stream.write_all(&then).is_ok() {}
                left.store(true, Ordering::SeqCst);
                return None;
            }
        }
    }
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

fn fine(body: &str) -> Say {
    Say::Raw(answer("200 OK", body))
}

const GRANTED: &str = r#"{"header":{"revision":"4"},"ID":"24","TTL":"61"}"#;

#[test]
fn odd_replies_are_errors_in_time() {
    let raw = |text: &str| Say::Raw(text.as_bytes().to_vec());
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let small_objects = format!(r#"{{"kvs":[{}{{}}]}}"#, r#"{"":0},"#.repeat(1 << 20));
    for say in [
        fine("{}"),
        fine("null"),
        fine("<html>"),
        fine(r#"{"succeeded":true}"#),
        fine(r#"{"header":{"revision":"-7"},"succeeded":true}"#),
        fine(r#"{"header":{"revision":"99999999999999999999"},"succeeded":true}"#),
        fine(
            r#"{"header":{"revision":"7"},"responses":[{"response_range":{"kvs":[{"key":"%"}]}}]}"#,
        ),
        fine(&"[".repeat(1 << 20)),
        fine(&small_objects),
        Say::Raw(answer("502 Bad Gateway", "<html>")),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}"),
        raw("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"),
        raw("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"),
        raw("HTTP/1.1 200 OK\r\n\r\n{}"),
        raw("RFB 003.008\n"),
        raw(&format!("{chunked}FFFFFFFFFFFFFFF\r\n{{}}")),
        raw(&format!("{chunked}2\r\n{{}}xx")),
        raw(&format!("{chunked}-2\r\n{{}}")),
        Say::Last(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
        Say::Last(Vec::new()),
        Say::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), vec![b'x'; 4096]),
        Say::Endless(chunked.into(), b"1000\r\n".repeat(512)),
        Say::Endless(
            chunked.into(),
            [&b"1000\r\n"[..], &[b' '; 4096], b"\r\n"].concat(),
        ),
    ] {
        let words = format!("{say:.100?}");
        let gateway = Gateway::start(move |path| match path {
            "/v3/lease/grant" => fine(GRANTED),
            _ => say.clone(),
        });
        // Its key may be there.
        let answer = tried(&leased(&gateway.url, "n", ms(60_000)));
        assert_eq!(answer, Code::Uncertain, "{words:.100}");
    }
    // Nothing hangs on a lease.
    for body in ["{}", r#"{"TTL":"-1"}"#, r#"{"TTL":[]}"#, "[]"] {
        let gateway = Gateway::start(move |_| fine(body));
        // Each comes at once.
        let url = gateway.url.replace("=400", "=20000");
        assert_eq!(tried(&lock(&url, "n")), Code::Protocol, "{body}");
    }
}

/// The first of two equal requests may have been carried out, or be yet, whatever is said to the second.
#[test]
fn a_refusal_of_what_was_sent_before_is_no_answer() {
    for refused in [
        r#"{"error":"etcdserver: too many requests","code":8}"#,
        r#"{"error":"etcdserver: permission denied","code":7}"#,
    ] {
        let asked = AtomicUsize::new(0);
        let (tell, revoked) = mpsc::channel();
        let gateway = Gateway::start(move |path| match path {
            "/v3/lease/grant" => fine(GRANTED),
            "/v3/kv/txn" if asked.fetch_add(1, Ordering::SeqCst) == 0 => Say::Last(Vec::new()),
            "/v3/kv/txn" => Say::Raw(answer("429 Too Many Requests", refused)),
            "/v3/lease/revoke" => {
                let _ = tell.send(());
                fine("{}")
            }
            _ => fine("{}"),
        });
        // Each comes at once.
        let url = gateway.url.replace("=400", "=20000");
        let taken = tried(&leased(&url, "n", ms(60_000)));
        assert_eq!(taken, Code::Uncertain, "{refused}");
        // What the first one made goes with its lease.
        revoked.recv_timeout(ms(60_000)).expect("the lease's end");
    }
}

#[test]
fn odd_replies_to_a_lease_that_is_always_there_end() {
    let taken = r#"{"error":"etcdserver: lease already exists","code":9}"#;
    let gateway = Gateway::start(move |_| Say::Raw(answer("412 Precondition Failed", taken)));
    assert_eq!(tried(&lock(&gateway.url, "n")), Code::Unavailable);
}

#[test]
fn odd_replies_without_a_pause_are_left() {
    // synlock:n/1 holds, and whoever waits for its end watches it.
    let line =
        r#"{"header":{"revision":"7"},"kvs":[{"key":"c3lubG9jazpuLzE=","create_revision":"3"}]}"#;
    let watched = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let message = "{\"result\":{\"watch_id\":\"0\"}}\n".repeat(128);
    let chunk = format!("{:x}\r\n{message}\r\n", message.len());
    let (tell, asked) = mpsc::channel();
    let gateway = Gateway::start(move |path| match path {
        "/v3/watch" => {
            let _ = tell.send(());
            Say::Endless(watched.into(), chunk.clone().into_bytes())
        }
        _ => fine(line),
    });
    let store = store(&gateway.url.replace("=400", "=5000"));
    thread::spawn(move || store.wait_free("n", PATIENCE));
    asked.recv().unwrap();
    until("the stream is left", || gateway.left.load(Ordering::SeqCst));
}
