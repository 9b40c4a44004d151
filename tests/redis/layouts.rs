//! Builds of neighbouring releases share a server: this one, and one whose layout number is one
//! higher (`next-layout`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use synlock_tests::redis::RedisServer;
use synlock_tests::taker::Taker;

const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");

/// The taker of the next release, built beside this one's.
fn next() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(THIS)
            .ancestors()
            .find(|path| path.ends_with("target"))
            .map_or_else(std::env::temp_dir, Path::to_path_buf)
            .join("next-layout-redis");
        let built = Command::new(env!("CARGO"))
            .args(["build", "-q", "--no-default-features"])
            .args(["--features", "flock,redis,next-layout"])
            .args(["--bin", "flock-taker", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(built.success(), "the next release does not build");
        target.join("debug/flock-taker")
    })
}

#[test]
fn neighbours_take_turns_and_wake_each_other() {
    let server = RedisServer::start();
    let mut this = Taker::start(THIS, &server.url());
    let mut next = Taker::start(next().to_str().unwrap(), &server.url());
    let mut last = 0;
    for taker in [&mut this, &mut next] {
        taker.ok("lock h n");
        taker.ok("lock s n shared");
    }
    for round in 0..6 {
        let (one, two) = if round % 2 == 0 {
            (&mut this, &mut next)
        } else {
            (&mut next, &mut this)
        };
        let fence: u64 = one.ok("acquire h 0").parse().unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        let key = server.command(&["KEYS", "synlock:*}:n"]);
        let record = server.command(&["GET", &key]);
        let layout = if round % 2 == 0 { "|1|x|" } else { "|2|x|" };
        assert_eq!(record.find(layout), Some(32), "{record}");
        assert_eq!(two.code("acquire h 0"), "BUSY");
        assert_eq!(two.ok("inspect n"), "1");
        std::thread::scope(|scope| {
            // The other one's waiter is handed the lock by this one's release.
            let waiter = scope.spawn(|| two.ok("acquire h 4000").parse::<u64>().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(100));
            one.ok("release h");
            last = waiter.join().unwrap().max(last);
        });
        two.ok("release h");
        // Readers of both together; the writer stays out.
        one.ok("acquire s 0");
        two.ok("acquire s 0");
        assert_eq!(one.ok("inspect n"), "2");
        assert_eq!(one.code("acquire h 0"), "BUSY");
        assert_eq!(one.code("promote s 0"), "BUSY");
        one.ok("release s");
        two.ok("promote s 0");
        two.ok("release s");
    }
}
