//! The parsers, their seeds and words.

use crate::databases;
use sha2::{Digest, Sha256};
use synlock_core::store;
use synlock_core::url::Url;

/// One parser.
pub struct Target {
    /// Reads the input; true if it was taken.
    pub run: fn(&[u8]) -> bool,
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub words: &'static [&'static [u8]],
    /// What takes too long to be tried more than once.
    pub extremes: fn() -> Vec<Vec<u8>>,
    /// Makes checksums right again, if the coin says so.
    pub mend: fn(&mut Vec<u8>, bool),
}

/// By name.
pub fn find(name: &str) -> Option<Target> {
    match name {
        "url" => Some(Target {
            run: url,
            seeds: || lines(include_str!("urls.txt")),
            words: URL_WORDS,
            extremes: Vec::new,
            mend: |_, _| {},
        }),
        "reply" => Some(Target {
            run: |bytes| store::redis::read_noise(bytes) > 0,
            seeds: replies,
            words: REPLY_WORDS,
            extremes: long_replies,
            mend: |_, _| {},
        }),
        "item" => Some(Target {
            run: |bytes| store::memcached::read_noise(bytes) > 0,
            seeds: items,
            words: ITEM_WORDS,
            extremes: Vec::new,
            mend: |_, _| {},
        }),
        "frame" => Some(Target {
            run: |bytes| store::zookeeper::read_noise(bytes) > 0,
            seeds: frames,
            words: FRAME_WORDS,
            extremes: Vec::new,
            mend: |_, _| {},
        }),
        "answer" => Some(Target {
            run: |bytes| store::etcd::read_noise(bytes) > 0,
            seeds: answers,
            words: ANSWER_WORDS,
            extremes: long_answers,
            mend: mend_answer,
        }),
        "packet" => Some(Target {
            run: |bytes| store::read_mysql_noise(bytes) > 0,
            seeds: databases::packets,
            words: databases::PACKET_WORDS,
            extremes: databases::long_packets,
            mend: databases::mend_packet,
        }),
        "message" => Some(Target {
            run: |bytes| store::read_postgres_noise(bytes) > 0,
            seeds: databases::messages,
            words: databases::MESSAGE_WORDS,
            extremes: databases::long_messages,
            mend: databases::mend_message,
        }),
        "state" => Some(Target {
            run: store::flock::read_noise,
            seeds: states,
            words: STATE_WORDS,
            extremes: Vec::new,
            mend: |bytes, coin| mend_state(bytes, coin),
        }),
        _ => None,
    }
}

const URL_WORDS: &[&[u8]] = &[
    b"://",
    b":",
    b"//",
    b"/",
    b"?",
    b"&",
    b"=",
    b"@",
    b"%",
    b"%00",
    b"%2F",
    b"%zz",
    b"%c3%28",
    b"[",
    b"]",
    b"[::1]",
    b",",
    b"..",
    b"redis",
    b"rediss",
    b"valkey+unix",
    b"flock",
    b"shm",
    b"memory",
    b"password=",
    b"password_file=/dev/zero",
    b"password_env=X",
    b"ttl=",
    b"db=",
    b"prefix=",
    b"{",
    b"mode=0660",
    b"group=root",
    b"fencing=1",
    b"slots=",
    b"connect_timeout=",
    b"insecure=1",
    b"\xff",
    b"\0",
    "\u{202e}".as_bytes(),
];
const REPLY_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"+",
    b"-",
    b":",
    b"$",
    b"*",
    b"$-1\r\n",
    b"*-1\r\n",
    b"*0\r\n",
    b"$0\r\n\r\n",
    b"*1\r\n",
    b"*2\r\n",
    b"%1\r\n",
    b"_\r\n",
    b">3\r\n",
    b"#t\r\n",
    b"=5\r\ntxt:a\r\n",
    b"message",
    b"subscribe",
    b"|",
    b"-ERR ",
    b"-NOSCRIPT ",
    b"-WRONGTYPE ",
    b"\xff",
    b"1|x|1|1|5|1000|2000|0|host 42 label",
];
const ITEM_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"VA ",
    b"HD\r\n",
    b"EN\r\n",
    b"NF\r\n",
    b"EX\r\n",
    b"STORED\r\n",
    b"SERVER_ERROR out of memory",
    b"CLIENT_ERROR ",
    b" c",
    b" t-1",
    b" s18446744073709551615",
    b"18446744073709551615",
    b"|",
    b"\xff",
];
const FRAME_WORDS: &[&[u8]] = &[
    b"\0\0\0\0",
    b"\0\0\0\x01",
    b"\0\0\0\x10",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"__lock__",
    b"-0000000001",
    b"_c_",
    b"%7A",
    b"%zz",
    b"\xff",
];
const ANSWER_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 503 Service Unavailable\r\n",
    b"Content-Length: 18446744073709551615\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"FFFFFFFFFFFFFFFF\r\n",
    b"0\r\n\r\n",
    b";x=y",
    b"{\"header\":{\"revision\":\"7\"},",
    b"\"responses\":[{\"response_range\":{",
    b"\"kvs\":[{",
    b"\"create_revision\":\"-1\"",
    b"\"TTL\":\"9223372036854775807\"",
    b"\"error\":\"requested lease not found\",\"code\":5",
    b"\\u0000",
    b"\\ud800",
    b"[[[[[[[[[[[[[[[[",
    b"{\"\":{\"\":",
    b"1e999",
    b"\xff",
];
const STATE_WORDS: &[&[u8]] = &[
    b"synlock\0",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x01\0\0\0",
    b"\x02\0\0\0",
    b"\0\x04\0\0",
    b"\x01\x04\0\0",
    b"\xff\0\0\0",
];

fn lines(text: &str) -> Vec<Vec<u8>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.as_bytes().to_vec())
        .collect()
}

/// As `Store::open` reads one, without keeping the store.
fn url(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Ok(mut url) = Url::parse(&text, &[("fair", "1")]) else {
        return false;
    };
    let _ = url.redacted();
    let _ = url.take("fair");
    let opened = match url.scheme.as_str() {
        "redis" | "rediss" | "valkey" | "valkeys" | "redis+unix" | "valkey+unix" | "unix" => {
            store::redis::open(&mut url)
        }
        "flock" => store::flock::open(&mut url),
        "shm" => store::shm::open(&mut url),
        _ => store::memory::open(&mut url),
    };
    match opened {
        Ok(store) => {
            let _ = (store.url().len(), store.fingerprint());
            url.finish().is_ok()
        }
        Err(error) => {
            let _ = format!("{error} {error:?}");
            false
        }
    }
}

/// `\r`, `\n`, `\xNN` and `\\` stand for bytes.
fn replies() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = lines(include_str!("replies.txt"))
        .iter()
        .map(|line| unescape(line))
        .collect();
    seeds.push(b"*1\r\n".repeat(64));
    seeds
}

/// What memcached answers to `mg`, `md`, `add`, `cas` and `flush_all`.
fn items() -> Vec<Vec<u8>> {
    let owner = "0123456789abcdef".repeat(2);
    let value = format!("{owner}|1|7|host 42 label");
    vec![
        format!("VA {} c7 t30\r\n{value}\r\n", value.len()).into_bytes(),
        b"VA 3 c7 t-1\r\na\nb\r\nEN\r\nHD\r\n".to_vec(),
        b"STORED\r\nNOT_STORED\r\nEXISTS\r\nHD\r\n".to_vec(),
        b"SERVER_ERROR out of memory storing object\r\n".to_vec(),
    ]
}

/// Frames of ZooKeeper: a welcome, names of children, a node and its state.
fn frames() -> Vec<Vec<u8>> {
    let text = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let framed = |body: Vec<u8>| [&(body.len() as u32).to_be_bytes()[..], &body].concat();
    let names = [
        2u32.to_be_bytes().to_vec(),
        text("_c_0123456789abcdef0123456789abcdef-lock-0000000001"),
        text("0123456789abcdef0123456789abcdef__lock__0000000002"),
    ];
    vec![
        framed(vec![0; 40]),
        framed(names.concat()),
        framed([text("1 host 42 label"), vec![0; 68]].concat()),
        framed(vec![0; 68]),
    ]
}

/// An answer of etcd's gateway.
fn answer(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// What etcd answers to a lease, a transaction, a range, a watch, and to what it would not do.
fn answers() -> Vec<Vec<u8>> {
    // p/18 and {"synlock":1,"token":"00"}, in base64.
    let kv = r#"{"key":"cC8xOA==","create_revision":"6","mod_revision":"6","version":"1","value":"eyJzeW5sb2NrIjoxLCJ0b2tlbiI6IjAwIn0=","lease":"24"}"#;
    let header = r#""header":{"cluster_id":"1","member_id":"2","revision":"7","raft_term":"2"}"#;
    let range = format!(r#"{{{header},"kvs":[{kv},{kv}],"count":"2"}}"#);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        answer("200 OK", &format!(r#"{{{header},"ID":"24","TTL":"31"}}"#)),
        answer("200 OK", &range),
        answer(
            "200 OK",
            &format!(
                r#"{{{header},"succeeded":true,"responses":[{{"response_put":{{}}}},{{"response_range":{range}}}]}}"#
            ),
        ),
        format!("{chunked}{:x}\r\n{range}\r\n0\r\n\r\n", range.len()).into_bytes(),
        answer(
            "404 Not Found",
            r#"{"error":"etcdserver: requested lease not found","code":5,"message":"etcdserver: requested lease not found"}"#,
        ),
        answer(
            "200 OK",
            "{\"result\":{\"watch_id\":\"7\",\"created\":true}}\n{\"result\":{\"watch_id\":\"7\",\"events\":[{\"type\":\"DELETE\"}]}}\n",
        ),
    ]
}

/// Bodies that grow when they are read, as long as a body may be.
fn long_answers() -> Vec<Vec<u8>> {
    let small = ["0,", "{},", "[0],", "{\"\":0},", "\"\","];
    let mut answers: Vec<Vec<u8>> = [16 << 10, 1 << 20, 15 << 20]
        .into_iter()
        .flat_map(|size| small.map(|part| part.repeat(size / part.len())))
        .map(|parts| answer("200 OK", &format!("{{\"kvs\":[{parts}0]}}")))
        .collect();
    let keys: Vec<String> = (0..1 << 20).map(|key| format!("\"{key:x}\":0")).collect();
    answers.push(answer("200 OK", &format!("{{{}}}", keys.join(","))));
    let text = "A".repeat(15 << 20);
    answers.push(answer(
        "200 OK",
        &format!("{{\"kvs\":[{{\"key\":\"{text}\"}}]}}"),
    ));
    answers.push(answer("200 OK", &"[".repeat(1 << 20)));
    answers
}

/// Makes the length right again: noise rarely leaves a body as long as its head says.
fn mend_answer(bytes: &mut Vec<u8>, coin: bool) {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return;
    };
    if coin {
        let body = bytes.split_off(end + 4);
        *bytes = answer("200 OK", &String::from_utf8_lossy(&body));
    }
}

/// As many elements as a reply may have, and as many bytes.
fn long_replies() -> Vec<Vec<u8>> {
    let elements = ["$-1\r\n", ":1\r\n", "+\r\n", "$0\r\n\r\n", "*0\r\n"];
    let mut replies: Vec<Vec<u8>> = [1 << 17, 1 << 20]
        .into_iter()
        .flat_map(|count| elements.map(|element| (count, element)))
        .map(|(count, element)| format!("*{count}\r\n{}", element.repeat(count)).into_bytes())
        .collect();
    let size = 15 << 20;
    replies.push(
        [
            format!("${size}\r\n").as_bytes(),
            &vec![b'x'; size],
            b"\r\n",
        ]
        .concat(),
    );
    replies.push([b"-ERR ", vec![b'x'; 65_000].as_slice(), b"\r\n"].concat());
    replies.push(vec![b'+'; 1 << 20]);
    replies
}

fn unescape(line: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'r') => bytes.push(b'\r'),
            Some(b'n') => bytes.push(b'\n'),
            Some(b'x') => {
                let mut digit = || {
                    rest.next()
                        .and_then(|byte| char::from(byte).to_digit(16))
                        .expect("two digits")
                };
                bytes.push((digit() * 16 + digit()) as u8);
            }
            other => bytes.extend(other),
        }
    }
    bytes
}

fn check(parts: &[&[u8]]) -> [u8; 8] {
    let mut eight = [0; 8];
    eight.copy_from_slice(&Sha256::digest(parts.concat())[..8]);
    eight
}

/// Where a lock file has what; `core/FORMATS.md`.
const NAME: usize = 512;
const SIZE: usize = NAME + 1024;

fn state(name: &[u8], counters: [u64; 2], label: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    bytes[..8].copy_from_slice(b"synlock\0");
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(name.len() as u32).to_le_bytes());
    bytes[NAME..NAME + name.len()].copy_from_slice(name);
    for (at, counter) in [32, 48].into_iter().zip(counters) {
        bytes[at..at + 8].copy_from_slice(&counter.to_le_bytes());
    }
    bytes[64..68].copy_from_slice(&42u32.to_le_bytes());
    bytes[68..72].copy_from_slice(&(label.len() as u32).to_le_bytes());
    bytes[80..80 + label.len()].copy_from_slice(label);
    mend_state(&mut bytes, true);
    bytes
}

fn states() -> Vec<Vec<u8>> {
    vec![
        Vec::new(),
        vec![0; 16],
        b"synlock\0".to_vec(),
        state(b"a name with spaces", [7, 8], b"label"),
        state(&[b'n'; 1024], [u64::MAX, 1], &[b'l'; 255]),
        state(
            b"\xff\0\r\n",
            [1 << 62, 1 << 63],
            "\u{e9}\u{301}".as_bytes(),
        ),
        state(b"x", [0, 0], b""),
    ]
}

/// Noise alone never gets past the checksums.
fn mend_state(bytes: &mut [u8], coin: bool) {
    if !coin || bytes.len() < SIZE {
        return;
    }
    let length = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(four) as usize
    };
    let (name, label) = (length(12).min(1024), length(68).min(255));
    let sums = [
        (24, check(&[&bytes[..24], &bytes[NAME..NAME + name]])),
        (40, check(&[&bytes[32..40]])),
        (56, check(&[&bytes[48..56]])),
        (72, check(&[&bytes[64..72], &bytes[80..80 + label]])),
    ];
    for (at, sum) in sums {
        bytes[at..at + 8].copy_from_slice(&sum);
    }
}
