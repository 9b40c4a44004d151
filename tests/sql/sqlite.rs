//! What the suites for every store do not ask of `sqlite:`: other users of the file, its rows, forks.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::load::{SOON, most};
use synlock_tests::names::TempDir;
use synlock_tests::taker::Taker;

/// Another process.
const THIS: &str = env!("CARGO_BIN_EXE_flock-taker");

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

struct Database(TempDir);

impl Database {
    fn new() -> Self {
        Database(TempDir::in_memory("synlock-sqlite"))
    }

    fn path(&self) -> String {
        format!("{}/locks.db", self.0.path().display())
    }

    fn url(&self) -> String {
        format!("sqlite:{}?io_timeout=20000", self.path())
    }

    fn lock(&self, name: &str) -> Lock {
        self.lock_at("", name)
    }

    fn lock_at(&self, query: &str, name: &str) -> Lock {
        let url = match query {
            hasty if hasty.contains("io_timeout") => format!("sqlite:{}?{hasty}", self.path()),
            "" => self.url(),
            query => format!("{}&{query}", self.url()),
        };
        Store::open(&url).unwrap().lock(name).unwrap()
    }

    fn sql(&self, script: &str) -> String {
        sql(&self.path(), script)
    }
}

/// Runs SQL by another program: PHP's PDO, as most peers would.
fn sql(path: &str, script: &str) -> String {
    let program = r#"
        $db = new PDO("sqlite:" . $argv[1]);
        foreach (explode(";;", $argv[2]) as $statement)
            foreach ($db->query($statement)->fetchAll(PDO::FETCH_NUM) as $row) echo implode("|", $row), "\n";
    "#;
    let out = Command::new("php")
        .args(["-r", program, "--", path, script])
        .output()
        .unwrap();
    assert!(
        out.status.success() && out.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn code<T: std::fmt::Debug>(result: synlock_core::Result<T>) -> Code {
    result.err().map_or(Code::Ok, |error| error.code())
}

#[test]
fn names_of_columns_are_the_urls() {
    let database = Database::new();
    let names =
        "dialect=symfony&table=app_locks&id_col=the_id&token_col=the_token&expiration_col=the_end";
    let held = database.lock_at(names, "n");
    held.try_acquire().unwrap().unwrap();
    let count = "SELECT COUNT(*) FROM app_locks WHERE the_id <> the_token AND the_end > 0";
    assert_eq!(database.sql(count), "1");
    assert!(
        database
            .lock_at(names, "n")
            .try_acquire()
            .unwrap()
            .is_none()
    );
    held.release().unwrap();
    for bad in ["id_col=a-b", "id_col=x&token_col=X"] {
        let url = format!("{}&dialect=symfony&{bad}", database.url());
        let error = Store::open(&url).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
    }
}

#[test]
fn urls_are_checked() {
    for (url, expected) in [
        ("sqlite:locks.db", Code::InvalidUrl),
        ("sqlite:", Code::InvalidUrl),
        ("sqlite:/", Code::InvalidUrl),
        ("sqlite:/a/../b", Code::InvalidUrl),
        ("sqlite://host/a", Code::InvalidUrl),
        ("sqlite::memory:", Code::Unsupported),
        ("sqlite:/tmp/x?table=a;drop", Code::InvalidArgument),
        ("sqlite:/tmp/x?table=a.b.c", Code::InvalidArgument),
        ("sqlite:/tmp/x?table=1a", Code::InvalidArgument),
        ("sqlite:/tmp/x?sync=off", Code::InvalidArgument),
        ("sqlite:/tmp/x?purge_after=-1", Code::InvalidArgument),
        ("sqlite:/tmp/x?tabel=a", Code::UnknownOption),
    ] {
        assert_eq!(code(Store::open(url)), expected, "{url}");
    }
}

#[test]
fn the_file_is_its_owners_and_the_table_is_made_on_demand() {
    use std::os::unix::fs::PermissionsExt;
    let database = Database::new();
    let lock = database.lock_at("table=own_name", "n");
    assert!(!Path::new(&database.path()).exists());
    lock.acquire(Wait::No, None).unwrap();
    let mode = std::fs::metadata(database.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(database.sql("SELECT name FROM own_name"), "n");
    assert_eq!(database.sql("PRAGMA integrity_check"), "ok");
}

#[test]
fn a_folder_or_file_that_cannot_be_used_is_said() {
    let at = |path: &str| {
        let store = Store::open(&format!("sqlite:{path}?io_timeout=200")).unwrap();
        code(store.lock("n").unwrap().acquire(Wait::No, None))
    };
    assert_eq!(at("/nowhere/locks.db"), Code::Storage);
    let folder = TempDir::new("synlock-sqlite");
    let file = folder.path().join("text");
    std::fs::write(&file, "no database ".repeat(200)).unwrap();
    assert_eq!(at(file.to_str().unwrap()), Code::Storage);
    assert_eq!(at(folder.path().to_str().unwrap()), Code::Permission);
}

/// Another program, whose transaction stays open until it is told to end.
struct Foreign(Child);

impl Foreign {
    fn begin(path: &str, how: &str) -> Self {
        let program = r#"$db = new PDO("sqlite:" . $argv[1]); $db->exec("BEGIN {$argv[2]}"); echo "open\n"; fgets(STDIN);"#;
        let mut other = Command::new("php")
            .args(["-r", program, "--", path, how])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 5];
        other
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut line)
            .unwrap();
        Foreign(other)
    }

    fn end(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn a_try_does_not_wait_for_another_programs_transaction() {
    for dialect in ["", "dialect=symfony", "dialect=drupal", "dialect=laravel"] {
        for how in ["IMMEDIATE", "EXCLUSIVE"] {
            let database = Database::new();
            let lock = |name: &str, io_timeout: u32| {
                database.lock_at(&format!("io_timeout={io_timeout}&{dialect}"), name)
            };
            // Whoever has to be heard would wait for longer than anything takes here.
            let (free, held) = (lock("free", 3_600_000), lock("held", 200));
            free.try_acquire().unwrap().unwrap();
            free.release().unwrap();
            held.try_acquire().unwrap().unwrap();
            let case = format!("{dialect} {how}");

            let other = Foreign::begin(&database.path(), how);
            for taken in ["free", "held", "new"] {
                let lock = lock(taken, 3_600_000);
                let start = Instant::now();
                assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy, "{case}");
                let took = start.elapsed();
                assert!(took < most(ms(100)), "{case}: {taken} took {took:?}");
            }
            let start = Instant::now();
            let timed = free.acquire(Wait::For(ms(300)), None);
            assert_eq!(code(timed), Code::Timeout, "{case}");
            assert!(start.elapsed() >= ms(300) && start.elapsed() < SOON);
            // What must be carried out has its time.
            assert_eq!(code(held.refresh(None)), Code::Unavailable, "{case}");
            assert_eq!(code(held.release()), Code::Unavailable, "{case}");

            // Who waits is granted when it is over, though that is later than an exchange may take.
            let waiter = lock("free", 200);
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| code(waiter.acquire(Wait::For(SOON), None)));
                std::thread::sleep(ms(600));
                assert!(!waits.is_finished(), "{case}");
                other.end();
                assert_eq!(waits.join().unwrap(), Code::Ok, "{case}");
            });
            waiter.ensure_held().unwrap();
            // Nothing was written for those who were refused, and the release has gone on.
            for name in ["new", "held"] {
                let lock = lock(name, 20_000);
                assert_eq!(
                    code(lock.acquire(Wait::For(SOON), None)),
                    Code::Ok,
                    "{case}"
                );
            }
        }
    }
}

#[test]
fn a_row_that_cannot_be_read_is_an_error_and_no_grant() {
    let database = Database::new();
    let (lock, other) = (database.lock("n"), database.lock("n"));
    lock.acquire(Wait::No, None).unwrap();
    for state in [
        "nonsense",
        "h|1|x|y",
        "h|1|t|z|1|1|1|1|1|1|0|w",
        "q|1|t|x|1|1|1|1|1|1|0|w",
    ] {
        database.sql(&format!(
            "UPDATE synlock_locks SET state = CAST('{state}' AS BLOB)"
        ));
        assert_eq!(
            code(other.acquire(Wait::No, None)),
            Code::Protocol,
            "{state}"
        );
        assert_eq!(code(lock.check_store()), Code::Protocol);
    }
}

/// `check` asks the store.
trait CheckStore {
    fn check_store(&self) -> synlock_core::Result<bool>;
}

impl CheckStore for Lock {
    fn check_store(&self) -> synlock_core::Result<bool> {
        self.is_acquired()
    }
}

#[test]
fn rows_long_free_are_dropped_and_fences_still_grow() {
    let database = Database::new();
    let query = "purge_after=1";
    let mut last = 0;
    for round in 0..3 {
        let lock = database.lock_at(query, "kept");
        let fence = lock.acquire(Wait::No, None).unwrap().fence.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        if round == 0 {
            // As if the clock had been far ahead: only the floor keeps later fences above it.
            let ahead = last + 1_000_000_000_000_000;
            database.sql(&format!("UPDATE synlock_locks SET fence = {ahead}"));
            last = ahead;
        }
        lock.release().unwrap();
        for number in 0..400 {
            let lock = database.lock_at(query, &format!("once-{round}-{number}"));
            lock.acquire(Wait::No, None).unwrap();
            lock.release().unwrap();
        }
    }
    let rows: u32 = database
        .sql("SELECT count(*) FROM synlock_locks")
        .parse()
        .unwrap();
    assert!(rows < 1000, "{rows} of 1201 rows are left");
    let floor: u64 = database
        .sql("SELECT coalesce(max(fence), 0) FROM synlock_locks WHERE id = x''")
        .parse()
        .unwrap();
    assert!(floor > 0, "no row was dropped");
    let kept: u32 = database
        .sql("SELECT count(*) FROM synlock_locks WHERE name = CAST('kept' AS BLOB)")
        .parse()
        .unwrap();
    database.sql("DELETE FROM synlock_locks WHERE name = CAST('kept' AS BLOB) AND fence <= (SELECT fence FROM synlock_locks WHERE id = x'')");
    if kept == 0 || floor >= last {
        let fence = database
            .lock("kept")
            .acquire(Wait::No, None)
            .unwrap()
            .fence
            .unwrap();
        assert!(fence > last, "{fence} after {last}");
    }
}

#[test]
fn held_and_queued_rows_are_never_purged() {
    let database = Database::new();
    let held = database.lock_at("purge_after=1", "held");
    held.acquire(Wait::No, None).unwrap();
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    let url = format!("{}&purge_after=1", database.url());
    let shared = Store::open(&url)
        .unwrap()
        .lock_with("shared", options)
        .unwrap();
    shared.acquire(Wait::No, None).unwrap();
    for number in 0..500 {
        let lock = database.lock_at("purge_after=1", &format!("once-{number}"));
        lock.acquire(Wait::No, None).unwrap();
        lock.release().unwrap();
    }
    assert!(held.is_acquired().unwrap() && shared.is_acquired().unwrap());
    held.release().unwrap();
    shared.release().unwrap();
}

/// Takes and frees a lock in a child.
fn work_in_a_child(url: &str, name: &str) {
    // SAFETY: the child takes and frees locks, and leaves by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let works = || {
            let store = Store::open(url).ok()?;
            let own = store.lock(name).ok()?;
            for _ in 0..20 {
                own.acquire(Wait::For(ms(60_000)), None).ok()?;
                own.release().ok()?;
            }
            let refused = store.lock("held").ok()?.acquire(Wait::No, None);
            (code(refused) == Code::Busy).then_some(())
        };
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(works().is_none())) };
    }
    let mut status = 0;
    // SAFETY: a child of ours, a place for its status.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status, 0, "{name}");
}

/// Two threads fork while locks are held and others work; parents and children all go on, and the file
/// stays whole.
#[test]
fn forks_leave_the_database_whole() {
    let database = Database::new();
    let url = &database.url();
    let held = database.lock("held");
    held.acquire(Wait::No, None).unwrap();
    let stop = &std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            scope.spawn(move || {
                let lock = Store::open(url)
                    .unwrap()
                    .lock(format!("busy-{thread}"))
                    .unwrap();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    lock.acquire(Wait::For(ms(60_000)), None).unwrap();
                    lock.release().unwrap();
                }
            });
        }
        let forks = [0, 1].map(|thread| {
            scope.spawn(move || {
                for round in 0..20 {
                    work_in_a_child(url, &format!("child-{thread}-{round}"));
                }
            })
        });
        let done = forks.map(|forking| forking.join());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(done.iter().all(Result::is_ok), "a child failed");
    });
    held.release().unwrap();
    assert_eq!(database.sql("PRAGMA integrity_check"), "ok");
}

/// A child that was made behind the back of the fork handlers, in the middle of things.
#[test]
fn a_raw_clone_is_refused_rather_than_trusted() {
    let database = Database::new();
    let lock = database.lock("n");
    lock.acquire(Wait::No, None).unwrap();
    // SAFETY: as `fork`, but no handler runs; the child only asks once and leaves.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    if pid == 0 {
        let fresh = Store::open(&database.url()).unwrap().lock("other").unwrap();
        let good = code(fresh.acquire(Wait::No, None)) == Code::ForkedHandle;
        // SAFETY: ends the child without the parent's exit handlers.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = 0;
    // SAFETY: a child of ours, a place for its status.
    unsafe { libc::waitpid(pid as libc::pid_t, &raw mut status, 0) };
    assert_eq!(status, 0);
    lock.release().unwrap();
}

/// What is kept open of a file that has been removed says nothing of the one that others lock in now.
#[test]
fn a_hold_in_a_file_that_was_removed_is_lost() {
    for dialect in ["", "dialect=symfony", "dialect=drupal", "dialect=laravel"] {
        let database = Database::new();
        let lock = database.lock_at(dialect, "n");
        lock.acquire(Wait::No, None).unwrap();
        lock.ensure_held().unwrap();
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{end}", database.path()));
        }
        let mut other = Taker::start(THIS, &format!("{}&{dialect}", database.url()));
        other.ok("lock h n");
        other.ok("acquire h 60000");
        assert_eq!(code(lock.ensure_held()), Code::Lost, "{dialect}");
        let next = database.lock_at(dialect, "n");
        assert_eq!(code(next.acquire(Wait::No, None)), Code::Busy, "{dialect}");
        other.ok("release h");
        assert_eq!(code(next.acquire(Wait::No, None)), Code::Ok, "{dialect}");
    }
}

/// The host's own programs open, close and copy the file meanwhile (row 25).
#[test]
fn a_host_that_opens_the_file_harms_nothing() {
    let database = Database::new();
    let url = database.url();
    database.lock("first").acquire(Wait::No, None).unwrap();
    let inside = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let lock = Store::open(&url).unwrap().lock("hot").unwrap();
                for _ in 0..60 {
                    lock.acquire(Wait::For(Duration::from_secs(120)), None)
                        .unwrap();
                    let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    assert_eq!(others, 0, "two holders");
                    inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    lock.release().unwrap();
                }
            });
        }
        scope.spawn(|| {
            for round in 0..5 {
                assert!(
                    !database
                        .sql("SELECT count(*) FROM synlock_locks")
                        .is_empty()
                );
                let copy = format!("{}-copy{round}", database.path());
                database.sql(&format!("VACUUM INTO '{copy}'"));
                assert_eq!(sql(&copy, "PRAGMA integrity_check"), "ok");
            }
        });
    });
    assert_eq!(database.sql("PRAGMA integrity_check"), "ok");
}

/// Its backup by SQLite's own means, beside a held lock (row 25).
#[test]
fn a_host_that_backs_the_file_up_harms_nothing() {
    let database = Database::new();
    let held = database.lock("held");
    held.acquire(Wait::No, None).unwrap();
    let program = r#"
        $from = new SQLite3($argv[1]); $to = new SQLite3($argv[2]);
        if (!$from->backup($to)) exit(1);
    "#;
    for round in 0..3 {
        let copy = format!("{}-backup{round}", database.path());
        let out = Command::new("php")
            .args(["-r", program, "--", &database.path(), &copy])
            .output()
            .unwrap();
        assert!(out.status.success(), "{out:?}");
        assert_eq!(sql(&copy, "PRAGMA integrity_check"), "ok");
        held.ensure_held().unwrap();
        assert_eq!(
            code(database.lock("held").acquire(Wait::No, None)),
            Code::Busy
        );
        // The copy knows of the hold, and what becomes of it there is nobody's matter here.
        let there = Store::open(&format!("sqlite:{copy}")).unwrap();
        assert!(there.is_locked("held").unwrap());
        assert!(there.break_lock("held").unwrap());
        held.refresh(None).unwrap();
    }
    held.release().unwrap();
    assert_eq!(database.sql("PRAGMA integrity_check"), "ok");
}
