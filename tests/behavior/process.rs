//! Other processes: this program, run again, takes locks and is killed.

use super::support::{Case, List, PATIENCE, code, ms};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use synlock_core::{Code, LockOptions, LockSet, Store, Wait};

const CHILD: &str = "SYNLOCK_BEHAVIOR_CHILD";
/// Another name that the child takes together with its own.
const ALSO: &str = "SYNLOCK_BEHAVIOR_ALSO";

pub fn tests(list: &mut List) {
    if list.can.scope == synlock_core::Scope::Process {
        return;
    }
    list.add("a_second_process_is_excluded", excluded);
    list.add("a_process_that_exits_leaves_no_lock", exits);
    list.add("a_process_that_is_killed_leaves_no_lock", killed);
    list.add("a_waiter_of_another_process_is_woken", woken);
    list.add(
        "a_set_whose_process_is_killed_as_it_waits_leaves_no_lock",
        part_killed,
    );
}

/// In the child: takes the lock, says so, and does as it is told.
pub fn child_main() -> Option<i32> {
    let (url, name) = std::env::var(CHILD)
        .ok()?
        .split_once('\n')
        .map(|(url, name)| (url.to_owned(), name.to_owned()))?;
    let store = Store::open(&url).ok()?;
    let mut options = LockOptions::default();
    if !store.capabilities().frees_on_death {
        // Renewed in time on a machine that does other work, and over soon after the end.
        options.ttl = Some(ms(3000));
        options.renew = Some(true);
    }
    let lock = store.lock_with(&name, options.clone()).ok()?;
    if let Ok(also) = std::env::var(ALSO) {
        let also = store.lock_with(also, options).ok()?;
        let set = LockSet::new(&[&lock, &also]).ok()?;
        return Some(i32::from(set.acquire(PATIENCE, None).is_err()));
    }
    let result = lock.acquire(PATIENCE, None);
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "{}",
        result.map_or_else(|error| error.code().name(), |_| "HELD")
    );
    let _ = out.flush();
    let mut line = String::new();
    let _ = std::io::stdin().read_line(&mut line);
    match line.trim() {
        "release" => Some(i32::from(lock.release().is_err())),
        // Leaves without destructors, as many programs do.
        _ => std::process::exit(0),
    }
}

struct Holder(Child);

impl Holder {
    fn start(case: &Case) -> Self {
        Holder::run(case, &case.name, |_| {})
    }

    fn run(case: &Case, name: &str, change: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        change(&mut command);
        let child = command
            .env(CHILD, format!("{}\n{name}", case.url))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Holder(child)
    }

    fn wait_until_it_holds(&mut self) {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line.trim(), "HELD");
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{word}").unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn excluded(case: &Case) {
    let mut holder = Holder::start(case);
    holder.wait_until_it_holds();
    let lock = case.lock();
    assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
    if case.can.list {
        let found = case.store.inspect(&case.name).unwrap();
        // Some peers' values are a token and nothing else.
        if case.can.store != "memcached-symfony" && !case.is_peers_table() {
            assert_eq!(found.holders[0].pid, Some(holder.0.id()));
        }
    }
    holder.tell("release");
    lock.acquire(Wait::No, None).unwrap();
}

fn exits(case: &Case) {
    let mut holder = Holder::start(case);
    holder.wait_until_it_holds();
    holder.tell("exit");
    case.lock().acquire(PATIENCE, None).unwrap();
}

fn killed(case: &Case) {
    let mut holder = Holder::start(case);
    holder.wait_until_it_holds();
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    holder.0.kill().unwrap();
    holder.0.wait().unwrap();
    // What it left behind ends with its lease, which nobody renews.
    case.lock().acquire(PATIENCE, None).unwrap();
}

fn woken(case: &Case) {
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    let mut holder = Holder::start(case);
    case.wait_for_waiters(1);
    lock.release().unwrap();
    holder.wait_until_it_holds();
    assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
    holder.tell("release");
    lock.acquire(PATIENCE, None).unwrap();
}

/// It holds the first of its names, and waits for the second.
fn part_killed(case: &Case) {
    let mut names = [case.another(), case.another()];
    names.sort();
    let [first, second] =
        names.map(|name| case.store.lock(&name).map(|lock| (name, lock)).unwrap());
    second.1.acquire(Wait::No, None).unwrap();
    let mut child = Holder::run(case, &first.0, |command| {
        command.env(ALSO, &second.0);
    });
    let end = Instant::now() + Duration::from_secs(60);
    while first.1.try_acquire().unwrap().is_some() {
        first.1.release().unwrap();
        assert!(Instant::now() < end, "the child never took it");
        std::thread::sleep(ms(5));
    }
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    first.1.acquire(PATIENCE, None).unwrap();
    second.1.ensure_held().unwrap();
}
