//! The command of Rust; README.md says what it understands.

#![expect(clippy::print_stdout, reason = "a program that answers")]

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::time::Duration;
use synlock_core::{Code, Error, Lock, LockOptions, Mode, Reentry, Result, Session, Store, Wait};

#[derive(Default)]
struct Command {
    stores: HashMap<String, Store>,
    holds: HashMap<String, Lock>,
    sessions: HashMap<String, Session>,
    /// Whether the last `take` had to wait.
    contended: bool,
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len() / 2).map(|index| byte(index * 2)).collect()
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

fn wait(ms: &str) -> Wait {
    match ms.parse::<i64>().expect("a number") {
        0 => Wait::No,
        ..0 => Wait::Forever,
        _ => Wait::For(Duration::from_millis(number(ms))),
    }
}

fn bit(value: bool) -> String {
    u8::from(value).to_string()
}

fn options(store: &Store, words: &[&str]) -> Result<LockOptions> {
    let mut options = store.defaults().clone();
    for word in words {
        match word.split_once('=').expect("an option") {
            ("ttl", ms) if ms.starts_with('-') => {
                return Err(Error::new(
                    Code::InvalidArgument,
                    "a Duration cannot be negative",
                ));
            }
            ("ttl", ms) => options.ttl = Some(Duration::from_millis(number(ms))),
            ("renew", on) => options.renew = Some(on == "1"),
            ("shared", "1") => options.mode = Mode::Shared,
            ("auto_release", on) => options.auto_release = on == "1",
            ("fair", on) => options.fair = on == "1",
            ("strict", on) => options.strict = on == "1",
            ("label", hex) => {
                options.label = Some(String::from_utf8(bytes(hex)).expect("UTF-8").into());
            }
            ("reentry", policy) => {
                options.reentry = match policy {
                    "error" => Reentry::Error,
                    "extend" => Reentry::Extend,
                    _ => Reentry::Independent,
                };
            }
            ("permits", text) => {
                let (take, of) = text.split_once('/').expect("TAKE/OF");
                options.mode = Mode::Permits {
                    take: number(take) as u32,
                    of: number(of) as u32,
                };
            }
            _ => panic!("unknown option {word}"),
        }
    }
    Ok(options)
}

impl Command {
    fn answer(&mut self, words: &[&str]) -> Result<String> {
        match *words {
            ["open", name, url] => {
                self.stores.insert(name.into(), Store::open(url)?);
            }
            ["take", hold, store, name, ms, ref more @ ..] => {
                let store = &self.stores[store];
                let lock = store.lock_with(bytes(name), options(store, more)?)?;
                self.contended = lock.acquire(wait(ms), None)?.contended;
                self.holds.insert(hold.into(), lock);
            }
            ["wait", hold, store, name] => {
                let lock = self.stores[store].lock(bytes(name))?;
                lock.acquire(lock.options().timeout.unwrap_or(Wait::Forever), None)?;
                self.holds.insert(hold.into(), lock);
            }
            ["again", hold] => drop(self.holds[hold].acquire(Wait::No, None)?),
            ["drop", hold] => drop(self.holds.remove(hold)),
            ["how", _] => return Ok(bit(self.contended)),
            ["adopt", hold, store, text] => {
                let lock = self.stores[store].adopt(text, LockOptions::default())?;
                self.holds.insert(hold.into(), lock);
            }
            ["session", key, store, ref id @ ..] => {
                let store = &self.stores[store];
                let made = match id.first() {
                    None => Session::new(store),
                    Some(id) => Session::persistent(store, id)?,
                };
                self.sessions.insert(key.into(), made);
            }
            [verb, key, ref rest @ ..] if verb.starts_with("s_") => {
                return ask_session(&self.sessions[key], verb, rest);
            }
            ["codes"] => {
                let row = |code: &Code| format!("{}={}", code.number(), code.name());
                return Ok(Code::ALL.iter().map(row).collect::<Vec<_>>().join(" "));
            }
            [verb, first, ref rest @ ..] => {
                return match self.stores.get(first) {
                    Some(store) => ask_store(store, verb, rest),
                    None => ask_hold(&self.holds[first], verb, rest),
                };
            }
            _ => panic!("unknown request"),
        }
        Ok(String::new())
    }
}

fn ask_session(session: &Session, verb: &str, words: &[&str]) -> Result<String> {
    let name = || bytes(words[0]);
    let ms = || Duration::from_millis(number(words[1]));
    Ok(match verb {
        "s_id" => session.id()?.to_string(),
        "s_acquire" => bit(session.acquire(name(), ms())?.is_held()),
        "s_renew" => bit(session.renew(name(), ms())?),
        "s_free" => bit(session.may_be_available(name())?),
        "s_wait" => bit(session.wait(name(), wait(words[1]))?),
        "s_release" => bit(session.release(name())?),
        "s_release_all" => session.release_all(words.first().copied())?.to_string(),
        _ => panic!("unknown request {verb}"),
    })
}

fn ask_store(store: &Store, verb: &str, words: &[&str]) -> Result<String> {
    let name = bytes(words.first().unwrap_or(&""));
    Ok(match verb {
        "ping" => {
            store.ping(Wait::For(Duration::from_secs(60)))?;
            String::new()
        }
        "fingerprint" => store.fingerprint(),
        "locked" => bit(store.is_locked(name)?),
        "break" => bit(store.break_lock(name)?),
        "wait_free" => match store.wait_free(name, wait(words[1]))? {
            true => String::new(),
            false => return Err(Error::new(Code::Timeout, "not free in time")),
        },
        "inspect" => {
            let found = store.inspect(name)?;
            let waiters = found.waiters.map_or(-1, i64::from);
            format!("{} {waiters}", found.holders.len())
        }
        "who" => {
            let found = store.inspect(name)?;
            let first = &found.holders[0];
            let label = first.label.as_deref().unwrap_or("");
            let label: String = label.bytes().map(|byte| format!("{byte:02x}")).collect();
            let label = if label.is_empty() { "-" } else { &label };
            let pid = first.pid.unwrap_or(0);
            format!("{} {} {pid} {label}", first.mode, first.permits)
        }
        "where" => {
            let found = store.inspect(name)?;
            let first = &found.holders[0];
            let host = first.host.as_deref().unwrap_or("");
            let host: String = host.bytes().map(|byte| format!("{byte:02x}")).collect();
            let host = if host.is_empty() { "-" } else { &host };
            let held = first.held.map_or(-1, |held| held.as_millis() as i64);
            format!("{host} {held}")
        }
        "list" => list(store, &name, number(words[1]) as usize)?,
        "capabilities" => {
            let can = store.capabilities();
            let bits = [
                can.shared,
                can.promote,
                can.permits,
                can.ttl,
                can.frees_on_death,
                can.wakes,
                can.fair,
                can.export,
                can.list,
                can.break_lock,
            ];
            format!("{} {}", bits.map(bit).join(" "), can.fence.class())
        }
        _ => panic!("unknown request {verb}"),
    })
}

fn list(store: &Store, prefix: &[u8], limit: usize) -> Result<String> {
    let (mut pages, mut names, mut cursor) = (0, Vec::new(), None::<String>);
    while pages == 0 || cursor.is_some() {
        let page = store.list(prefix, cursor.as_deref(), limit)?;
        for lock in page.locks {
            let hex: String = lock.name.iter().map(|byte| format!("{byte:02x}")).collect();
            names.push(hex);
        }
        cursor = page.cursor;
        pages += 1;
    }
    names.sort();
    names.insert(0, pages.to_string());
    Ok(names.join(" "))
}

fn ask_hold(lock: &Lock, verb: &str, words: &[&str]) -> Result<String> {
    match verb {
        "release" => lock.release().map(|_| String::new()),
        "refresh" => {
            let ttl = number(words[0]);
            let ttl = (ttl > 0).then(|| Duration::from_millis(ttl));
            lock.refresh(ttl).map(|()| String::new())
        }
        "check" => lock.ensure_held().map(|()| String::new()),
        "demote" => lock.demote().map(|()| String::new()),
        "promote" => lock.promote(wait(words[0])).map(|()| String::new()),
        "export" => lock.export(),
        "held" => lock.is_acquired().map(bit),
        "state" => Ok(lock.state().name().to_owned()),
        "remaining" => Ok(lock
            .remaining()
            .map_or("-1".to_owned(), |left| left.as_millis().to_string())),
        "fence" => Ok(lock.fencing_token().unwrap_or(0).to_string()),
        _ => panic!("unknown request {verb}"),
    }
}

fn main() {
    let mut command = Command::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a line");
        let words: Vec<&str> = line.split(' ').collect();
        match command.answer(&words) {
            Ok(said) if said.is_empty() => println!("0"),
            Ok(said) => println!("0 {said}"),
            Err(error) => println!("{}", error.code().number()),
        }
        std::io::stdout().flush().expect("a pipe");
    }
}
