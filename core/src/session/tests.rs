use super::*;
use crate::Code;
use crate::event::EventKind;

const TTL: Duration = Duration::from_secs(30);

/// The form of a lock id of Drupal's: `^[0-9]{1,10}[0-9a-f]{13}[0-9]\.[0-9]{8}$`.
fn looks_like_drupals(id: &str) -> bool {
    let Some((left, right)) = id.split_once('.') else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let hex = |text: &str| {
        text.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let Some(cut) = left
        .len()
        .checked_sub(14)
        .filter(|cut| (1..=10).contains(cut))
    else {
        return false;
    };
    digits(&left[..cut])
        && hex(&left[cut..cut + 13])
        && digits(&left[cut + 13..])
        && right.len() == 8
        && digits(right)
}

#[test]
fn ids_are_drupals_by_their_looks_and_differ() {
    assert!(looks_like_drupals("14213794866b027d6c2a04a4.29334949"));
    assert!(!looks_like_drupals("14213794866b027d6c2a04a4.2933494"));
    let ids: std::collections::HashSet<String> = (0..1000).map(|_| id::draw().unwrap()).collect();
    assert_eq!(ids.len(), 1000);
    assert!(ids.iter().all(|id| looks_like_drupals(id)), "{ids:?}");
}

#[test]
fn thirty_seconds_are_drupals_default() {
    assert_eq!(DEFAULT_TTL, Duration::from_secs(30));
}

#[test]
fn an_id_that_is_given_must_be_readable() {
    assert!(id::check("persistent").is_ok() && id::check(&"x".repeat(255)).is_ok());
    for bad in ["", "é", "a\nb", "nul\0", &"x".repeat(256)] {
        assert_eq!(id::check(bad).unwrap_err().code(), Code::InvalidArgument);
    }
}

#[cfg(feature = "memory")]
mod memory {
    use super::*;

    fn store(name: &str) -> Store {
        Store::open(&format!("memory:session-{name}")).unwrap()
    }

    #[test]
    fn holds_end_with_the_session_and_with_the_process() {
        let store = store("ends");
        let (mine, other) = (Session::new(&store), Session::new(&store));
        assert_eq!(mine.acquire("a", TTL).unwrap(), Taken::New);
        assert_eq!(other.acquire("a", TTL).unwrap(), Taken::Busy);
        drop(mine);
        assert_eq!(other.acquire("a", TTL).unwrap(), Taken::New);
        other.0.end();
        assert!(other.may_be_available("a").unwrap());
        assert_eq!(other.acquire("a", TTL).unwrap(), Taken::New, "it goes on");
    }

    #[test]
    fn observers_of_the_store_hear_of_its_sessions() {
        let store = store("heard");
        let heard: Arc<Mutex<Vec<(EventKind, bool)>>> = Arc::default();
        let note = heard.clone();
        store.observe(Arc::new(move |event| {
            note.lock().push((event.kind, event.label.is_some()));
        }));
        let mine = Session::new(&store);
        mine.acquire("a", TTL).unwrap();
        mine.acquire("a", TTL).unwrap();
        drop(mine);
        let heard = std::mem::take(&mut *heard.lock());
        let kinds: Vec<EventKind> = heard.iter().map(|(kind, _)| *kind).collect();
        let expected = [
            EventKind::Acquired,
            EventKind::Refreshed,
            EventKind::Released,
        ];
        assert_eq!(kinds, expected);
        assert!(heard.iter().all(|(_, labelled)| *labelled));
    }

    #[test]
    fn a_session_without_leases_holds_until_it_releases() {
        let store = Store::open("memory:session-strict?strict=1").unwrap();
        // Has leases, and so nothing to refuse.
        assert!(Session::new(&store).acquire("a", TTL).unwrap().is_held());
        assert_eq!(
            Session::persistent(&store, "me").unwrap_err().code(),
            Code::Unsupported,
            "nothing outlives a process in its memory"
        );
    }

    #[test]
    fn impossible_times_are_refused() {
        let mine = Session::new(&store("times"));
        assert_eq!(mine.acquire("a", Duration::ZERO).unwrap(), Taken::New);
        let refused = mine.acquire("b", Duration::from_secs(u64::MAX / 2));
        assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(
            mine.acquire("", TTL).unwrap_err().code(),
            Code::InvalidArgument
        );
    }

    #[test]
    fn threads_share_a_session() {
        let mine = Session::new(&store("threads"));
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let mine = &mine;
                scope.spawn(move || {
                    for round in 0..50 {
                        let name = format!("{thread}-{round}");
                        assert!(mine.acquire(&name, TTL).unwrap().is_held());
                        assert!(mine.acquire("shared", TTL).unwrap().is_held());
                        assert!(mine.release(&name).unwrap());
                    }
                });
            }
        });
        assert_eq!(mine.release_all(None).unwrap(), 1);
    }
}

#[cfg(feature = "sqlite")]
mod table {
    use super::*;

    /// Drupal's column compares without regard to case: one row, and the id of the session in it.
    #[test]
    fn of_two_names_that_share_a_row_the_second_is_refused() {
        let file = file("twins");
        let store = Store::open(&format!("sqlite:{}?dialect=drupal", file.display())).unwrap();
        store.create_table(crate::Wait::Forever).unwrap();
        let (mine, other) = (Session::new(&store), Session::new(&store));
        assert_eq!(mine.acquire("Cron", TTL).unwrap(), Taken::New);
        assert_eq!(mine.acquire("cRON", TTL).unwrap(), Taken::Busy);
        assert_eq!(
            mine.acquire("cron ", TTL).unwrap(),
            Taken::New,
            "another row"
        );
        assert!(!mine.release("cRON").unwrap());
        assert_eq!(other.acquire("cron", TTL).unwrap(), Taken::Busy);
        assert_eq!(mine.acquire("Cron", TTL).unwrap(), Taken::Renewed);
        assert_eq!(mine.release_all(None).unwrap(), 2);
        assert_eq!(other.acquire("cron", TTL).unwrap(), Taken::New);
        assert_eq!(mine.acquire("Cron", TTL).unwrap(), Taken::Busy);
        drop((mine, other));
        remove(&file);
    }

    fn file(name: &str) -> std::path::PathBuf {
        let name = format!("synlock-{name}-{}.db", std::process::id());
        let file = std::env::temp_dir().join(name);
        remove(&file);
        file
    }

    fn remove(file: &std::path::Path) {
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", file.display()));
        }
    }

    /// The row of the lock that is listed first refuses to be written.
    #[test]
    fn all_are_tried_though_one_cannot_be_released() {
        let file = file("stuck");
        let store = Store::open(&format!("sqlite:{}", file.display())).unwrap();
        let [mine, other] = ["kept", "other"].map(|id| Session::persistent(&store, id).unwrap());
        let names = ["a", "b", "c", "d"];
        for name in names {
            assert_eq!(mine.acquire(name, TTL).unwrap(), Taken::New);
        }
        let first = store.list(b"", None, 1).unwrap().locks;
        let stuck = String::from_utf8(first[0].name.clone()).unwrap();
        let table = rusqlite::Connection::open(&file).unwrap();
        let trigger = |event: &str| {
            format!(
                "CREATE TRIGGER stuck_{event} BEFORE {event} ON synlock_locks WHEN old.name = CAST('{stuck}' AS BLOB) \
                 BEGIN SELECT RAISE(ABORT, 'stuck'); END;"
            )
        };
        table
            .execute_batch(&(trigger("UPDATE") + &trigger("DELETE")))
            .unwrap();
        other.release_all(Some("kept")).unwrap_err();
        for name in names {
            assert_eq!(
                mine.may_be_available(name).unwrap(),
                name != stuck,
                "{name}"
            );
        }
        mine.release_all(None).unwrap_err();
        table
            .execute_batch("DROP TRIGGER stuck_UPDATE; DROP TRIGGER stuck_DELETE")
            .unwrap();
        assert_eq!(mine.release_all(None).unwrap(), 1, "it is tried again");
        drop((mine, other, table));
        remove(&file);
    }
}
