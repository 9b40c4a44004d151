//! Row 32: names. Pairs of names that somebody might take for one another are held at once, a
//! batch at a time, on every store: names that differ never meet, equal ones do, and what the store
//! made of them (files, keys) is exactly what `core/FORMATS.md` says, and nothing else. The list gives
//! the names back.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use synlock_core::store::flock::file_name;
use synlock_core::{Lock, Store};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::places::place;
use synlock_tests::process::{is_full_load, nanos};
use synlock_tests::redis::RedisServer;
use synlock_tests::torture::Verdict;

const BATCH: usize = 16;
const PREFIX: &str = "synlock:";
/// Longer names are listed by their beginning.
const LISTED_WHOLE: usize = 512;

/// What may stand in a file's name as it is.
const PLAIN: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

type Pair = (Vec<u8>, Vec<u8>);

/// Names that mean something to a shell, a file system, Redis or a text format.
fn awkward() -> impl Strategy<Value = Vec<u8>> {
    let texts: Vec<&[u8]> = vec![
        b".",
        b"..",
        b"/",
        b"../../../../tmp/x",
        b"/etc/passwd",
        b".synlock",
        b".synlock-new-1",
        b"a/b",
        b"a//b",
        b"-rf",
        b"~",
        b"\0",
        b"a\0b",
        b"a\r\n*1\r\n$8\r\nFLUSHALL\r\n",
        b"\r\nSET x 1\r\n",
        b"x'); redis.call('FLUSHALL') --",
        b"\"'`;$()|&<>",
        b"*",
        b"a*b?c[d]\\",
        b"{b0001}:a",
        b"synlock:{b0001}:a",
        b"{",
        b"}",
        b"%2F",
        b"%",
        b"\xff\xfe",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
        "\u{212b}".as_bytes(),
        "\u{df}".as_bytes(),
        "\u{130}".as_bytes(),
        "\u{202e}x".as_bytes(),
        b" ",
        b"a ",
        b"a.",
        b"CON",
        b"a|b|c",
    ];
    prop::sample::select(texts.iter().map(|text| text.to_vec()).collect::<Vec<_>>())
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => vec(any::<u8>(), 1..40),
        4 => vec(prop::sample::select(PLAIN), 1..110),
        2 => vec(any::<char>(), 1..60).prop_map(|text| String::from_iter(text).into_bytes()),
        4 => awkward(),
        // Where mappings change: short and plain, kept whole, cut.
        1 => (0..40u8).prop_map(|one| {
            std::vec::from_elem(one, if one == 0 { 65_536 } else { 4_096 })
        }),
        2 => (any::<u8>(), prop::sample::select(vec![
            99usize, 100, 101, 255, 256, 511, 512, 513, 577, 991, 992, 993, 1023, 1024, 1025, 2000,
        ])).prop_map(|(byte, length)| std::vec::from_elem(byte, length)),
        1 => (awkward(), 1usize..60).prop_map(|(part, times)| part.repeat(times)),
    ]
}

/// What could be taken for `name`.
fn twin(name: Vec<u8>) -> impl Strategy<Value = Pair> {
    let kept = name.clone();
    (any::<u8>(), any::<prop::sample::Index>(), 0..12u8).prop_map(move |(byte, at, how)| {
        let mut twin = kept.clone();
        let at = at.index(twin.len());
        match how {
            0 => {}
            1 => twin[at] = byte,
            2 => twin[at] ^= 0x20,
            3 => twin.insert(at, byte),
            4 => twin.push(byte),
            5 if twin.len() > 1 => {
                twin.remove(at);
            }
            6 => twin = file_name(&twin).into_bytes(),
            7 => twin = redis_shown(&twin),
            8 => twin.make_ascii_lowercase(),
            9 => twin.make_ascii_uppercase(),
            10 => twin.push(0),
            // Of two long names that share their beginning.
            _ => {
                twin = twin.iter().copied().cycle().take(1100).collect();
                let last = twin.len() - 1;
                twin[last] ^= byte | 1;
            }
        }
        twin.truncate(synlock_core::name::MAX_NAME);
        (kept.clone(), twin)
    })
}

fn pairs() -> impl Strategy<Value = Vec<Pair>> {
    vec(name().prop_flat_map(twin), BATCH)
}

fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    for byte in bytes {
        for bit in (0..8).rev() {
            let out = (crc >> 15) ^ u16::from(byte >> bit & 1);
            crc = crc << 1 ^ if out == 0 { 0 } else { 0x1021 };
        }
    }
    crc
}

/// How a name stands in a key, by the document.
fn redis_shown(name: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let looks_cut = name.len() == 577 && name[512] == b'~';
    if name.len() <= 1024 && !looks_cut {
        return name.to_vec();
    }
    let hash: String = Sha256::digest(name)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let beginning = &name[..name.len().min(512)];
    [beginning, b"~", hash.as_bytes()].concat()
}

/// The lock's key and its bucket's counter.
fn redis_keys(name: &[u8]) -> [Vec<u8>; 2] {
    let tag = format!("{PREFIX}{{b{:04}}}", crc16(name) % 1024);
    [
        [tag.as_bytes(), b":", &redis_shown(name)].concat(),
        format!("{tag}f").into_bytes(),
    ]
}

/// Every key of a server, as bytes.
fn all_keys(socket: &Path) -> BTreeSet<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).expect("the server");
    stream
        .write_all(b"*2\r\n$4\r\nKEYS\r\n$1\r\n*\r\n")
        .expect("a request");
    let mut stream = BufReader::new(stream);
    let count = number(&mut stream);
    (0..count)
        .map(|_| {
            let length = number(&mut stream);
            let mut key = vec![0; length + 2];
            stream.read_exact(&mut key).expect("a key");
            key.truncate(length);
            key
        })
        .collect()
}

/// A line of a reply that tells a number.
fn number(stream: &mut impl Read) -> usize {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a reply");
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line[1..line.len() - 2])
        .parse()
        .expect("a number")
}

type Look = dyn Fn(&BTreeSet<Vec<u8>>) -> Result<(), String>;

/// A store, and a look at what it keeps.
struct Place {
    store: Store,
    /// Complains about what is there beside what these names stand for.
    look: Box<Look>,
}

fn list_all(store: &Store) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    let mut cursor = None;
    loop {
        let page = store
            .list(b"", cursor.as_deref(), 1000)
            .expect("the locks that are held");
        names.extend(page.locks.into_iter().map(|lock| lock.name));
        cursor = page.cursor;
        if cursor.is_none() {
            return names;
        }
    }
}

/// Holds all of a batch at once; `lists` asks for the list, too, which takes longer than all else.
fn hold(place: &Place, pairs: &[Pair], lists: bool) -> Result<(), TestCaseError> {
    let fail = |why: String| Err(TestCaseError::fail(why));
    let names: BTreeSet<Vec<u8>> = pairs
        .iter()
        .flat_map(|(one, other)| [one.clone(), other.clone()])
        .collect();
    let shown = |name: &[u8]| {
        let end = name.len().min(80);
        format!("{} ({} bytes)", name[..end].escape_ascii(), name.len())
    };
    let open = |name: &[u8]| place.store.lock(name).expect("a lock");
    let mut held: Vec<Lock> = Vec::new();
    for name in &names {
        let lock = open(name);
        match lock.try_acquire() {
            Ok(Some(_)) => held.push(lock),
            Ok(None) => return fail(format!("{} meets another name", shown(name))),
            Err(error) => return fail(format!("{}: {error:?}", shown(name))),
        }
    }
    for name in &names {
        match open(name).try_acquire() {
            Ok(None) => {}
            other => return fail(format!("{} does not meet itself: {other:?}", shown(name))),
        }
    }
    let listed = if lists {
        list_all(&place.store)
    } else {
        names.clone()
    };
    for name in names.iter().filter(|name| name.len() <= LISTED_WHOLE) {
        if !listed.contains(name) {
            return fail(format!("{} is not listed", shown(name)));
        }
    }
    if listed.len() > names.len() {
        return fail(format!(
            "{} names are listed as {}",
            names.len(),
            listed.len()
        ));
    }
    (place.look)(&names).or_else(fail)?;
    for lock in held {
        if let Err(error) = lock.release() {
            return fail(format!("release: {error:?}"));
        }
    }
    Ok(())
}

fn files(dir: &Path) -> BTreeSet<Vec<u8>> {
    std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().as_bytes().to_vec())
        .collect()
}

/// A directory within one of our own, in which nothing else may appear.
fn flock_place() -> (TempDir, Place) {
    // In memory: a million files are made here.
    let outer = TempDir::within("/dev/shm", "names");
    let dir = outer.path().join("locks");
    let store = Store::open(&format!("flock:{}", dir.display())).expect("a store");
    let around = outer.path().to_owned();
    let look = move |names: &BTreeSet<Vec<u8>>| {
        let there = files(&dir);
        let own = |file: &[u8]| file == b".synlock";
        let meant: BTreeSet<Vec<u8>> = names
            .iter()
            .map(|name| file_name(name).into_bytes())
            .collect();
        if meant.len() != names.len() {
            return Err(format!("{} names, {} files", names.len(), meant.len()));
        }
        if !meant.is_subset(&there) {
            return Err("a lock has no file".into());
        }
        if let Some(file) = there
            .iter()
            .find(|file| file.len() > 255 || (file[0] == b'.' && !own(file)))
        {
            return Err(format!("a file {}", file.escape_ascii()));
        }
        if files(&around) != BTreeSet::from([b"locks".to_vec()]) {
            return Err("something beside the directory".into());
        }
        // So that every batch counts from nought.
        for file in there.iter().filter(|file| !own(file)) {
            if !meant.contains(file) {
                return Err(format!("a file too many: {}", file.escape_ascii()));
            }
        }
        Ok(())
    };
    (
        outer,
        Place {
            store,
            look: Box::new(look),
        },
    )
}

fn shm_place() -> (TempDir, Place) {
    let folder = TempDir::within("/dev/shm", "segment");
    let store = Store::open(&format!("shm:{}/s", folder.path().display())).expect("a store");
    (
        folder,
        Place {
            store,
            look: Box::new(|_| Ok(())),
        },
    )
}

fn redis_place(server: &RedisServer) -> Place {
    let socket = server.socket();
    let store = Store::open(&server.socket_url()).expect("a store");
    let look = move |names: &BTreeSet<Vec<u8>>| {
        let meant: BTreeSet<Vec<u8>> = names.iter().flat_map(|name| redis_keys(name)).collect();
        let there: BTreeSet<Vec<u8>> = all_keys(&socket)
            .into_iter()
            // Counters stay, and in which life of the server they are.
            .filter(|key| {
                let stays = key.ends_with(b"}f") || key == b"synlock:life";
                meant.contains(key) || !stays
            })
            .collect();
        match there.symmetric_difference(&meant).next() {
            None => Ok(()),
            Some(key) => Err(format!("the server has, or lacks, {}", key.escape_ascii())),
        }
    };
    Place {
        store,
        look: Box::new(look),
    }
}

/// Commands that a server may have seen from us.
fn foreign_commands(server: &RedisServer) -> Vec<String> {
    // What the scripts and connections use; and our own look.
    const MEANT: &[&str] = &[
        "eval",
        "evalsha",
        "hello",
        "auth",
        "client",
        "select",
        "info",
        "config",
        "time",
        "ping",
        "script",
        "role",
        "subscribe",
        "unsubscribe",
        "publish",
        "spublish",
        "ssubscribe",
        "hget",
        "hset",
        "hdel",
        "hgetall",
        "hlen",
        "hexists",
        "hmget",
        "hsetnx",
        "del",
        "exists",
        "set",
        "get",
        "incr",
        "incrby",
        "pexpire",
        "pexpireat",
        "persist",
        "pttl",
        "scan",
        "keys",
        "zadd",
        "zrange",
        "zrem",
        "zrank",
        "zcard",
        "zscore",
        "zrangebyscore",
        "zpopmin",
        "type",
        "quit",
        "command",
        "dbsize",
    ];
    server
        .command(&["INFO", "commandstats"])
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split([':', '|']).next())
        .filter(|command| !MEANT.contains(command))
        .map(str::to_owned)
        .collect()
}

/// Fewer pairs, on stores with a server and on SQLite.
fn elsewhere(kinds: &[String], runner: &mut TestRunner, verdict: &mut Verdict) {
    let batches = if is_full_load() { 2_000 } else { 6 };
    let strategy = pairs();
    for kind in kinds {
        let (url, _keep) = place(kind);
        let store = Store::open(&url).expect("a store");
        let lists = store.capabilities().list && !kind.ends_with("advisory");
        let look: Box<Look> = Box::new(|_| Ok(()));
        let place = Place { store, look };
        let mut run = |pairs: &[Pair]| hold(&place, pairs, lists).err().map(|e| e.to_string());
        let failure = (0..batches).find_map(|_| {
            let mut tree = strategy.new_tree(runner).expect("a batch");
            let mut batch = tree.current();
            // One that is cut in any case.
            let long = |last| [vec![b'n'; 2_000], vec![last]].concat();
            batch.push((long(b'a'), long(b'b')));
            match run(&batch) {
                Some(failure) => smallest(&mut tree, &mut run).or(Some(failure)),
                None => None,
            }
        });
        verdict.claim(
            failure.is_none(),
            &format!("names that meet or get lost on {kind}"),
            failure.as_deref().unwrap_or("0"),
        );
    }
}

#[expect(clippy::print_stdout, reason = "rows report on stdout")]
fn main() -> ExitCode {
    let full = is_full_load();
    let (least, seconds) = if full { (1_000_000, 600) } else { (20_000, 0) };
    let seed = std::env::var("SYNLOCK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(nanos);
    println!("SYNLOCK_SEED={seed} repeats this");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(
        Config {
            cases: u32::MAX,
            failure_persistence: None,
            max_shrink_iters: 2_000,
            ..Config::default()
        },
        TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
    );
    let kinds: Vec<String> = std::env::args().skip(1).collect();
    if !kinds.is_empty() {
        let mut verdict = Verdict::default();
        elsewhere(&kinds, &mut runner, &mut verdict);
        return verdict.finish();
    }
    let server = RedisServer::start();
    let memory = Place {
        store: Store::open(&format!("memory:{}", unique("names"))).expect("a store"),
        look: Box::new(|_| Ok(())),
    };
    let (mut _folder, mut shm) = shm_place();
    let mut spent = [Duration::ZERO; 4];
    let redis = redis_place(&server);
    let start = Instant::now();
    let mut verdict = Verdict::default();
    let mut done = 0usize;
    let strategy = pairs();
    let mut failure = None;
    while failure.is_none() && (done < least || start.elapsed() < Duration::from_secs(seconds)) {
        let mut tree = strategy.new_tree(&mut runner).expect("a batch");
        let lists = done.is_multiple_of(16 * BATCH);
        // New ones now and then, lest a million files stay, and slots be searched for.
        if done.is_multiple_of(64 * BATCH) {
            (_folder, shm) = shm_place();
        }
        let mut run =
            |pairs: &[Pair]| {
                let (_outer, flock) = flock_place();
                let places = [
                    ("flock", &flock),
                    ("memory", &memory),
                    ("shm", &shm),
                    ("redis", &redis),
                ];
                // A round trip for each name and step: at the quick load for some of them.
                let stores = if full || lists { 4 } else { 3 };
                places.into_iter().take(stores).zip(&mut spent).find_map(
                    |((store, place), spent)| {
                        let start = Instant::now();
                        let held = hold(place, pairs, lists);
                        *spent += start.elapsed();
                        held.err().map(|error| format!("{store}: {error}"))
                    },
                )
            };
        let batch = tree.current();
        failure = run(&batch);
        if failure.is_some() {
            failure = smallest(&mut tree, &mut run);
        }
        done += BATCH;
    }
    verdict.claim(
        failure.is_none(),
        "names that meet, stray or get lost",
        failure.as_deref().unwrap_or("0"),
    );
    verdict.claim(
        failure.is_some() || done >= least,
        "pairs held at once on each of 4 stores (on Redis at the quick load a sixteenth)",
        done,
    );
    println!("time on flock, memory, shm, redis: {spent:.1?}");
    let foreign = foreign_commands(&server);
    verdict.claim(
        foreign.is_empty(),
        "commands that nobody meant",
        foreign.join(" "),
    );
    verdict.finish()
}

/// The smallest batch that still fails, and how.
fn smallest(
    tree: &mut dyn ValueTree<Value = Vec<Pair>>,
    run: &mut impl FnMut(&[Pair]) -> Option<String>,
) -> Option<String> {
    let mut worst = run(&tree.current());
    for _ in 0..200 {
        if !tree.simplify() {
            break;
        }
        match run(&tree.current()) {
            Some(failure) => worst = Some(failure),
            None if !tree.complicate() => break,
            None => {}
        }
    }
    worst
}
