//! The tables of the documents are made from the code. `SYNLOCK_ACCEPT=1` writes them.

use std::path::PathBuf;
use synlock_core::{Code, Store, lock, options};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Replaces what stands between `<!-- table: NAME -->` and `<!-- end -->`.
fn check(file: &str, name: &str, table: &str) {
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
    let open = format!("<!-- table: {name} -->\n");
    let start = text
        .find(&open)
        .unwrap_or_else(|| panic!("{file} has no table `{name}`"))
        + open.len();
    let end = start
        + text[start..]
            .find("<!-- end -->")
            .unwrap_or_else(|| panic!("{file}: table `{name}` has no end"));
    if text[start..end] == *table {
        return;
    }
    if std::env::var_os("SYNLOCK_ACCEPT").is_some() {
        std::fs::write(&path, format!("{}{table}{}", &text[..start], &text[end..])).unwrap();
    } else {
        panic!(
            "the table `{name}` in {file} is stale: run `make tables`\n--- expected ---\n{table}"
        );
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "–" }
}

fn capabilities() -> String {
    let mut table = String::from(
        "| store | scope | shared, promotion | permits | TTL in the store | freed when the owner dies | fencing | woken | fair | export | list, break |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for url in [
        "memory:",
        "shm:app",
        "flock:/run/lock/synlock",
        "sysv:",
        "redis://localhost",
        "sqlite:/path/to/locks.db",
        "memcached://localhost",
        "postgres://localhost",
        "mysql://localhost/locks",
        "zookeeper://localhost",
        "etcd://localhost",
        "quorum:(redis://a,redis://b,redis://c)",
        "tiered:(shm:app,redis://a)",
        "postgres+advisory://me@localhost/db",
        "mysql+advisory://me@localhost/db",
    ] {
        let store = Store::open(url).unwrap();
        let can = store.capabilities();
        let fence = if matches!(can.store, "flock" | "quorum") {
            "opt-in (`fencing=1`)"
        } else {
            can.fence.class()
        };
        table += &format!(
            "| `{}:` | {} | {}, {} | {} | {} | {} | {} | {} | {} | {} | {}, {} |\n",
            can.store,
            can.scope.name(),
            yes(can.shared),
            yes(can.promote),
            yes(can.permits),
            yes(can.ttl),
            match can.store {
                "zookeeper" => "yes, when its session is over (`session_timeout=`, 10 s)",
                _ if can.frees_on_death => "yes",
                _ => "when its lease ends",
            },
            fence,
            yes(can.wakes),
            yes(can.fair),
            yes(can.export),
            yes(can.list),
            yes(can.break_lock),
        );
    }
    table
}

fn dialects() -> String {
    let mut table = String::from(
        "| `dialect=` | a lock `N` is | of | shared, promotion |\n|---|---|---|---|\n",
    );
    for (dialect, key, peers) in [
        (
            "plain",
            "the text `N`: a token",
            "redis-py, node-redlock, redsync, rslock, symfony/lock before 5.2, and whatever does `SET N token NX PX`",
        ),
        (
            "symfony",
            "the sorted set `N`",
            "symfony/lock's `RedisStore` since 5.2",
        ),
        (
            "python-redis-lock",
            "the text `lock:N`, with the list `lock-signal:N`",
            "python-redis-lock",
        ),
        (
            "redis-semaphore",
            "the text `mutex:N`",
            "the mutex of redis-semaphore; its semaphores go by their callers' clocks and are refused",
        ),
        (
            "redisson",
            "the hash `N`, with a channel",
            "Redisson's `RLock`; its fair lock's own queue is not heeded",
        ),
    ] {
        let store = Store::open(&format!("redis://localhost?dialect={dialect}")).unwrap();
        let can = store.capabilities();
        table += &format!(
            "| `{dialect}` | {key} | {peers} | {}, {} |\n",
            yes(can.shared),
            yes(can.promote)
        );
    }
    table
}

fn defaults() -> String {
    let options = options::LockOptions::default();
    let lease = lock::DEFAULT_LEASE.as_secs();
    let held = format!(
        "held until released or the owner dies; on stores that do not see that, a {lease} s lease renewed by the watchdog"
    );
    let switch = |on: bool| if on { "1" } else { "0" };
    format!(
        "| option | C | PHP | Python | Node | Rust |
|---|---|---|---|---|---|
| unit of times | ms | s, float | s, float | ms | `Duration` |
| `ttl` omitted | {held} | same | same | same | same |
| `ttl` given | exactly that, not renewed unless `renew=1` | same | same | same | same |
| plain `acquire` | `SYNLOCK_NO_WAIT` (0), ms, or `SYNLOCK_FOREVER` (-1) | `acquire(blocking: false, timeout: null)` | `acquire(blocking=True, timeout=-1)` | `acquire(name, {{ timeout: Infinity }})` | `Wait::No`, `For`, `Forever` |
| acquire on a handle that holds | `SYNLOCK_ALREADY_HELD` | true, lease renewed | contends | every acquire is a new hold | `AlreadyHeld` |
| `remaining` without a lease | -1 | null | None | null | `None` |
| fencing token | `int64_t` | int | int | bigint | `u64` |
| `auto_release` | {auto} | {auto} | {auto} | {auto} | {auto} |
| `fair` | {fair} | {fair} | {fair} | {fair} | {fair} |
| `strict` | {strict} | {strict} | {strict} | {strict} | {strict} |
| `reentry` | independent | independent | independent | independent | `Independent` |
",
        auto = switch(options.auto_release),
        fair = switch(options.fair),
        strict = switch(options.strict),
    )
}

fn codes() -> String {
    let mut table = String::from(
        "| number | name | class in Python, PHP, Node | retry | meaning |\n|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let class = if code.class().is_empty() {
            "–".to_owned()
        } else {
            format!("`{}`", code.class())
        };
        table += &format!(
            "| {} | `SYNLOCK_{}` | {class} | {} | {} |\n",
            code.number(),
            code.name(),
            yes(code.is_retriable()),
            code.text()
        );
    }
    table
}

#[test]
fn the_readme_has_the_capabilities() {
    check("README.md", "capabilities", &capabilities());
    check("README.md", "dialects", &dialects());
}

#[test]
fn every_readme_has_the_defaults() {
    for file in [
        "README.md",
        "bindings/python/README.md",
        "bindings/node/README.md",
        "bindings/php/README.md",
    ] {
        check(file, "defaults", &defaults());
    }
}

#[test]
fn the_manual_of_the_abi_has_the_codes() {
    check("ffi/README.md", "codes", &codes());
}
