//! The store contract, verb by verb.

use super::alarms::End;
use super::config::{Config, Dialect};
use super::keys::Key;
use super::process::{Owed, Process};
use super::session::{Session, number, pooled};
use super::sql::{ELSEWHERE, EVER, NO, Sql};
use super::table::{Hold, On};
use crate::capability::{Capabilities, Fence, Scope};
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::db::{Engine, Fault};
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Inspection, Life, Page};
use crate::url::Url;
use crate::{Code, Error, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Advisory {
    pub config: Config,
    process: PerProcess<Process>,
}

/// Opens a `postgres+advisory:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
#[cfg(feature = "postgres")]
pub fn open_postgres(url: &mut Url) -> Result<Arc<dyn Backend>> {
    open(url, Engine::Postgres)
}

/// Opens a `mysql+advisory:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
#[cfg(feature = "mysql")]
pub fn open_mysql(url: &mut Url) -> Result<Arc<dyn Backend>> {
    open(url, Engine::Mysql)
}

fn open(url: &mut Url, engine: Engine) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Advisory {
        config: Config::read(url, engine)?,
        process: PerProcess::new(),
    }))
}

/// What a verb found of the session of a hold.
enum Found<T> {
    Done(T),
    /// The session, and the hold with it, is gone.
    Lost,
}

impl Advisory {
    pub(super) fn process(&self) -> Result<&Process> {
        self.process.get_or_try_init(Process::new)
    }

    pub(super) fn key(&self, name: &Name) -> Result<Key> {
        Key::of(&self.config, name.as_bytes())
    }

    pub(super) fn sql<'a>(&'a self, key: &'a Key) -> Sql<'a> {
        Sql::of(&self.config, key)
    }

    /// The fencing token in an answer.
    pub(super) fn fence(&self, answer: i64) -> Option<u64> {
        self.config.sequence.as_ref()?;
        u64::try_from(answer).ok().filter(|token| *token > 0)
    }

    /// Works over the shared session.
    pub(super) fn on_shared<T>(
        &self,
        limit: BootTime,
        work: impl FnOnce(&mut Session) -> std::result::Result<T, Fault>,
    ) -> Result<T> {
        let mut turn = self.process()?.turn(limit)?;
        let done = work(turn.session(&self.config, limit)?);
        if let Err(fault) = &done {
            if fault.late {
                turn.owed = Some(Owed::Nothing);
            } else if !fault.usable {
                turn.lose();
            }
        }
        Ok(done?)
    }

    /// Works over the session of a hold; `owed` is what a late answer of the shared one will be about.
    fn on_hold<T>(
        &self,
        claim: &Claim,
        key: &Key,
        owed: Owed,
        work: impl FnOnce(&mut Session) -> std::result::Result<T, Fault>,
    ) -> Result<Found<T>> {
        let limit = self.config.database.limit(claim.deadline);
        let process = self.process()?;
        if let Some(mut session) = process.take_own(key, claim.token, limit)? {
            if session.owes() {
                match session.settle(limit) {
                    Err(fault) if fault.late => {
                        self.put_back(key, claim, session);
                        return Err(fault.error);
                    }
                    // A change of its mode, if that is what it was about.
                    answer => {
                        let answer = answer.map_or(NO, |rows| number(&rows));
                        let mut table = process.table.lock();
                        table.end_change(key, claim.token, answer);
                    }
                }
            }
            let done = session.is_fit().then(|| work(&mut session));
            return match done {
                Some(Ok(done)) => {
                    self.put_back(key, claim, session);
                    Ok(Found::Done(done))
                }
                Some(Err(fault)) if fault.usable || fault.late => {
                    self.put_back(key, claim, session);
                    Err(fault.error)
                }
                Some(Err(_)) | None => {
                    process.table.lock().remove(key, claim.token);
                    process.tell_returned();
                    Ok(Found::Lost)
                }
            };
        }
        let mut turn = process.turn(limit)?;
        // A late answer may bring the hold, or take it.
        let is_held = |process: &Process| process.table.lock().hold(key, claim.token).is_some();
        if turn.owed.is_none() && !is_held(process) {
            return Ok(Found::Lost);
        }
        let session = turn.session(&self.config, limit)?;
        if !is_held(process) {
            return Ok(Found::Lost);
        }
        match work(session) {
            Ok(done) => Ok(Found::Done(done)),
            Err(fault) if fault.late => {
                turn.owed = Some(owed);
                Err(fault.error)
            }
            Err(fault) if fault.usable => Err(fault.error),
            Err(_) => {
                turn.lose();
                Ok(Found::Lost)
            }
        }
    }

    /// The end of the session that a hold lives on.
    fn end_of(&self, token: OwnerToken) -> Option<Arc<End>> {
        let table = self.process.get()?.table.lock();
        let mut holds = table.holds();
        let hold = holds.find(|(_, hold)| hold.token == token);
        hold.map(|(_, hold)| hold.end.clone())
    }

    fn put_back(&self, key: &Key, claim: &Claim, session: Box<Session>) {
        let Ok(process) = self.process() else { return };
        if let Some(hold) = process.table.lock().hold_mut(key, claim.token) {
            hold.on = On::Own(Some(session));
        }
        process.tell_returned();
    }

    fn attempt_now(&self, claim: &Claim, key: &Key) -> Result<Attempt> {
        let limit = self.config.database.limit(claim.deadline);
        let process = self.process()?;
        let busy = Ok(Attempt::Busy(Busy::default()));
        {
            // Most of what is held here is known without the server.
            let table = process.table.lock();
            if let Some(hold) = table.hold(key, claim.token) {
                return Ok(Attempt::Granted(hold.grant()));
            }
            if table.is_in_the_way(key, claim) {
                return busy;
            }
        }
        let mut turn = process.turn(limit)?;
        let mut session = turn.session(&self.config, limit)?;
        let beside = {
            let table = process.table.lock();
            if let Some(hold) = table.hold(key, claim.token) {
                return Ok(Attempt::Granted(hold.grant()));
            }
            if table.is_in_the_way(key, claim) {
                return busy;
            }
            claim.mode == Mode::Shared && table.shares(key)
        };
        let sql = self.sql(key);
        let text = sql.try_lock(claim.mode, beside, claim.fair);
        let mut tries = 0;
        loop {
            tries += 1;
            let mark = session.mark().to_owned();
            let fault = match session.number(&text, &sql.params(&mark), limit) {
                Ok(NO) => {
                    process.table.lock().refused = Some(claim.token);
                    return busy;
                }
                Ok(ELSEWHERE) => {
                    turn.lose();
                    return Err(pooled());
                }
                Ok(token) if token > NO => {
                    let hold = Hold::new(claim, self.fence(token), On::Shared, session.end());
                    let grant = hold.grant();
                    process.table.lock().add(key, hold);
                    return Ok(Attempt::Granted(grant));
                }
                Ok(_) => {
                    return Err(Error::new(
                        Code::Unavailable,
                        "the server could not say whether the lock is free",
                    ));
                }
                Err(fault) => fault,
            };
            if fault.late {
                let hold = Hold::new(claim, self.fence(1), On::Shared, session.end());
                turn.owed = Some(Owed::Try {
                    key: key.clone(),
                    hold,
                    beside,
                });
                return Err(fault.error);
            }
            if !fault.usable {
                // What the session was granted it has lost.
                turn.lose();
                return Err(Error::new(Code::Unavailable, fault.error.message()));
            }
            if fault.is_of_another_session() {
                turn.lose();
                return Err(pooled());
            }
            // The lock may have been taken before the token failed.
            if !beside {
                session.number(&sql.unlock(claim.mode), &sql.params(&mark), limit)?;
            }
            if !fault.is_missing_table() || tries > 1 {
                return Err(fault.error);
            }
            self.create_sequence(session, key, limit)?;
            session = turn.session(&self.config, limit)?;
        }
    }

    /// Makes the sequence of fencing tokens; two may do so at once.
    pub(super) fn create_sequence(
        &self,
        session: &mut Session,
        key: &Key,
        limit: BootTime,
    ) -> Result<()> {
        let Some(text) = self.sql(key).create() else {
            return Ok(());
        };
        match session.ask(&text, &[], limit) {
            Ok(_) => Ok(()),
            Err(fault) if matches!(fault.state.as_str(), "23505" | "42P07" | "XX000") => Ok(()),
            Err(fault) if fault.error.code() == Code::Permission => Err(Error::new(
                Code::Permission,
                format!(
                    "fencing needs a sequence that this user may not make: `{text}`, or say `fencing=0`"
                ),
            )),
            Err(fault) => Err(fault.error),
        }
    }

    fn let_go(&self, claim: &Claim, key: &Key) -> Result<Answer> {
        let limit = self.config.database.limit(claim.deadline);
        let process = self.process()?;
        let sql = self.sql(key);
        let owed = Owed::Unlock(key.clone(), claim.token);
        let found = self.on_hold(claim, key, owed, |session| {
            let mark = session.mark().to_owned();
            let text = sql.unlock(process.mode_of(key, claim));
            session.number(&text, &sql.params(&mark), limit)
        })?;
        let answer = match found {
            Found::Lost => {
                process.ring_next(&self.config);
                return Ok(Answer::NotOurs);
            }
            Found::Done(answer) => answer,
        };
        let hold = process.table.lock().remove(key, claim.token);
        if let Some(On::Own(Some(session))) = hold.map(|hold| hold.on)
            && answer > NO
        {
            process.table.lock().keep(*session, self.config.most_waits);
        }
        process.ring_next(&self.config);
        Ok(if answer > NO {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        })
    }

    fn change(&self, claim: &Claim, key: &Key, to: Mode) -> Result<Attempt> {
        let limit = self.config.database.limit(claim.deadline);
        let process = self.process()?;
        let sql = self.sql(key);
        let millis = limit.left().as_millis().clamp(1, EVER.into()).to_string();
        let owed = Owed::Change(key.clone(), claim.token);
        let found = self.on_hold(claim, key, owed, |session| {
            let begun = process.table.lock().begin_change(key, claim.token, to);
            let Some(from) = begun else {
                return Ok(NO);
            };
            let mark = session.mark().to_owned();
            let text = sql.change(from, to);
            let answer = session.number(&text, &sql.wait_params(&mark, &millis), limit);
            if !answer.as_ref().is_err_and(|fault| fault.late) {
                let answer = answer.as_ref().map_or(NO, |answer| *answer);
                process.table.lock().end_change(key, claim.token, answer);
            }
            answer
        })?;
        let table = process.table.lock();
        let (Found::Done(answer), Some(hold)) = (found, table.hold(key, claim.token)) else {
            return Err(Error::outcome(Code::Lost));
        };
        Ok(match answer {
            ELSEWHERE => return Err(pooled()),
            _ if hold.mode == to => Attempt::Granted(hold.grant()),
            _ => Attempt::Busy(Busy::default()),
        })
    }

    fn check_mode(&self, mode: Mode) -> Result<()> {
        match mode {
            Mode::Exclusive => Ok(()),
            Mode::Shared if self.config.database.engine == Engine::Postgres => Ok(()),
            _ => Err(Error::unsupported("this store has no locks of this mode")),
        }
    }
}

impl Backend for Advisory {
    fn capabilities(&self) -> Capabilities {
        let is_postgres = self.config.database.engine == Engine::Postgres;
        Capabilities {
            store: match (is_postgres, self.config.dialect) {
                (true, Dialect::Native) => "postgres+advisory",
                (true, Dialect::Symfony) => "postgres+advisory-symfony",
                (true, Dialect::DistributedLock) => "postgres+advisory-distributedlock",
                (false, Dialect::Native) => "mysql+advisory",
                (false, Dialect::Symfony) => "mysql+advisory-symfony",
                (false, Dialect::DistributedLock) => "mysql+advisory-distributedlock",
            },
            shared: is_postgres,
            promote: is_postgres,
            permits: false,
            ttl: false,
            frees_on_death: true,
            fence: if self.config.sequence.is_some() {
                Fence::Durable
            } else {
                Fence::None
            },
            wakes: true,
            fair: true,
            export: false,
            list: true,
            break_lock: false,
            survives_restart: false,
            clock: "none",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.config.database.url
    }

    fn fingerprint(&self) -> String {
        // However it is reached, the same database and names on a server of the same name.
        let (place, store) = (self.config.database.place(), self.capabilities().store);
        format!("{store}:{place}/{}", self.config.prefix)
    }

    /// A statement draws one from the sequence, which names share.
    fn reserves_fences(&self) -> bool {
        false
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        let limit = self.config.database.limit(deadline);
        self.on_shared(limit, |session| session.ask("SELECT 1", &[], limit))
            .map(drop)
    }

    /// Of the session's server: one that has come up since is none that granted anything over it.
    fn life(&self, deadline: Option<BootTime>) -> Result<Option<Life>> {
        let limit = self.config.database.limit(deadline);
        let engine = self.config.database.engine;
        self.on_shared(limit, |session| session.life(engine, limit))
            .map(Some)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.check_mode(claim.mode)?;
        let key = self.key(&claim.name)?;
        let Some(bell) = bell else {
            return self.attempt_now(claim, &key);
        };
        // Most locks are free, and need no session to wait over.
        let is_new = {
            let table = self.process()?.table.lock();
            !table.knows(&key, claim.token) && table.refused != Some(claim.token)
        };
        if is_new && let Attempt::Granted(grant) = self.attempt_now(claim, &key)? {
            return Ok(Attempt::Granted(grant));
        }
        self.wait_on(claim, &key, bell)
    }

    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        self.wait_on(claim, &self.key(&claim.name)?, bell)
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        self.give_up(claim, &self.key(&claim.name)?)
    }

    fn take_caution(&self) -> Option<String> {
        self.config.database.cautions.take()
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        self.process()?.park(bell, until)
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.process.get().map(Process::ear)
    }

    fn pump(&self) {
        if let Some(process) = self.process.get() {
            process.pump();
        }
    }

    fn extend(&self, _claim: &Claim, _ttl: Duration) -> Result<Answer> {
        Err(Error::unsupported(
            "this store has no leases: a lock is held until released or until its session ends",
        ))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let key = self.key(&claim.name)?;
        // Its place in the queue, if that is all there is.
        if let Cancelled::Gone = self.give_up(claim, &key)? {
            let process = self.process()?;
            // Another thread may take in a late grant of it until the session is ours.
            let is_over = process
                .turn(self.config.database.limit(claim.deadline))
                .is_ok_and(|turn| {
                    turn.owed.is_none() && process.table.lock().hold(&key, claim.token).is_none()
                });
            if is_over {
                return Ok(Answer::NotOurs);
            }
        }
        self.let_go(claim, &key)
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        self.check_mode(to)?;
        self.change(claim, &self.key(&claim.name)?, to)
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let key = self.key(&claim.name)?;
        let limit = self.config.database.limit(claim.deadline);
        let sql = self.sql(&key);
        let process = self.process()?;
        if cfg!(canary = "silent_reconnect") {
            return Ok(true);
        }
        let found = self.on_hold(claim, &key, Owed::Nothing, |session| {
            let mark = session.mark().to_owned();
            let text = sql.is_mine(process.mode_of(&key, claim));
            session.number(&text, &sql.params(&mark), limit)
        })?;
        let held = matches!(found, Found::Done(count) if count > NO);
        if !held {
            process.table.lock().remove(&key, claim.token);
        }
        Ok(held)
    }

    fn has_lost(&self, token: OwnerToken) -> bool {
        self.end_of(token).is_none_or(|end| end.has_come())
    }

    fn alarm(&self, claim: &Claim, bell: &Arc<Signal>) {
        if cfg!(canary = "deaf") {
            return;
        }
        match (self.process.get(), self.end_of(claim.token)) {
            (Some(process), Some(end)) => end.tell(&process.alarms, bell),
            _ => bell.ring(),
        }
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.watch(name, until)
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        self.look(name, deadline)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.page(prefix, cursor, limit, deadline)
    }
}
