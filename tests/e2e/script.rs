//! What one language must answer by itself.

use crate::Setup;
use crate::command::{LANGUAGES, Running};
use libtest_mimic::Failed;
use std::time::Duration;
use synlock_tests::names::unique;

/// A name as the protocol writes it.
pub(crate) fn hex(name: impl AsRef<[u8]>) -> String {
    name.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

const CAPABILITIES: [&str; 10] = [
    "shared",
    "promote",
    "permits",
    "ttl",
    "frees_on_death",
    "wakes",
    "fair",
    "export",
    "list",
    "break",
];

/// The shortest lease, in ms, of those that a test would like.
pub(crate) fn lease(setup: &Setup, wanted: u64) -> u64 {
    match setup.name {
        // They count whole seconds.
        "memcached" | "etcd" => wanted.max(1000),
        _ => wanted,
    }
}

/// After how long it is surely over.
pub(crate) fn over(setup: &Setup, ttl: u64) -> Duration {
    Duration::from_millis(match setup.name {
        // It adds two seconds; etcd's server keeps a lease for two at least, and looks twice a second.
        "memcached" => ttl.next_multiple_of(1000) + 2100,
        "etcd" => ttl.next_multiple_of(1000) + 4000,
        _ => ttl + 120,
    })
}

/// Asks for the store's capabilities; what is in them.
pub(crate) fn can(running: &mut Running) -> impl Fn(&str) -> bool + use<> {
    let answer = running.ask("capabilities s");
    let words: Vec<String> = answer.split(' ').skip(1).map(str::to_owned).collect();
    assert_eq!(words.len(), 11, "{}: {answer}", running.language);
    move |what| match what {
        "fence" => words[10] != "none",
        what => {
            let place = CAPABILITIES.iter().position(|one| *one == what);
            words[place.expect("a capability")] == "1"
        }
    }
}

/// Whether a store keeps names and labels where other processes read them. A database's advisory locks
/// are numbers.
pub(crate) fn keeps_words(setup: &Setup) -> bool {
    !setup.name.ends_with("+advisory")
}

/// The same requests, the same statuses.
pub(crate) fn run(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let can = can(&mut it);
    let name = hex(unique("script"));
    it.expect("ping s", "0");
    it.expect(&format!("locked s {name}"), "0 0");
    it.expect(&format!("take a s {name} 0"), "0");
    it.expect("state a", "0 held");
    it.expect("held a", "0 1");
    it.expect("check a", "0");
    // The default: no lease where the store sees the owner die, else 30 s.
    let left = it.number("remaining a");
    assert!(
        if can("frees_on_death") {
            left == -1
        } else {
            (20_000..=30_000).contains(&left)
        },
        "{language}: {left}"
    );
    assert_eq!(it.number("fence a") > 0, can("fence"), "{language}");
    it.expect(&format!("take b s {name} 0"), "1");
    it.runs_out(|ms| format!("take b s {name} {ms}"), "2");
    it.runs_out(|ms| format!("wait_free s {name} {ms}"), "2");
    it.expect(&format!("take b s {} 0", hex(unique("another"))), "0");
    it.expect("release b", "0");
    it.expect("release a", "0");
    it.expect("release a", "4");
    it.expect(&format!("wait_free s {name} 60000"), "0");
    it.expect(&format!("take a s {name} 0"), "0");
    it.expect("release a", "0");

    for ttl in ["0", "-5", "999999999999999"] {
        it.expect(&format!("take t s {name} 0 ttl={ttl}"), "101");
    }
    if can("ttl") {
        it.expect(&format!("take t s {name} 0 ttl=60000"), "0");
        it.expect("refresh t 90000", "0");
        assert!(
            it.number("remaining t") > 60_000,
            "{language}: not prolonged"
        );
        it.expect("refresh t 1000", "0");
        assert!(it.number("remaining t") > 60_000, "{language}: shortened");
        it.expect("release t", "0");
        let brief = |ttl| format!("take t s {name} 0 ttl={ttl}");
        let ttl = it.leases(brief, "0", lease(setup, 80));
        std::thread::sleep(over(setup, ttl));
        it.expect("check t", "3");
        it.expect("release t", "3");
    } else {
        it.expect(&format!("take t s {name} 0 ttl=60000"), "106");
    }

    if can("permits") {
        it.expect(&format!("take p s {name} 0 permits=1/2"), "0");
        it.expect(&format!("take q s {name} 0 permits=1/2"), "0");
        it.expect(&format!("take r s {name} 0 permits=1/2"), "1");
        it.expect(&format!("take r s {name} 0 permits=1/3"), "101");
        it.expect("release p", "0");
        it.expect(&format!("take r s {name} 0 permits=1/2"), "0");
        it.expect("release q", "0");
        it.expect("release r", "0");
    } else {
        it.expect(&format!("take p s {name} 0 permits=1/2"), "106");
    }

    it.expect("open x nosuch:thing", "103");
    it.expect("open x memory:a?nonsense=1", "105");
    it.expect("open x nothing", "103");
    it.expect("adopt x s nonsense", "101");
    assert_eq!(it.finish(), Some(0));
    Ok(())
}

/// Every name of the vectors is its own lock, and the one that Rust has.
pub(crate) fn names(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let mut rust = Running::start("rust", &setup.url);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/names.json");
    let text = std::fs::read_to_string(file)?;
    let mut seen = 0;
    for line in text.lines() {
        let Some(hex) = name_of(line) else { continue };
        it.expect(&format!("take n s {hex} 0"), "0");
        rust.expect(&format!("take n s {hex} 0"), "1");
        it.expect("release n", "0");
        rust.expect(&format!("take n s {hex} 0"), "0");
        it.expect(&format!("take n s {hex} 0"), "1");
        rust.expect("release n", "0");
        seen += 1;
    }
    assert!(seen > 20, "{seen} names");
    it.expect(&format!("take n s {} 0", "61".repeat(64 * 1024 + 1)), "101");
    Ok(())
}

/// The hex of a line of the vectors: `"hex": "61"`, or `"byte": "78", "times": 65536`.
fn name_of(line: &str) -> Option<String> {
    let value = |key: &str| {
        let rest = line.split_once(&format!("\"{key}\": "))?.1;
        let end = rest.find([',', '}'])?;
        Some(rest[..end].trim_matches('"').to_owned())
    };
    let hex = value("hex").or_else(|| value("byte"))?;
    let times = value("times").map_or(1, |times| times.parse().expect("a number"));
    Some(hex.repeat(times))
}

/// Codes, capabilities and fingerprints are one table in all languages.
pub(crate) fn agreement(setup: &Setup) -> Result<(), Failed> {
    let mut all: Vec<Running> = LANGUAGES
        .map(|language| Running::start(language, &setup.url))
        .into();
    for request in ["codes", "capabilities s", "fingerprint s"] {
        let first = all[0].ask(request);
        assert!(first.starts_with("0 "), "{request}: {first}");
        for it in &mut all[1..] {
            it.expect(request, &first);
        }
    }
    Ok(())
}
