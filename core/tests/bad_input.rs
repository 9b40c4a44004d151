//! Texts that come from outside: each is refused with its code and in words that help, and nothing
//! that was held before is touched.

use synlock_core::{Code, Store, Wait};

fn refusal(url: &str, options: &[(&str, &str)]) -> (Code, String) {
    match Store::open_with(url, options) {
        Ok(_) => (Code::Ok, String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

#[test]
fn urls() {
    let held = Store::open("memory:bad-input").unwrap();
    let lock = held.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let long = format!("memory:{}", "x".repeat(70_000));
    let label = format!("memory:?label={}", "x".repeat(256));
    for (url, code, words) in [
        // The schemes that there are, by name.
        ("carrier-pigeon:x", Code::UnknownScheme, "memory"),
        ("carrier-pigeon:x", Code::UnknownScheme, "shm"),
        ("carrier-pigeon:x", Code::UnknownScheme, "flock"),
        ("carrier-pigeon:x", Code::UnknownScheme, "redis"),
        ("nothing", Code::UnknownScheme, "memory"),
        ("/tmp/locks", Code::InvalidUrl, "no scheme"),
        (":x", Code::InvalidUrl, "no scheme"),
        (&long, Code::InvalidUrl, "64 KiB"),
        ("memory://:12/x@h", Code::InvalidUrl, "no host"),
        ("memory://:x@/x", Code::InvalidUrl, "no host"),
        ("memory:?tll=1", Code::UnknownOption, "did you mean `ttl`"),
        ("memory:?colour=red", Code::UnknownOption, "known are"),
        ("memory:?fair=1&fair=0", Code::InvalidUrl, "`fair` twice"),
        ("memory:?fair=2", Code::InvalidArgument, "`fair`"),
        ("memory:?fair=", Code::InvalidArgument, "`fair`"),
        ("memory:?ttl=0", Code::InvalidArgument, "`ttl`"),
        ("memory:?ttl=-5", Code::InvalidArgument, "`ttl`"),
        ("memory:?ttl=5s", Code::InvalidArgument, "`ttl`"),
        (
            "memory:?ttl=999999999999999",
            Code::InvalidArgument,
            "ten years",
        ),
        ("memory:?timeout=-2", Code::InvalidArgument, "`timeout`"),
        (
            "memory:?timeout=99999999999999999999",
            Code::InvalidArgument,
            "`timeout`",
        ),
        (
            "memory:?reentry=maybe",
            Code::InvalidArgument,
            "independent, error, extend",
        ),
        ("memory:?label=a%00b", Code::InvalidArgument, "NUL"),
        (&label, Code::InvalidArgument, "255"),
        ("memory:?label=%zz", Code::InvalidUrl, "hexadecimal"),
        ("memory:?label=%ff", Code::InvalidUrl, "UTF-8"),
        ("shm:", Code::InvalidUrl, "name"),
        ("shm:a/b", Code::InvalidUrl, "slashes"),
        ("flock:relative", Code::InvalidUrl, "absolute"),
        ("flock:/a%00b", Code::InvalidUrl, "NUL"),
        ("flock:/tmp?mode=0777", Code::InvalidArgument, "`mode`"),
        ("redis://h:0", Code::InvalidUrl, "port"),
        ("redis://h:65536", Code::InvalidUrl, "port"),
        ("redis://h/x", Code::InvalidUrl, "database"),
        (
            "redis://h?io_timeout=0",
            Code::InvalidArgument,
            "`io_timeout`",
        ),
        (
            "redis://h?password_file=/nowhere/at/all",
            Code::InvalidUrl,
            "`password_file`",
        ),
        (
            "redis://h?password_env=SYNLOCK_NOT_SET",
            Code::InvalidUrl,
            "`password_env`",
        ),
    ] {
        let (got, said) = refusal(url, &[]);
        let shown: String = url.chars().take(60).collect();
        assert_eq!(got, code, "{shown}: {said}");
        assert!(said.contains(words), "{shown}: {said}");
    }
    lock.ensure_held().unwrap();
    assert!(held.is_locked("x").unwrap());
}

#[test]
fn options_beside_the_url() {
    for (options, code, words) in [
        (
            &[("ttl", "5"), ("ttl", "6")][..],
            Code::InvalidArgument,
            "`ttl` is given twice",
        ),
        (&[("tll", "5")], Code::UnknownOption, "`ttl`"),
        (&[("", "5")], Code::UnknownOption, "known are"),
        (&[("ttl", "")], Code::InvalidArgument, "`ttl`"),
        (&[("timeout", "-2")], Code::InvalidArgument, "`timeout`"),
        (&[("label", "a\0b")], Code::InvalidArgument, "NUL"),
    ] {
        let (got, said) = refusal("memory:beside", options);
        assert_eq!(got, code, "{options:?}: {said}");
        assert!(said.contains(words), "{options:?}: {said}");
    }
    // One of each place is no duplicate: the one beside wins.
    let store = Store::open_with("memory:beside?ttl=5000", &[("ttl", "7000")]).unwrap();
    assert_eq!(store.defaults().ttl.map(|ttl| ttl.as_secs()), Some(7));
}
