//! The store contract, verb by verb.

use super::config::Config;
use super::connection::{Broken, Connection, check, pack, protocol};
use super::keys::{self, Keys};
use super::scripts::{self, Script};
use super::subscription::{Stray, Subscription, is_forbidden};
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Holder, Inspection, Page,
};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Error, Result};
use redis::Value;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// Number of the layout of records; others with the same first fields are read as well.
const LAYOUT: &str = if cfg!(feature = "next-layout") {
    "2"
} else {
    "1"
};
/// How long a place in the queue lives without a refresh: three safety polls.
const QUEUE_LIFE: Duration = Duration::from_secs(15);
/// Idle connections kept per process.
const MOST_IDLE: usize = 16;
/// Between attempts to connect to a server that refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How often a store without rights to subscribe is asked.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug)]
struct Redis {
    config: Config,
    process: PerProcess<Process>,
}

/// What each process makes for itself.
#[derive(Debug)]
struct Process {
    idle: Mutex<Vec<Connection>>,
    subscription: Subscription,
    /// `host pid`, as others see it.
    who: String,
}

/// Opens a `redis:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`, `NotInBuild`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Redis {
        config: Config::read(url)?,
        process: PerProcess::new(),
    }))
}

/// A call that failed: whether the server may have carried it out decides the code.
fn settle(broken: Broken) -> Error {
    if broken.sent && broken.error.code() == Code::Unavailable {
        Error::new(
            Code::Uncertain,
            format!(
                "{}; the request may have been carried out",
                broken.error.message()
            ),
        )
    } else {
        broken.error
    }
}

impl Redis {
    fn process(&self) -> Result<&Process> {
        self.process.get_or_try_init(|| {
            let host = nix::unistd::gethostname()
                .ok()
                .and_then(|host| host.into_string().ok())
                .unwrap_or_default();
            let who = format!("{} {}", host.replace(' ', "_"), std::process::id());
            Ok(Process {
                idle: Mutex::default(),
                subscription: Subscription::new()?,
                who,
            })
        })
    }

    /// Until when an exchange may take.
    fn limit(&self, deadline: Option<BootTime>) -> BootTime {
        let own = BootTime::now().after(self.config.io_timeout);
        deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// Sends a request over a kept or a new connection. A lost reply is asked for again, on a new
    /// connection, after the old one was ended on the server; so the request must be idempotent.
    /// Tells whether it was sent more than once.
    fn exchange(&self, request: &[u8], limit: BootTime) -> Result<(Value, bool)> {
        let process = self.process()?;
        let mut sent_before = false;
        let mut old: Option<i64> = None;
        loop {
            let kept = process.idle.lock().pop();
            let opened = match kept {
                None => Connection::open(&self.config, limit),
                Some(mut connection) => {
                    if !connection.is_quiet() {
                        // The server has closed it, by a restart for instance: nothing is lost yet.
                        continue;
                    }
                    Ok(connection)
                }
            };
            let mut broken = match opened {
                Err(error) => Broken { error, sent: false },
                Ok(mut connection) => {
                    match self.send_on(&mut connection, old.take(), request, limit) {
                        Ok(value) => {
                            let mut idle = process.idle.lock();
                            if idle.len() < MOST_IDLE {
                                idle.push(connection);
                            }
                            return Ok((value, sent_before));
                        }
                        Err(broken) => {
                            old = connection.id;
                            // The others were made before whatever broke this one.
                            process.idle.lock().clear();
                            broken
                        }
                    }
                }
            };
            sent_before |= broken.sent;
            broken.sent = sent_before;
            let again = broken.error.code() == Code::Unavailable
                && BootTime::now().after(RETRY_PAUSE) < limit;
            if !again {
                return Err(settle(broken));
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    fn send_on(
        &self,
        connection: &mut Connection,
        old: Option<i64>,
        request: &[u8],
        limit: BootTime,
    ) -> std::result::Result<Value, Broken> {
        let Some(old) = old else {
            return connection.exchange(request, limit);
        };
        // A request that is still on its way on the old connection must not act after this one.
        let mut both = pack(&[b"CLIENT", b"KILL", b"ID", old.to_string().as_bytes()]);
        both.extend_from_slice(request);
        connection.exchange(&both, limit)?;
        connection
            .reply(limit)
            .map_err(|error| Broken { error, sent: true })
    }

    fn run(
        &self,
        script: &Script,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<Value> {
        self.run_told(script, name, args, deadline)
            .map(|(value, _)| value)
    }

    /// As `run`; also tells whether the request was sent more than once.
    fn run_told(
        &self,
        script: &Script,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<(Value, bool)> {
        let limit = self.limit(deadline);
        let keys = Keys::of(&self.config.prefix, name);
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", script.sha.as_bytes(), b"4"];
        words.extend(keys.0.iter().map(Vec::as_slice));
        words.extend([LAYOUT.as_bytes(), name.as_bytes()]);
        words.extend(args);
        let (value, told) = self.exchange(&pack(&words), limit)?;
        if !matches!(&value, Value::ServerError(error) if error.code() == "NOSCRIPT")
            || cfg!(canary = "no_eval")
        {
            return Ok((check(value)?, told));
        }
        words[0] = b"EVAL";
        words[1] = script.text.as_bytes();
        let (value, again) = self.exchange(&pack(&words), limit)?;
        Ok((check(value)?, told || again))
    }

    fn one(&self, request: &[u8], limit: BootTime) -> Result<Value> {
        self.exchange(request, limit).map(|(value, _)| value)
    }

    fn ttl(claim: &Claim) -> String {
        millis(claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE))
    }

    fn who(&self, label: Option<&str>) -> Result<String> {
        Ok(format!(
            "{} {}",
            self.process()?.who,
            label.unwrap_or_default()
        ))
    }

    /// The lease of a grant that answers a request sent at `before`.
    fn lease(claim: &Claim, before: BootTime) -> Option<BootTime> {
        Some(before.after(claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)))
    }

    fn ask(&self, claim: &Claim, channel: &str) -> Result<Attempt> {
        let before = BootTime::now();
        let (mode, take, of) = mode_words(claim.mode);
        let token = claim.token.to_hex();
        let (ttl, block) = (Self::ttl(claim), claim.fence_block.max(1).to_string());
        let who = self.who(claim.label.as_deref())?;
        let args = [
            token.as_str(),
            &ttl,
            mode,
            &take,
            &of,
            &block,
            &who,
            if claim.fair { "1" } else { "0" },
            channel,
            &millis(QUEUE_LIFE),
        ];
        let reply = self.run(
            &scripts::ACQUIRE,
            &claim.name,
            &args.map(str::as_bytes),
            claim.deadline,
        )?;
        let Value::Array(parts) = reply else {
            return Err(protocol("an odd answer to an acquire"));
        };
        match (
            parts.first().and_then(number),
            parts.get(1).and_then(number),
        ) {
            (Some(1), Some(fence)) => Ok(Attempt::Granted(Grant {
                lease: Self::lease(claim, before),
                fence: u64::try_from(fence).ok(),
                recovered: false,
            })),
            (Some(0), Some(left)) => {
                // A little later, so that the server has surely ended it.
                let until = u64::try_from(left)
                    .ok()
                    .map(|ms| BootTime::now().after(Duration::from_millis(ms + 1)));
                Ok(Attempt::Busy(Busy { until, poll: None }))
            }
            (Some(-1), Some(of)) => Err(Error::invalid(format!(
                "others use this name with {of} permits"
            ))),
            _ => Err(protocol("an odd answer to an acquire")),
        }
    }

    /// A wake-up for nobody: the lock was handed to a waiter that has left.
    fn return_strays(&self, strays: Vec<Stray>) {
        for stray in strays {
            if let Ok(name) = Name::new(&stray.name) {
                let token = stray.token.to_hex();
                // If this is lost, the offer lapses after a second.
                let soon = BootTime::now().after(Duration::from_millis(200));
                let _ = self.run(&scripts::RELEASE, &name, &[token.as_bytes()], Some(soon));
            }
        }
    }

    /// The name of the lock at `key`; a long one stands beside its holders.
    fn full_name(&self, key: &[u8], shown: &[u8], limit: BootTime) -> Result<Name> {
        if keys::may_be_long(shown) {
            let value = check(self.one(&pack(&[b"HGET", key, b"name"]), limit)?)?;
            if let Value::BulkString(name) = value {
                return Name::new(&name);
            }
        }
        Name::new(shown)
    }

    fn fence_or_lost(&self, reply: &Value) -> Result<Option<u64>> {
        match reply {
            Value::Nil => Ok(None),
            value => number(value)
                .and_then(|fence| u64::try_from(fence).ok())
                .map(Some)
                .ok_or_else(|| protocol("an odd fencing token")),
        }
    }

    fn read_inspection(&self, name: &[u8], reply: Value) -> Result<Inspection> {
        let odd = || protocol("an odd answer to an inspection");
        let Value::Array(parts) = reply else {
            return Err(odd());
        };
        let now = parts.first().and_then(number).ok_or_else(odd)?;
        let waiters = parts
            .get(1)
            .and_then(number)
            .and_then(|count| u32::try_from(count).ok());
        let mut holders = Vec::new();
        for pair in parts.get(2..).unwrap_or_default().chunks_exact(2) {
            let (Some(token), Some(record)) = (text(&pair[0]), text(&pair[1])) else {
                return Err(odd());
            };
            holders.push(read_holder(&token, &record, now).ok_or_else(odd)?);
        }
        Ok(Inspection {
            name: name.to_vec(),
            holders,
            waiters,
        })
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

fn mode_words(mode: Mode) -> (&'static str, String, String) {
    match mode {
        Mode::Exclusive => ("x", "1".into(), "1".into()),
        Mode::Shared => ("s", "1".into(), "1".into()),
        Mode::Permits { take, of } => ("p", take.to_string(), of.to_string()),
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        value => text(value)?.parse().ok(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// layout|mode|take|of|fence|since|until|offered|host pid label
fn read_holder(token: &str, record: &str, now: i64) -> Option<Holder> {
    let fields: Vec<&str> = record.splitn(9, '|').collect();
    let &[_, mode, take, _, fence, since, until, _, who] = fields.as_slice() else {
        return None;
    };
    let mut who = who.splitn(3, ' ');
    let (host, pid, label) = (who.next()?, who.next()?, who.next().unwrap_or_default());
    let span = |from: i64, to: i64| Duration::from_millis(u64::try_from(to - from).unwrap_or(0));
    Some(Holder {
        owner: token.get(..8)?.to_owned(),
        mode: match mode {
            "s" => "shared",
            "p" => "permits",
            _ => "exclusive",
        },
        permits: take.parse().ok()?,
        host: Some(host.to_owned()),
        pid: pid.parse().ok(),
        label: Some(label.to_owned()).filter(|label| !label.is_empty()),
        remaining: Some(span(now, until.parse().ok()?)),
        held: Some(span(since.parse().ok()?, now)),
        fence: fence.parse().ok(),
    })
}

impl Backend for Redis {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: "redis",
            shared: true,
            promote: true,
            permits: true,
            ttl: true,
            frees_on_death: false,
            fence: Fence::Hybrid,
            wakes: true,
            fair: true,
            export: true,
            list: true,
            break_lock: true,
            survives_restart: false,
            clock: "server",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.config.url
    }

    fn fingerprint(&self) -> String {
        // However it is reached, the same database and prefix on a server of the same name.
        let server = match &self.config.address {
            super::config::Address::Tcp { host, port } => format!("{host}:{port}"),
            super::config::Address::Unix(path) => path.clone(),
        };
        format!(
            "redis:{server}/{}/{}",
            self.config.database, self.config.prefix
        )
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        check(self.one(&pack(&[b"PING"]), self.limit(deadline))?).map(drop)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let Some(bell) = bell else {
            return self.ask(claim, "");
        };
        let subscription = &self.process()?.subscription;
        if !subscription.stands() {
            // Nothing may be queued before the server has acknowledged the subscription.
            let answer = self.ask(claim, "")?;
            if matches!(answer, Attempt::Granted(_)) {
                return Ok(answer);
            }
            match subscription.ensure(&self.config, self.limit(claim.deadline)) {
                Ok(()) => {}
                Err(error) if is_forbidden(&error) => {
                    let Attempt::Busy(busy) = answer else {
                        return Ok(answer);
                    };
                    return Ok(Attempt::Busy(Busy {
                        poll: Some(BootTime::now().after(POLL)),
                        ..busy
                    }));
                }
                // No time was left for it: that the lock is taken is known all the same.
                Err(_) if claim.deadline.is_some_and(BootTime::has_passed) => return Ok(answer),
                Err(error) => return Err(error),
            }
        }
        subscription.register(claim.token, bell);
        let answer = self.ask(claim, &subscription.channel);
        if !matches!(answer, Ok(Attempt::Busy(_))) {
            subscription.unregister(claim.token);
        }
        answer
    }

    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        let before = BootTime::now();
        let (token, ttl) = (claim.token.to_hex(), Self::ttl(claim));
        let reply = self.run(
            &scripts::EXTEND,
            &claim.name,
            &[token.as_bytes(), ttl.as_bytes()],
            claim.deadline,
        )?;
        match self.fence_or_lost(&reply)? {
            Some(fence) => {
                self.process()?.subscription.unregister(claim.token);
                Ok(Attempt::Granted(Grant {
                    lease: Self::lease(claim, before),
                    fence: Some(fence),
                    recovered: false,
                }))
            }
            None => self.attempt(claim, Some(bell)),
        }
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        self.process()?.subscription.unregister(claim.token);
        let before = BootTime::now();
        let (token, ttl) = (claim.token.to_hex(), Self::ttl(claim));
        let reply = self.run(
            &scripts::CANCEL,
            &claim.name,
            &[token.as_bytes(), ttl.as_bytes()],
            claim.deadline,
        )?;
        Ok(match self.fence_or_lost(&reply)? {
            Some(fence) => Cancelled::Granted(Grant {
                lease: Self::lease(claim, before),
                fence: Some(fence),
                recovered: false,
            }),
            None => Cancelled::Gone,
        })
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let (wake, strays) = self.process()?.subscription.park(bell, until)?;
        self.return_strays(strays);
        Ok(wake)
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.process.get()?.subscription.fd()
    }

    fn pump(&self) {
        if let Some(process) = self.process.get() {
            let strays = process.subscription.pump();
            self.return_strays(strays);
        }
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let before = BootTime::now();
        let token = claim.token.to_hex();
        let reply = self.run(
            &scripts::EXTEND,
            &claim.name,
            &[token.as_bytes(), millis(ttl).as_bytes()],
            claim.deadline,
        )?;
        Ok(match self.fence_or_lost(&reply)? {
            Some(_) => Answer::Done(Some(before.after(ttl))),
            None => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let token = claim.token.to_hex();
        let (reply, resent) = self.run_told(
            &scripts::RELEASE,
            &claim.name,
            &[token.as_bytes()],
            claim.deadline,
        )?;
        match number(&reply) {
            // The request whose reply was lost may have released it, or it was lost before.
            Some(0) if resent && !cfg!(canary = "no_resent") => Err(Error::new(
                Code::Uncertain,
                "it is not held any more, but a reply was lost: whether this release ended it is unknown",
            )),
            Some(0) => Ok(Answer::NotOurs),
            Some(_) => Ok(Answer::Done(None)),
            None => Err(protocol("an odd answer to a release")),
        }
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let before = BootTime::now();
        let token = claim.token.to_hex();
        let block = claim.fence_block.max(1).to_string();
        let args = [
            token.as_bytes(),
            mode_words(to).0.as_bytes(),
            block.as_bytes(),
        ];
        let reply = self.run(&scripts::CHANGE_MODE, &claim.name, &args, claim.deadline)?;
        let Value::Array(parts) = reply else {
            return Err(protocol("an odd answer to a change of mode"));
        };
        match (
            parts.first().and_then(number),
            parts.get(1).and_then(number),
            parts.get(2).and_then(number),
        ) {
            (Some(1), Some(fence), Some(left)) => Ok(Attempt::Granted(Grant {
                lease: Some(before.after(Duration::from_millis(u64::try_from(left).unwrap_or(0)))),
                fence: u64::try_from(fence).ok(),
                recovered: false,
            })),
            (Some(0), ..) => Ok(Attempt::Busy(Busy::default())),
            (Some(-1), ..) => Err(Error::outcome(Code::Lost)),
            _ => Err(protocol("an odd answer to a change of mode")),
        }
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let owner = claim.token.to_hex();
        let reply = self.run(&scripts::INSPECT, &claim.name, &[], claim.deadline)?;
        let Value::Array(parts) = reply else {
            return Err(protocol("an odd answer to an inspection"));
        };
        let tokens = parts.get(2..).unwrap_or_default().iter().step_by(2);
        Ok(tokens.filter_map(text).any(|token| token == owner))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let mut pause = Duration::from_millis(10);
        loop {
            if self.inspect(name, None)?.holders.is_empty() {
                return Ok(true);
            }
            if until.has_passed() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(until.left()));
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let reply = self.run(&scripts::INSPECT, name, &[], deadline)?;
        self.read_inspection(name.as_bytes(), reply)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        let mut cursor = cursor.unwrap_or("0").to_owned();
        if cursor.is_empty() || !cursor.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Error::invalid("this is no cursor of ours"));
        }
        let pattern = [
            keys::glob(self.config.prefix.as_bytes()),
            b"{b[0-9][0-9][0-9][0-9]}:".to_vec(),
            keys::glob(prefix.get(..keys::SHOWN).unwrap_or(prefix)),
            b"*".to_vec(),
        ]
        .concat();
        let limit_at = self.limit(deadline);
        let mut page = Page::default();
        loop {
            let request = pack(&[
                b"SCAN",
                cursor.as_bytes(),
                b"MATCH",
                &pattern,
                b"COUNT",
                b"1000",
            ]);
            let Value::Array(parts) = check(self.one(&request, limit_at)?)? else {
                return Err(protocol("an odd answer to SCAN"));
            };
            let [next, Value::Array(found)] = parts.as_slice() else {
                return Err(protocol("an odd answer to SCAN"));
            };
            cursor = text(next).ok_or_else(|| protocol("an odd cursor"))?;
            for key in found {
                let Value::BulkString(key) = key else {
                    continue;
                };
                if let Some(shown) = keys::name_in_key(&self.config.prefix, key) {
                    let name = self.full_name(key, shown, limit_at)?;
                    let lock = self.inspect(&name, Some(limit_at))?;
                    if !lock.holders.is_empty() && lock.name.starts_with(prefix) {
                        page.locks.push(lock);
                    }
                }
            }
            if cursor == "0" {
                return Ok(page);
            }
            if page.locks.len() >= limit
                || BootTime::now().after(self.config.io_timeout / 2) > limit_at
            {
                page.cursor = Some(cursor);
                return Ok(page);
            }
        }
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let reply = self.run(&scripts::BREAK, name, &[], deadline)?;
        number(&reply)
            .map(|count| count > 0)
            .ok_or_else(|| protocol("an odd answer to a break"))
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let before = BootTime::now();
        let (token, heir, ttl) = (claim.token.to_hex(), heir.to_hex(), Self::ttl(claim));
        let who = self.who(claim.label.as_deref())?;
        let args = [token.as_str(), &heir, &ttl, &who];
        let reply = self.run(
            &scripts::ADOPT,
            &claim.name,
            &args.map(str::as_bytes),
            claim.deadline,
        )?;
        Ok(self.fence_or_lost(&reply)?.map(|fence| Grant {
            lease: Self::lease(claim, before),
            fence: Some(fence),
            recovered: false,
        }))
    }
}
