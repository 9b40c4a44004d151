//! A lock lives as long as its session, and its end is told.

use crate::{code, held, ms, mysql, open, postgres, until, waited_for};
use std::os::fd::RawFd;
use synlock_core::{Code, State, Wait};
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;

/// How often: the bar asks for 300.
fn rounds() -> u32 {
    match std::env::var("SYNLOCK_LOAD").as_deref() {
        Ok("full") => 300,
        _ => 6,
    }
}

fn readable(fd: RawFd) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd; does not wait.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
}

/// Ends all sessions of the stores, over and over, and looks what holders are told.
fn losses(url: &str, end_sessions: impl Fn()) {
    let (here, there) = (open(url, 0), open(url, 1));
    for round in 0..rounds() {
        let names = [
            format!("a{round}"),
            format!("b{round}"),
            format!("c{round}"),
        ];
        let tried = held(&here, &names[0]);
        let waited = waited_for(&here, &names[1], held(&there, &names[1]));
        let released = held(&here, &names[2]);
        tried.ensure_held().unwrap();
        waited.ensure_held().unwrap();
        let listened = [tried.lost_fd().unwrap(), waited.lost_fd().unwrap()];
        assert!(!listened.into_iter().any(readable));
        end_sessions();
        // Whoever listens is told, without asking.
        until(|| listened.into_iter().all(readable));
        assert_eq!(
            [tried.state(), waited.state(), released.state()],
            [State::Lost; 3]
        );
        // The server may take a moment to end them.
        for name in &names {
            until(
                || match there.lock(name).unwrap().acquire(Wait::For(ms(500)), None) {
                    Ok(_) => true,
                    Err(error) => {
                        assert!(
                            matches!(
                                error.code(),
                                Code::Busy | Code::Timeout | Code::Unavailable | Code::Uncertain
                            ),
                            "{error:?}"
                        );
                        false
                    }
                },
            );
        }
        assert_eq!(code(tried.ensure_held()), Code::Lost);
        assert_eq!(code(waited.ensure_held()), Code::Lost);
        assert_eq!(code(released.release()), Code::Lost);
        // And then it is as good as new.
        tried.acquire(crate::PATIENCE, None).unwrap();
        tried.ensure_held().unwrap();
        tried.release().unwrap();
    }
}

#[test]
fn sessions_that_postgres_ends_are_losses() {
    let server = PostgresServer::start();
    losses(&postgres(&server), || {
        server.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
             WHERE application_name LIKE 'synlock-%'",
        );
    });
}

#[test]
fn sessions_that_mariadb_ends_are_losses() {
    let server = MariadbServer::start();
    losses(&mysql(&server), || {
        let ids = server.sql(
            "SELECT GROUP_CONCAT('KILL ', ID SEPARATOR ';') FROM information_schema.PROCESSLIST WHERE USER = 'locker'",
        );
        server.sql(&ids);
    });
}

#[test]
fn idle_sessions_that_mariadb_ends_are_kept_alive_or_lost() {
    let server = MariadbServer::start();
    // A machine may stand still for longer than the first of them.
    let kept = [1, 4, 16].into_iter().any(|seconds| {
        server.sql(&format!(
            "SET GLOBAL wait_timeout = {seconds}; SET GLOBAL interactive_timeout = {seconds}"
        ));
        let store = open(&mysql(&server), seconds);
        let lock = held(&store, "idle");
        std::thread::sleep(ms(2500) * seconds);
        if let Err(error) = lock.ensure_held() {
            assert_eq!(error.code(), Code::Lost, "{error}");
            return false;
        }
        let free = server.sql("SELECT IS_USED_LOCK('synlock:idle') IS NULL");
        assert_eq!(free, "0");
        true
    });
    assert!(kept);
}

#[test]
fn one_process_waits_for_more_names_than_it_may_in_the_server() {
    let server = PostgresServer::start();
    let url = format!("{}?max_waits=1", postgres(&server));
    let (here, there) = (open(&url, 0), open(&url, 1));
    let holders: Vec<_> = (0..5).map(|n| held(&there, &format!("n{n}"))).collect();
    std::thread::scope(|scope| {
        let waiters: Vec<_> = (0..5)
            .map(|n| {
                let here = &here;
                scope.spawn(move || held(here, &format!("n{n}")).release().map(|_| ()).unwrap())
            })
            .collect();
        std::thread::sleep(ms(100));
        holders
            .iter()
            .for_each(|lock| assert!(lock.release().is_ok()));
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn time_limits_of_a_role_do_not_end_a_wait() {
    let server = PostgresServer::start();
    server.sql("ALTER ROLE postgres SET lock_timeout = '500ms'; ALTER ROLE postgres SET statement_timeout = '600ms'");
    let url = postgres(&server);
    let (here, there) = (open(&url, 0), open(&url, 1));
    let holder = held(&here, "a");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| held(&there, "a"));
        std::thread::sleep(ms(1500));
        holder.release().unwrap();
        waiter.join().unwrap().release().unwrap();
    });
}

/// Two handles share a hold that was waited for, and so its one session: they take turns on it.
#[test]
fn handles_that_share_a_session_wait_for_each_other() {
    let server = PostgresServer::start();
    let url = postgres(&server);
    let here = open(&format!("{url}?reentry=extend"), 0);
    let first = waited_for(&here, "shared", held(&open(&url, 1), "shared"));
    let second = held(&here, "shared");
    std::thread::scope(|scope| {
        for lock in [&first, &second] {
            scope.spawn(move || {
                for _ in 0..500 {
                    assert_eq!(code(lock.ensure_held()), Code::Ok);
                }
            });
        }
    });
    first.release().unwrap();
}
