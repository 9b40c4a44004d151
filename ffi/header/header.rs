//! The committed headers and the ledger of symbols are what the source says. `SYNLOCK_ACCEPT=1`
//! writes the headers.

use cbindgen::{
    Builder, Config, DocumentationStyle, EnumConfig, ExportConfig, FunctionConfig, Language, Style,
};
use std::path::PathBuf;
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

const OPENING: &str = r#"/*
 * synlock: locks for processes, on one machine or on many. MIT OR Apache-2.0
 *
 * Made from ffi/src by `make header`; this file is the reference of the C ABI.
 *
 * HANDLES are opaque and checked: a stale, doubled or forged one is
 * SYNLOCK_INVALID_HANDLE, never undefined behaviour. Every handle is freed by
 * its own function, in any order; NULL is fine.
 *
 * CALLS return a synlock_status, or a plain value where they cannot fail.
 * Results are written through pointers, and only on success; but the room
 * that a text needs is written when its buffer is too small, too. The last
 * parameter, where there is one, may be NULL or get an error object, which the
 * caller frees; it is written only on failure.
 *
 * NAMES are bytes with a length (SYNLOCK_NTS if NUL-terminated). TIMES are
 * int64_t milliseconds. STRUCTS that the caller fills start with their size;
 * zero means default.
 *
 * THREADS: stores, sessions, cancel and dispatch handles may be used by several
 * threads at once; a lock or a set of locks by one at a time, though it may move: a
 * second call at the same moment gets SYNLOCK_CONCURRENT_USE. Freeing is legal from any thread.
 *
 * FORKS: in a child, stores work and make their own connections; a lock or a
 * session that was idle at the fork works as a new one; one that held or waited answers
 * SYNLOCK_FORKED_HANDLE to everything but its free, which sends nothing.
 *
 * SIGNALS: the library installs no handler and raises no SIGPIPE. Its threads
 * block all signals, and are started when they are needed: one for the stores
 * of this host and one for each store over a network, for watchdogs, dispatch
 * and unconfirmed releases, and those by which some stores wait.
 */
"#;

const CONSTANTS: &str = r#"
#define SYNLOCK_VERSION_MAJOR @MAJOR@
#define SYNLOCK_VERSION_MINOR @MINOR@
#define SYNLOCK_VERSION_PATCH @PATCH@
#define SYNLOCK_VERSION_NUMBER @NUMBER@
/* What synlock_abi_version() of a fitting library says. */
#define SYNLOCK_ABI_VERSION 0

/* As the length of a name: it is NUL-terminated. */
#define SYNLOCK_NTS ((size_t)-1)
/* As a timeout argument: try once, wait for ever, do as the options say. */
#define SYNLOCK_NO_WAIT ((int64_t)0)
#define SYNLOCK_FOREVER ((int64_t)-1)
#define SYNLOCK_USE_OPTION ((int64_t)-3)
/* As `timeout_ms` of the options: try once. */
#define SYNLOCK_OPT_TRY ((int64_t)-2)

#define SYNLOCK_LOCK_OPTIONS_INIT { sizeof(synlock_lock_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL }

/* "file:line" of where it stands, for `caller` of the options. */
#define SYNLOCK_TEXT_OF_(x) #x
#define SYNLOCK_TEXT_OF(x) SYNLOCK_TEXT_OF_(x)
#define SYNLOCK_HERE __FILE__ ":" SYNLOCK_TEXT_OF(__LINE__)

#if defined(__GNUC__) || defined(__clang__)
#define SYNLOCK_API __attribute__((visibility("default")))
#else
#define SYNLOCK_API
#endif
"#;

fn constants() -> String {
    let part = |text: &str| text.parse::<u32>().unwrap();
    let (major, minor, patch) = (
        part(env!("CARGO_PKG_VERSION_MAJOR")),
        part(env!("CARGO_PKG_VERSION_MINOR")),
        part(env!("CARGO_PKG_VERSION_PATCH")),
    );
    let number = major * 1_000_000 + minor * 1000 + patch;
    [
        ("@MAJOR@", major),
        ("@MINOR@", minor),
        ("@PATCH@", patch),
        ("@NUMBER@", number),
    ]
    .iter()
    .fold(CONSTANTS.to_owned(), |text, (from, to)| {
        text.replace(from, &to.to_string())
    })
}

fn generate(config: Config) -> String {
    let sources = root().join("ffi/src");
    let mut builder = Builder::new().with_config(config);
    for file in [
        "status",
        "error",
        "options",
        "store",
        "lock",
        "hold",
        "list",
        "cancel",
        "scope",
        "dispatch",
        "events",
        "version",
        "custom",
        "fencing",
        "manager",
        "metrics",
        "session",
        "set",
        "guard_request",
    ] {
        builder = builder.with_src(sources.join(format!("{file}.rs")));
    }
    let mut text = Vec::new();
    builder
        .generate()
        .expect("the source is readable")
        .write(&mut text);
    // `# Safety` is for readers of Rust.
    let text = String::from_utf8(text).unwrap();
    let mut kept: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in text.lines() {
        if line.trim() == "* # Safety" {
            skipping = true;
            if kept.last().is_some_and(|last| last.trim() == "*") {
                kept.pop();
            }
        } else if line.trim() == "*/" {
            skipping = false;
        }
        if !skipping {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

fn base() -> Config {
    Config {
        language: Language::C,
        style: Style::Type,
        no_includes: true,
        usize_is_size_t: true,
        line_length: 80,
        enumeration: EnumConfig {
            prefix_with_name: false,
            ..EnumConfig::default()
        },
        // Fields and parameters take them as numbers, so nothing else would bring them in.
        export: ExportConfig {
            include: [
                "synlock_switch",
                "synlock_reentry",
                "synlock_op",
                "synlock_event_kind",
                "synlock_repeat",
                "synlock_guard_mode",
                "synlock_guard_anonymous",
                "synlock_guard_user",
            ]
            .map(str::to_owned)
            .into(),
            ..ExportConfig::default()
        },
        ..Config::default()
    }
}

fn header() -> String {
    generate(Config {
        header: Some(OPENING.to_owned()),
        include_guard: Some("SYNLOCK_H".to_owned()),
        sys_includes: vec!["stddef.h".to_owned(), "stdint.h".to_owned()],
        after_includes: Some(constants()),
        cpp_compat: true,
        documentation: true,
        documentation_style: DocumentationStyle::Doxy,
        function: FunctionConfig {
            prefix: Some("SYNLOCK_API".to_owned()),
            ..FunctionConfig::default()
        },
        ..base()
    })
}

/// What PHP's parser can read: no macros, no attributes, no comments, one declaration after another.
fn twin() -> String {
    let text = generate(Config {
        documentation: false,
        cpp_compat: false,
        ..base()
    });
    let mut cc = Command::new("cc")
        .args(["-E", "-P", "-std=c11", "-x", "c", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a C compiler");
    std::io::Write::write_all(cc.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
    let done = cc.wait_with_output().unwrap();
    assert!(done.status.success());
    String::from_utf8(done.stdout).unwrap()
}

fn compare(file: &str, text: &str) {
    let path = root().join(file);
    if std::fs::read_to_string(&path).is_ok_and(|committed| committed == text) {
        return;
    }
    assert!(
        std::env::var_os("SYNLOCK_ACCEPT").is_some(),
        "{file} is stale: run `make header`"
    );
    std::fs::write(path, text).unwrap();
}

#[test]
fn the_header_is_fresh() {
    compare("include/synlock.h", &header());
}

#[test]
fn the_twin_for_php_is_fresh() {
    compare("include/synlock.ffi.h", &twin());
    // A Composer package holds nothing from outside its folder.
    compare("bindings/php/synlock.ffi.h", &twin());
}

#[test]
fn the_ledger_has_every_function() {
    let twin = twin();
    let declared: std::collections::BTreeSet<String> = twin
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .zip(
            twin.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .skip(1),
        )
        .filter(|(word, _)| word.starts_with("synlock_"))
        .map(|(word, _)| word.to_owned())
        .filter(|word| twin.contains(&format!("{word}(")))
        .collect();
    let ledger = std::fs::read_to_string(root().join("include/symbols.txt")).unwrap_or_default();
    let listed: std::collections::BTreeSet<String> = ledger
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect();
    if declared != listed && std::env::var_os("SYNLOCK_ACCEPT").is_some() {
        let gone: Vec<_> = listed.difference(&declared).collect();
        assert!(gone.is_empty(), "functions are never removed: {gone:?}");
        let mut text = String::from(
            "# Every function of the ABI and the version that introduced it. Lines are added, never removed.\n",
        );
        for name in &declared {
            let known = ledger
                .lines()
                .find(|line| line.split_whitespace().next() == Some(name));
            text += &known.map_or_else(
                || format!("{name} {}", env!("CARGO_PKG_VERSION")),
                str::to_owned,
            );
            text.push('\n');
        }
        std::fs::write(root().join("include/symbols.txt"), text).unwrap();
    } else {
        assert_eq!(
            declared, listed,
            "include/symbols.txt differs from the header: run `make header`"
        );
    }
}

#[test]
fn every_public_enum_is_in_the_header() {
    let header = std::fs::read_to_string(root().join("include/synlock.h")).unwrap();
    let mut seen = 0;
    for file in std::fs::read_dir(root().join("ffi/src")).unwrap() {
        let source = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for rest in source.split("\npub enum synlock_").skip(1) {
            let name = rest.split(' ').next().unwrap();
            assert!(
                header.contains(&format!("enum synlock_{name}")),
                "synlock_{name} is missing"
            );
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen} enums");
}
