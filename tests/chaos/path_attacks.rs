//! Row 33: somebody plants things where the lock file of `flock:` or the segment of `shm:`, or its
//! directory, should be. Each case must be refused with the right code (or work, where it may), leave
//! the victim as it was, and never hang. `row33-path-attacks [shm]`.
//!
//! Every case is tried as root and as nobody. Whoever is not root tries those that take no other users
//! to set up, and the row fails.

mod path_users;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use synlock_tests::names::TempDir;
use synlock_tests::scene::{self, NOBODY, STRANGER, Scene, is_root};
use synlock_tests::taker::Taker;
use synlock_tests::torture::Verdict;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Flock,
    Shm,
}

impl Target {
    fn url(self, scene: &Scene, query: &str) -> String {
        match self {
            Target::Flock => format!("flock:{}?{query}", scene.locks.display()),
            Target::Shm => format!("shm:{}?slots=16&{query}", scene.x().display()),
        }
        .trim_end_matches(['?', '&'])
        .to_owned()
    }
}

#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    /// Takes other users or devices to set up.
    needs_root: bool,
    query: &'static str,
    setup: fn(&Scene),
    /// What happens between a hold that works and the question, if there is to be one.
    during: Option<fn(&Scene)>,
    /// The answer to acquire, as root and as another.
    expected: [&'static str; 2],
    /// That of `shm:`, where it is another.
    of_shm: Option<[&'static str; 2]>,
}

const fn case(what: &'static str, setup: fn(&Scene), expected: &'static str) -> Case {
    Case {
        what,
        needs_root: false,
        query: "",
        setup,
        during: None,
        expected: [expected, expected],
        of_shm: None,
    }
}

const fn with_root(case: Case) -> Case {
    Case {
        needs_root: true,
        ..case
    }
}

const fn while_held(what: &'static str, during: fn(&Scene), expected: &'static str) -> Case {
    Case {
        during: Some(during),
        ..case(what, |_| {}, expected)
    }
}

fn cases() -> Vec<Case> {
    vec![
        case("nothing planted", |_| {}, "OK"),
        case(
            "link to a file",
            |s| symlink(&s.victim, s.x()).unwrap(),
            "PERMISSION",
        ),
        case(
            "dangling link",
            |s| symlink(s.base.join("made"), s.x()).unwrap(),
            "PERMISSION",
        ),
        case(
            "link to a directory",
            |s| symlink(&s.base, s.x()).unwrap(),
            "PERMISSION",
        ),
        case(
            "link to itself",
            |s| symlink("x", s.x()).unwrap(),
            "PERMISSION",
        ),
        case(
            "link to a device",
            |s| symlink("/dev/zero", s.x()).unwrap(),
            "PERMISSION",
        ),
        case(
            "hard link",
            |s| fs::hard_link(&s.victim, s.x()).unwrap(),
            "PERMISSION",
        ),
        case("FIFO", |s| s.mknod(&s.x(), &["p"]), "PERMISSION"),
        case("directory", |s| s.dir(&s.x(), 0o700, s.me), "PERMISSION"),
        case(
            "socket",
            |s| drop(UnixListener::bind(s.x()).unwrap()),
            "PERMISSION",
        ),
        with_root(case(
            "character device",
            |s| s.mknod(&s.x(), &["c", "1", "5"]),
            "PERMISSION",
        )),
        with_root(case(
            "terminal",
            |s| s.mknod(&s.x(), &["c", "5", "0"]),
            "PERMISSION",
        )),
        with_root(case(
            "block device",
            |s| s.mknod(&s.x(), &["b", "7", "99"]),
            "PERMISSION",
        )),
        with_root(case(
            "file of a stranger",
            |s| s.file(&s.x(), 0o666, STRANGER),
            "PERMISSION",
        )),
        case(
            "file with content",
            |s| {
                fs::copy(&s.victim, s.x()).unwrap();
                s.own(&s.x(), 0o600, s.me);
            },
            "PROTOCOL",
        ),
        Case {
            expected: ["OK", "PERMISSION"],
            of_shm: Some(["PROTOCOL", "PERMISSION"]),
            ..case("file without permissions", |s| s.file(&s.x(), 0, s.me), "")
        },
        case(
            "directory is a link",
            |s| {
                s.clear();
                symlink(&s.base, &s.locks).unwrap();
            },
            "PERMISSION",
        ),
        case(
            "directory is a dangling link",
            |s| {
                s.clear();
                symlink(s.base.join("made"), &s.locks).unwrap();
            },
            "PERMISSION",
        ),
        case(
            "directory is a file",
            |s| {
                s.clear();
                s.file(&s.locks, 0o600, s.me);
            },
            "PERMISSION",
        ),
        case(
            "directory is a FIFO",
            |s| {
                s.clear();
                s.mknod(&s.locks, &["p"]);
            },
            "PERMISSION",
        ),
        Case {
            // The directory is the user's, the file the store's.
            of_shm: Some(["STORAGE", "STORAGE"]),
            ..case("directory is missing", Scene::clear, "OK")
        },
        case(
            "directory that all may write to",
            |s| s.own(&s.locks, 0o777, s.me),
            "PERMISSION",
        ),
        with_root(case(
            "directory of a stranger",
            |s| s.own(&s.locks, 0o755, STRANGER),
            "PERMISSION",
        )),
        with_root(case(
            "directory of a stranger that all may write to",
            |s| s.own(&s.locks, 0o1777, STRANGER),
            "PERMISSION",
        )),
        with_root(case(
            "sticky directory",
            |s| s.own(&s.locks, 0o1777, 0),
            "OK",
        )),
        with_root(case(
            "stranger's link in a sticky directory",
            |s| {
                s.own(&s.locks, 0o1777, 0);
                symlink(&s.victim, s.x()).unwrap();
                std::os::unix::fs::lchown(s.x(), Some(STRANGER), Some(STRANGER)).unwrap();
            },
            "PERMISSION",
        )),
        with_root(case(
            "stranger's file in a sticky directory",
            |s| {
                s.own(&s.locks, 0o1777, 0);
                s.file(&s.x(), 0o666, STRANGER);
            },
            "PERMISSION",
        )),
        with_root(case(
            "stranger's FIFO in a sticky directory",
            |s| {
                s.own(&s.locks, 0o1777, 0);
                s.mknod(&s.x(), &["p"]);
                chown(s.x(), Some(STRANGER), None).unwrap();
            },
            "PERMISSION",
        )),
        with_root(case(
            "hard link to my own file in a sticky directory",
            |s| {
                s.own(&s.locks, 0o1777, 0);
                fs::hard_link(&s.victim, s.x()).unwrap();
            },
            "PERMISSION",
        )),
        Case {
            query: "group=54321",
            expected: ["OK", "PERMISSION"],
            ..with_root(case(
                "directory of the group, of which root is",
                |s| {
                    s.own(&s.locks, 0o770, STRANGER);
                },
                "",
            ))
        },
        while_held(
            "link put in the file's place",
            |s| {
                fs::remove_file(s.x()).unwrap();
                symlink(&s.victim, s.x()).unwrap();
            },
            "PERMISSION",
        ),
        while_held(
            "FIFO put in the file's place",
            |s| {
                fs::remove_file(s.x()).unwrap();
                s.mknod(&s.x(), &["p"]);
            },
            "PERMISSION",
        ),
        while_held(
            "victim moved into the file's place",
            |s| {
                fs::remove_file(s.x()).unwrap();
                fs::hard_link(&s.victim, s.x()).unwrap();
            },
            "PERMISSION",
        ),
        while_held(
            "link put in the directory's place",
            |s| {
                s.swap(|locks| symlink(&s.base, locks).unwrap());
            },
            "PERMISSION",
        ),
        while_held(
            "file put in the directory's place",
            |s| {
                s.swap(|locks| s.file(locks, 0o600, s.me));
            },
            "PERMISSION",
        ),
        while_held(
            "open directory put in the directory's place",
            |s| {
                s.swap(|locks| s.dir(locks, 0o777, s.me));
            },
            "PERMISSION",
        ),
        while_held(
            "new directory in the directory's place",
            |s| {
                s.swap(|locks| s.dir(locks, 0o700, s.me));
            },
            "OK",
        ),
        with_root(while_held(
            "stranger's directory in the directory's place",
            |s| {
                s.swap(|locks| s.dir(locks, 0o755, STRANGER));
            },
            "PERMISSION",
        )),
    ]
}

fn taker(url: &str, me: u32) -> Taker {
    scene::taker(env!("CARGO_BIN_EXE_flock-taker"), url, me)
}

fn run(target: Target, case: &Case, scene: &Scene, mode: &str) -> Result<(), String> {
    let mut taker = taker(&target.url(scene, case.query), scene.me);
    let mut expect = |command: &str, wanted: &str| match taker.ask(command) {
        answer if answer.split(' ').next() == Some(wanted) => Ok(()),
        answer => Err(format!("{command}: {answer:?} instead of {wanted}")),
    };
    (case.setup)(scene);
    let before = scene.state();
    expect(&format!("lock h x {mode}"), "OK")?;
    if let Some(during) = case.during {
        expect("acquire h 0", "OK")?;
        during(scene);
        if target == Target::Shm {
            // It looks once a second.
            expect("sleep 1100", "OK")?;
        }
        expect("check h", "LOST")?;
    }
    let expected = match target {
        Target::Flock => case.expected,
        Target::Shm => case.of_shm.unwrap_or(case.expected),
    };
    let wanted = expected[usize::from(scene.me != 0)];
    expect("acquire h 0", wanted)?;
    if wanted == "OK" {
        expect("check h", "OK")?;
        expect("release h", "OK")?;
    }
    // What else looks at the file must neither hang nor harm.
    for command in ["inspect x", "list", "clean", "break x"] {
        if (target, command) == (Target::Shm, "clean") {
            continue;
        }
        if taker.ask(command).is_empty() {
            return Err(format!("{command} hangs"));
        }
    }
    if scene.state() != before {
        return Err("the victim was touched".to_owned());
    }
    if scene.base.join("made").exists() {
        return Err("something was made through a dangling link".to_owned());
    }
    if fs::symlink_metadata(scene.x()).is_ok_and(|data| data.file_type().is_fifo()) {
        return Ok(());
    }
    match taker.quit() {
        Some(0) => Ok(()),
        other => Err(format!("the taker ended with {other:?}")),
    }
}

/// Under each value of `fs.protected_regular`, members of a group share a sticky directory.
fn protected_regular(base: &Path, verdict: &mut Verdict) {
    const SETTING: &str = "/proc/sys/fs/protected_regular";
    let before = fs::read_to_string(SETTING).unwrap();
    for value in ["0", "1", "2"] {
        if fs::write(SETTING, value).is_err() && before.trim() != value {
            verdict.claim(false, "fs.protected_regular can be set", value);
            continue;
        }
        for (maker, user) in [(NOBODY, 0), (0, NOBODY)] {
            let locks = base.join(format!("protected-{value}-{maker}"));
            fs::create_dir(&locks).unwrap();
            fs::set_permissions(&locks, fs::Permissions::from_mode(0o1777)).unwrap();
            let grouped = format!("flock:{}?group={NOBODY}", locks.display());
            let plain = format!("flock:{}", locks.display());
            let take = |url: &str, me: u32, name: &str| {
                let mut taker = taker(url, me);
                taker.ok(&format!("lock h {name}"));
                taker.code("acquire h 0")
            };
            let answers = [
                take(&grouped, maker, "x"),
                take(&grouped, user, "x"),
                take(&plain, maker, "y"),
                take(&plain, user, "y"),
            ];
            // Root's file is trusted, but closed to others.
            let expected = ["OK", "OK", "OK", "PERMISSION"];
            verdict.claim(
                answers == expected,
                &format!("protected_regular={value}, made by {maker}, used by {user}"),
                format!("{answers:?}"),
            );
        }
    }
    let _ = fs::write(SETTING, before);
}

fn main() -> ExitCode {
    let target = if std::env::args().any(|word| word == "shm") {
        Target::Shm
    } else {
        Target::Flock
    };
    let base = TempDir::new("paths");
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut verdict = Verdict::default();
    // SAFETY: asks for a number.
    let me = unsafe { libc::geteuid() };
    let users = if is_root() { vec![0, NOBODY] } else { vec![me] };
    let mut scenes = Vec::new();
    for user in users {
        for case in cases()
            .into_iter()
            .filter(|case| is_root() || !case.needs_root)
        {
            for mode in ["exclusive", "shared"] {
                scenes.push((case, Scene::new(base.path(), scenes.len(), user), mode));
            }
        }
    }
    // Some wait for a second: side by side, but not all at once.
    for some in scenes.chunks(24) {
        let outcomes = std::thread::scope(|scope| {
            let started: Vec<_> = some
                .iter()
                .map(|(case, scene, mode)| scope.spawn(|| run(target, case, scene, mode)))
                .collect();
            started
                .into_iter()
                .map(|scene| scene.join().unwrap_or_else(|_| Err("panicked".to_owned())))
                .collect::<Vec<_>>()
        });
        for ((case, scene, mode), outcome) in some.iter().zip(outcomes) {
            verdict.claim(
                outcome.is_ok(),
                &format!("user {}, {mode}: {}", scene.me, case.what),
                outcome.err().unwrap_or_default(),
            );
        }
    }
    match target {
        Target::Flock if is_root() => protected_regular(base.path(), &mut verdict),
        Target::Shm if is_root() => path_users::meet(base.path(), &mut verdict),
        _ => {}
    }
    verdict.claim(is_root(), "run by root, who can be others", me);
    verdict.claim(scenes.len() >= 60 || !is_root(), "cases", scenes.len());
    verdict.finish()
}
