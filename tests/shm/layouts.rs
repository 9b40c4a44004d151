//! Builds of neighbouring releases share a segment: this one, and one whose layout number is one
//! higher (`next-layout`).

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use synlock_tests::names::TempDir;
use synlock_tests::process::signal;
use synlock_tests::taker::{Taker, next_release};

const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");
const LAYOUT_AT: u64 = 8;

fn place() -> (TempDir, PathBuf, String) {
    let folder = TempDir::within("/dev/shm", "shm-layouts");
    let path = folder.path().join("segment");
    let url = format!("shm:{}?slots=16", path.display());
    (folder, path, url)
}

fn start(is_next: bool, url: &str) -> Taker {
    Taker::start(if is_next { next_release(THIS) } else { THIS }, url)
}

fn layout(path: &Path) -> u32 {
    let mut bytes = [0; 4];
    let file = fs::File::open(path).unwrap();
    file.read_exact_at(&mut bytes, LAYOUT_AT).unwrap();
    u32::from_ne_bytes(bytes)
}

fn set_layout(path: &Path, layout: u32) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(&layout.to_ne_bytes(), LAYOUT_AT).unwrap();
}

#[test]
fn neighbours_take_turns_and_wake_each_other() {
    for made_by_next in [false, true] {
        let (_folder, path, url) = place();
        let mut takers = [false, true].map(|is_next| start(is_next, &url));
        takers[usize::from(made_by_next)].ok("ping");
        for taker in &mut takers {
            for name in ["plain", "odd%20one"] {
                taker.ok(&format!("lock x{name} {name} label=turn"));
                taker.ok(&format!("lock s{name} {name} shared"));
            }
        }
        for name in ["plain", "odd%20one"] {
            let [acquire, release, check] =
                ["acquire", "release", "check"].map(|verb| format!("{verb} x{name}"));
            let [read, unread, promote, demote] =
                ["acquire", "release", "promote", "demote"].map(|verb| format!("{verb} s{name}"));
            let [acquire, read, promote] =
                [acquire, read, promote].map(|command| format!("{command} 0"));
            let mut last = 0;
            for turn in 0..10 {
                let [one, two] = &mut takers;
                let (one, two) = if turn % 2 == 0 {
                    (one, two)
                } else {
                    (two, one)
                };
                let fence: u64 = one.ok(&acquire).parse().unwrap();
                assert!(fence > last, "{name}: {fence} after {last}");
                assert_eq!(two.code(&acquire), "BUSY");
                assert_eq!(two.code(&read), "BUSY");
                one.ok(&check);
                // The other one's waiter is handed the lock by this one's release.
                std::thread::scope(|scope| {
                    let waiter = scope.spawn(|| two.ok(&format!("acquire x{name} 5000")));
                    std::thread::sleep(Duration::from_millis(30));
                    one.ok(&release);
                    last = waiter.join().unwrap().parse().unwrap();
                });
                assert!(last > fence);
                assert_eq!(one.code(&acquire), "BUSY");
                two.ok(&release);
                // Readers together, then one of them alone.
                one.ok(&read);
                two.ok(&read);
                assert_eq!(one.code(&acquire), "BUSY");
                assert_eq!(one.code(&promote), "BUSY");
                two.ok(&unread);
                one.ok(&promote);
                assert_eq!(two.code(&read), "BUSY");
                one.ok(&demote);
                two.ok(&read);
                one.ok(&unread);
                two.ok(&unread);
                // Broken by one, noticed by the other.
                last = two.ok(&acquire).parse().unwrap();
                if name == "plain" {
                    assert_eq!(one.ok("break plain"), "true");
                    assert_eq!(two.code(&check), "LOST");
                } else {
                    two.ok(&release);
                }
            }
        }
        assert_eq!(layout(&path), 1, "what both know is written");
    }
}

#[test]
fn the_death_of_a_neighbour_frees_its_hold() {
    for dies_next in [false, true] {
        let (_folder, _path, url) = place();
        let mut dies = start(dies_next, &url);
        let mut lives = start(!dies_next, &url);
        for taker in [&mut dies, &mut lives] {
            taker.ok("lock h x");
        }
        dies.ok("acquire h 0");
        assert_eq!(lives.code("acquire h 0"), "BUSY");
        signal(dies.pid() as libc::pid_t, libc::SIGKILL);
        lives.ok("acquire h 5000");
    }
}

#[test]
fn a_segment_of_the_next_layout_is_used_by_it_and_refused_by_this() {
    let (_folder, path, url) = place();
    let mut maker = start(false, &url);
    maker.ok("lock h x");
    maker.ok("acquire h 0");
    assert_eq!(maker.quit(), Some(0));
    set_layout(&path, 2);
    let before = fs::read(&path).unwrap();
    let mut this = start(false, &url);
    this.ok("lock h x");
    for command in ["acquire h 0", "ping", "inspect x", "list"] {
        let answer = this.ask(command);
        assert!(answer.starts_with("PROTOCOL "), "{command}: {answer}");
        assert!(
            answer.contains("layout 2") && answer.contains("up to 1"),
            "{answer}"
        );
    }
    assert_eq!(fs::read(&path).unwrap(), before, "it is left as it is");
    let mut next = start(true, &url);
    next.ok("lock h x");
    next.ok("acquire h 0");
    assert_eq!(next.ok("list"), "x");
    assert_eq!(this.code("acquire h 0"), "PROTOCOL");
    next.ok("check h");
    next.ok("release h");
    assert_eq!(layout(&path), 2);
    // And so on: it refuses the one after it.
    drop(next);
    set_layout(&path, 3);
    let answer = start(true, &url).ask("ping");
    assert!(
        answer.starts_with("PROTOCOL ") && answer.contains("up to 2"),
        "{answer}"
    );
}
