//! The table of defaults, and every option, in each language: the same names, the same meaning.

use crate::Setup;
use crate::command::{Running, is_trouble};
use crate::script::{can, hex, keeps_words, lease, over};
use libtest_mimic::Failed;
use std::time::Duration;
use synlock_tests::names::unique;

/// What is not said means what the table in the READMEs says.
pub(crate) fn defaults(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let mut other = Running::start("rust", &setup.url);
    let can = can(&mut it);
    let name = hex(unique("defaults"));

    // `ttl` omitted, on a store that needs one: renewed.
    it.expect(&format!("take h s {name} 0"), "0");
    // A handle that holds: refused, renewed, contending.
    let again = match language {
        "php" => "0",
        "python" | "node" => "1",
        _ => "5",
    };
    it.expect("again h", again);
    it.expect("check h", "0");
    // `reentry`: another handle of the same process is another owner.
    it.expect(&format!("take i s {name} 0"), "1");
    it.expect(
        &format!("who s {name}"),
        &format!("0 exclusive 1 {} -", it.pid()),
    );

    // Plain `acquire`: waits in Python and Node, tries in PHP; C and Rust have none.
    if language == "php" {
        it.expect(&format!("plain p s {name}"), "1");
        it.expect("release h", "0");
    } else if language == "python" || language == "node" {
        it.expect("release h", "0");
        other.expect(&format!("take o s {name} 0"), "0");
        it.send(&format!("plain p s {name}"));
        assert!(it.is_silent(Duration::from_millis(300)), "{language}");
        other.expect("release o", "0");
        assert_eq!(it.answer(), "0", "{language}");
        it.expect("release p", "0");
    } else {
        it.expect("release h", "0");
    }
    // Without a word about time, a wait waits.
    other.expect(&format!("take o s {name} 0"), "0");
    it.send(&format!("wait w s {name}"));
    assert!(it.is_silent(Duration::from_millis(300)), "{language}");
    other.expect("release o", "0");
    assert_eq!(it.answer(), "0", "{language}");
    it.expect("release w", "0");

    // `ttl` given: just that, not renewed.
    if can("ttl") {
        let brief = |ttl| format!("take t s {name} 0 ttl={ttl}");
        it.leases(brief, "0", lease(setup, 300));
        other.expect(&format!("take o s {name} 60000"), "0");
        it.expect("check t", "3");
        it.expect("release t", "3");
        other.expect("release o", "0");
    }
    // `auto_release`: on.
    it.expect(&format!("take d s {name} 0"), "0");
    it.expect("drop d", "0");
    it.comes_to(&format!("locked s {name}"), "0 0");
    assert_eq!(it.finish(), Some(0));
    Ok(())
}

/// Whether the host of a holder and the age of its hold are known; they are right, or not said.
fn place(it: &mut Running, name: &str) -> [bool; 2] {
    let answer = it.ask(&format!("where s {name}"));
    let words: Vec<&str> = answer.split(' ').collect();
    let [_, host, held] = words[..] else {
        panic!("where: {answer}");
    };
    let here = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert!(host == "-" || host == hex(here.trim()), "{answer}");
    let held: i64 = held.parse().unwrap();
    assert!((-1..3_600_000).contains(&held), "{answer}");
    [host != "-", held >= 0]
}

/// Options given to a lock.
pub(crate) fn given(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let mut other = Running::start("rust", &setup.url);
    let can = can(&mut it);
    let name = hex(unique("given"));

    let label = hex("nightly é");
    it.expect(&format!("take l s {name} 0 label={label} strict=1"), "0");
    let who = |label| format!("0 exclusive 1 {} {label}", it.pid());
    let (own, shown) = (
        who(&*label),
        who(if keeps_words(setup) { &label } else { "-" }),
    );
    it.expect(&format!("who s {name}"), &own);
    other.expect(&format!("who s {name}"), &shown);
    // The same as the core says of a hold of its own.
    let theirs = hex(unique("theirs"));
    other.expect(&format!("take p s {theirs} 0"), "0");
    let (seen, wanted) = (place(&mut it, &name), place(&mut other, &theirs));
    assert_eq!(seen, wanted, "{language}: what is known of a holder");
    other.expect("release p", "0");
    it.expect("how l", "0 0");
    it.expect("release l", "0");
    it.expect(
        &format!("take l s {name} 0 label={}", "61".repeat(256)),
        "101",
    );

    // Whether it had to wait is told.
    other.expect(&format!("take o s {name} 0"), "0");
    it.send(&format!("take w s {name} 60000"));
    assert!(it.is_silent(Duration::from_millis(100)), "{language}");
    other.expect("release o", "0");
    assert_eq!(it.answer(), "0", "{language}");
    it.expect("how w", "0 1");
    it.expect("release w", "0");

    // Re-entry: refused, or the same hold, which the first release ends.
    it.expect(&format!("take a s {name} 0 reentry=extend"), "0");
    it.expect(&format!("take b s {name} 0 reentry=error"), "110");
    it.expect(&format!("take b s {name} 0 reentry=extend"), "0");
    assert_eq!(it.ask("fence a"), it.ask("fence b"), "{language}");
    it.expect(&format!("take c s {name} 0 reentry=independent"), "1");
    it.expect("release b", "0");
    it.expect(&format!("locked s {name}"), "0 0");
    it.expect("release a", "4");

    if can("ttl") {
        // A machine may stand still for longer than the first of them.
        let kept = [1_000, 4_000, 16_000].into_iter().any(|ttl| {
            let renewed = |ttl| format!("take r s {name} 0 ttl={ttl} renew=1");
            let ttl = it.leases(renewed, "0", ttl);
            std::thread::sleep(Duration::from_millis(ttl * 5 / 2));
            let held = it.ask("check r");
            assert!(matches!(&*held, "0" | "3"), "{language}: {held}");
            it.expect("release r", &held);
            held == "0"
        });
        assert!(kept, "{language}: not renewed");
    }
    it.expect(&format!("take k s {name} 0 auto_release=0 fair=0"), "0");
    it.expect("drop k", "0");
    std::thread::sleep(Duration::from_millis(100));
    it.expect(&format!("locked s {name}"), "0 1");
    if can("break") {
        other.expect(&format!("break s {name}"), "0 1");
    }
    assert_eq!(it.finish(), Some(0));
    other.comes_to(&format!("locked s {name}"), "0 0");
    Ok(())
}

/// Options given to the store by its URL are the defaults of its locks.
pub(crate) fn of_the_url(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let can = can(&mut it);
    let name = hex(unique("url"));
    let ttl = if can("ttl") { "&ttl=60000" } else { "" };
    let options = format!("timeout=50&auto_release=0&reentry=error&label=url{ttl}");
    let open = format!("open u {}", with(&setup.url, &options));
    it.expect(&open, "0");
    it.expect(&format!("take h u {name} 0"), "0");
    if can("ttl") {
        assert!(it.number("remaining h") > 40_000, "{language}");
    }
    let who = format!("0 exclusive 1 {} {}", it.pid(), hex("url"));
    it.expect(&format!("who u {name}"), &who);
    it.expect(&format!("take i u {name} 0"), "110");
    it.expect("drop h", "0");
    std::thread::sleep(Duration::from_millis(100));
    it.expect(&format!("locked u {name}"), "0 1");
    let mut other = Running::start(language, &setup.url);
    // A server may take longer than the first of them to say that it is taken.
    let ended = [300, 3_000, 30_000].into_iter().find_map(|timeout| {
        let timed = with(&setup.url, &format!("timeout={timeout}"));
        other.expect(&format!("open u {timed}"), "0");
        let code = other.ask(&format!("wait w u {name}"));
        (!is_trouble(&code)).then_some(code)
    });
    assert_eq!(ended.as_deref(), Some("2"), "{language}");
    if can("break") {
        other.expect(&format!("break s {name}"), "0 1");
    } else {
        assert_eq!(it.finish(), Some(0));
        it = Running::start(language, &setup.url);
        it.expect(&open, "0");
    }
    // What the call says wins.
    other.expect(&format!("take w u {name} 60000"), "0");
    it.send(&format!("take x u {name} 60000 reentry=independent"));
    assert!(it.is_silent(Duration::from_millis(300)), "{language}");
    other.expect("release w", "0");
    assert_eq!(it.answer(), "0", "{language}");
    it.expect("release x", "0");
    Ok(())
}

/// `lock_delay`: a lock that was not released stays taken for so long after its lease; a release frees it at once,
/// also a late one.
pub(crate) fn delayed(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let mut other = Running::start("rust", &setup.url);
    let can = can(&mut it);
    let name = hex(unique("delayed"));
    let with = |delay| with(&setup.url, &format!("lock_delay={delay}"));
    it.expect(&format!("open x {}", with("-1")), "101");
    it.expect(&format!("open u {}", with("600000")), "0");
    if !can("ttl") || can("frees_on_death") {
        // It would be promised in vain.
        it.expect(&format!("take h u {name} 0"), "106");
        return Ok(());
    }
    it.expect(&format!("take h u {name} 0"), "0");
    it.expect("release h", "0");
    other.expect(&format!("take o s {name} 0"), "0");
    other.expect("release o", "0");

    let brief = |ttl| format!("take h u {name} 0 ttl={ttl}");
    let ttl = it.leases(brief, "0", lease(setup, 300));
    std::thread::sleep(over(setup, ttl));
    it.expect("check h", "3");
    other.expect(&format!("take o s {name} 0"), "1");
    // Late, but it is said.
    it.expect("release h", "0");
    other.expect(&format!("take o s {name} 0"), "0");
    other.expect("release o", "0");

    let ttl = it.leases(brief, "0", lease(setup, 300));
    it.kill();
    std::thread::sleep(over(setup, ttl));
    other.expect(&format!("take o s {name} 0"), "1");
    other.expect(&format!("break s {name}"), "0 1");
    other.expect(&format!("take o s {name} 0"), "0");
    Ok(())
}

/// `null:`, and `demo=1` on any store: everybody is granted, what would be refused is refused, nothing is written.
pub(crate) fn demos(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    let mut other = Running::start("rust", &setup.url);
    let can = can(&mut it);
    let (name, free) = (hex(unique("taken")), hex(unique("free")));
    other.expect(&format!("take o s {name} 0"), "0");
    it.expect("open null null:", "0");
    it.expect(&format!("open demo {}", with(&setup.url, "demo=1")), "0");
    it.expect("open x null:thing", "102");
    it.expect("open x null:?nonsense=1", "105");
    it.expect(
        &format!("open x {}", with(&setup.url, "demo=1&nonsense=1")),
        "105",
    );
    let leases = [("null", true), ("demo", can("ttl"))];
    for (store, leases) in leases {
        for name in [&name, &free] {
            it.expect(&format!("take a {store} {name} 0"), "0");
            it.expect(&format!("take b {store} {name} 0"), "0");
            it.expect(&format!("wait_free {store} {name} 0"), "0");
            it.expect(&format!("locked {store} {name}"), "0 0");
            it.expect("check a", "0");
            it.expect("held b", "0 1");
            it.expect("state a", "0 held");
            it.expect("release a", "0");
            it.expect("release a", "4");
        }
        let fences = store == "demo" && can("fence");
        assert_eq!(it.number("fence b") > 0, fences, "{language}: {store}");
        if leases {
            it.expect(&format!("take t {store} {free} 0 ttl=60000"), "0");
            it.expect("refresh t 90000", "0");
            assert!(it.number("remaining t") > 60_000, "{language}: {store}");
        } else {
            it.expect(&format!("take t {store} {free} 0 ttl=60000"), "106");
        }
        for bad in ["ttl=0", "ttl=-5", &format!("label={}", "61".repeat(256))] {
            it.expect(&format!("take t {store} {free} 0 {bad}"), "101");
        }
        let long = "61".repeat(64 * 1024 + 1);
        it.expect(&format!("take t {store} {long} 0"), "101");
    }
    // `b` has it still, as it believes.
    it.expect("held b", "0 1");
    other.expect(&format!("locked s {free}"), "0 0");
    other.expect("check o", "0");
    other.expect(&format!("inspect s {name}"), "0 1 0");
    other.expect("release o", "0");
    Ok(())
}

/// A URL with more options.
fn with(url: &str, options: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}{options}")
}

/// All held locks whose names begin with a prefix, page by page.
pub(crate) fn list(setup: &Setup, language: &'static str) -> Result<(), Failed> {
    let mut it = Running::start(language, &setup.url);
    if !can(&mut it)("list") {
        it.expect(&format!("list s {} 2", hex("x")), "106");
        return Ok(());
    }
    let mut rust = Running::start("rust", &setup.url);
    let stem = hex(unique("list"));
    let owns = !keeps_words(setup);
    // More than one page: Redis looks at 1000 keys at a time, and PHP asks for 500 rows.
    let count = match (setup.name, language) {
        ("redis", _) => 1_200,
        (_, "php") => 510,
        _ => 60,
    };
    let mut names: Vec<String> = (0..count).map(|n| format!("{stem}00{n:04x}")).collect();
    names.sort();
    // Where names are numbers to others, a process knows its own.
    let holder = if owns { &mut it } else { &mut rust };
    for (index, name) in names.iter().enumerate() {
        holder.expect(&format!("take n{index} s {name} 0"), "0");
    }
    holder.expect(
        &format!("take other s {}ff 0", &stem[..stem.len() - 2]),
        "0",
    );
    let answer = it.ask(&format!("list s {stem}00 2"));
    let words: Vec<&str> = answer.split(' ').collect();
    assert_eq!(words[0], "0", "{language}: {answer}");
    let pages: usize = words[1].parse()?;
    assert_eq!(words[2..], names, "{language}");
    assert!(language == "php" || pages > 1, "{language}: {pages} pages");
    it.expect(
        &format!("list s {} 2", hex(unique("none"))),
        &format!("0 {}", pages.min(1)),
    );
    Ok(())
}
