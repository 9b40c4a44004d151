//! What is written over a row that another one has taken the place of.

use super::*;

const ID: Id = [7; 32];

/// Takes the free row for a second.
fn grab(engine: &Sqlite, state: &str) {
    let grab = Grab {
        id: &ID,
        name: b"n",
        block: 1,
        ttl: 1_000_000,
        state,
        asked_before: false,
    };
    let taken = engine.grab(&grab, engine.limit(None)).unwrap();
    assert!(matches!(taken, Wrote::Done(_)), "{taken:?}");
}

/// Who has read a row and was stopped since must not write over the one that was made after it was dropped: versions
/// begin again there.
#[test]
fn a_row_that_was_made_anew_is_another() {
    let path = std::env::temp_dir().join(format!("synlock-row-{}.db", std::process::id()));
    let source = Source {
        path: path.to_str().unwrap().to_owned(),
        wal: true,
        full_sync: false,
        allow_network_fs: true,
    };
    let engine = Sqlite::new(source, TABLE, Duration::from_secs(20));
    let limit = || engine.limit(None);
    grab(&engine, "one");
    let seen = engine.read(&ID, limit()).unwrap().unwrap();
    assert!(matches!(
        engine.free(&ID, "one", limit()).unwrap(),
        Wrote::Done(())
    ));
    // It came free a moment ago, by a clock of microseconds.
    std::thread::sleep(Duration::from_millis(2));
    engine.purge(&[0; 32], 1, limit()).unwrap();
    assert!(engine.read(&ID, limit()).unwrap().is_none());
    grab(&engine, "two");
    let swap = Swap {
        id: &ID,
        version: seen.version,
        seen_fence: seen.fence,
        fence: seen.fence + 1,
        since: seen.since,
        until: seen.until,
        state: "one again",
        notes: &[],
    };
    let written = engine.swap(&swap, limit()).unwrap();
    let found = engine.read(&ID, limit()).unwrap().unwrap();
    for end in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{end}", path.display()));
    }
    assert_eq!((written, found.state.as_str()), (false, "two"));
}
