//! Waiting in the server's queue: begun, answered, given up.

use super::keys::Key;
use super::session::{Session, number, pooled};
use super::sql::{ELSEWHERE, EVER, NO};
use super::store::Advisory;
use super::table::{Hold, On, Place, Wait};
use crate::lease::BootTime;
use crate::signal::Signal;
use crate::store::db::{Engine, Fault, Value};
use crate::store::{Attempt, Busy, Cancelled, Claim, Grant};
use crate::{Code, Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// What a caller's deadline is longer for an exchange than for its wait.
const GRACE: Duration = Duration::from_millis(40);
/// How often a wait that the server ended is begun again before its caller is told.
const MOST_RESTARTS: u32 = 3;

impl Advisory {
    /// Queues the claim, begins its wait when its turn has come, or takes up what the server has granted.
    pub(super) fn wait_on(&self, claim: &Claim, key: &Key, bell: &Arc<Signal>) -> Result<Attempt> {
        let limit = self.config.database.limit(claim.deadline);
        let most = self.config.most_waits;
        for _ in 0..MOST_RESTARTS {
            let process = self.process()?;
            let place = process.table.lock().queue(key, claim, bell, most);
            match place {
                Place::Held(grant) => return Ok(Attempt::Granted(grant)),
                Place::Queued => return Ok(Attempt::Busy(Busy::default())),
                Place::Begin(idle) => match self.begin(claim, key, idle, limit) {
                    Ok(()) => return Ok(Attempt::Busy(Busy::default())),
                    Err(error) => {
                        self.leave(claim, key)?;
                        // No time was left for it: that the lock is taken is known all the same.
                        if claim.deadline.is_some_and(BootTime::has_passed) {
                            return Ok(Attempt::Busy(Busy::default()));
                        }
                        return Err(error);
                    }
                },
                Place::Answered(wait) => {
                    if let Some(session) = &wait.session {
                        process.ignore(session.fd());
                    }
                    match self.judge(claim, key, wait, limit) {
                        // The server's time for it may end a little before the caller's.
                        Ok(None) => {}
                        Ok(Some(grant)) => return Ok(Attempt::Granted(grant)),
                        Err(error) => {
                            self.leave(claim, key)?;
                            return Err(error);
                        }
                    }
                }
            }
        }
        if claim
            .deadline
            .is_some_and(|deadline| deadline.left() < 2 * GRACE)
        {
            return Ok(Attempt::Busy(Busy::default()));
        }
        self.leave(claim, key)?;
        Err(Error::new(
            Code::Unavailable,
            "the server ends every wait for this lock",
        ))
    }

    /// Leaves the queue, and lets the next wait.
    fn leave(&self, claim: &Claim, key: &Key) -> Result<Option<Wait>> {
        let process = self.process()?;
        let wait = process.table.lock().leave(key, claim.token);
        process.ring_next(&self.config);
        Ok(wait)
    }

    fn begin(
        &self,
        claim: &Claim,
        key: &Key,
        idle: Option<Box<Session>>,
        limit: BootTime,
    ) -> Result<()> {
        let idle = idle.and_then(|mut session| session.is_fit().then_some(session));
        let mut session = match idle {
            Some(session) => session,
            None => Box::new(Session::open(&self.config, limit)?),
        };
        let sql = self.sql(key);
        let mark = session.mark().to_owned();
        let millis = claim.deadline.map_or(EVER, |deadline| {
            let left = deadline.left().saturating_sub(GRACE).as_millis();
            u64::try_from(left).unwrap_or(EVER).clamp(1, EVER)
        });
        let text = sql.wait(claim.mode, millis);
        let millis = millis.to_string();
        session.start(&text, &sql.wait_params(&mark, &millis), limit)?;
        let process = self.process()?;
        let fd = session.fd();
        let mut table = process.table.lock();
        table.waits_over(key, session);
        // Before anybody can take it up: what is listened to without a wait is never ignored again.
        process.listen(fd);
        Ok(())
    }

    /// What the server's answer to a wait comes to: a grant, or nothing and the wait may begin again.
    fn judge(
        &self,
        claim: &Claim,
        key: &Key,
        wait: Wait,
        limit: BootTime,
    ) -> Result<Option<Grant>> {
        let (Some(mut session), Some(outcome)) = (wait.session, wait.outcome) else {
            return Ok(None);
        };
        let fault = match outcome {
            Ok(rows) => match number(&rows) {
                ELSEWHERE => return Err(pooled()),
                token if token > NO => return self.hold(claim, key, session, token).map(Some),
                _ => None,
            },
            // With its session the wait, and the lock if it was granted, is gone.
            Err(fault) if !fault.usable => return Ok(None),
            Err(fault) => Some(fault),
        };
        if fault.as_ref().is_some_and(Fault::is_missing_table) {
            self.create_sequence(&mut session, key, limit)?;
        } else if let Some(grant) = self.truth(claim, key, &mut session, limit)? {
            // A time limit of the server's may come just after the lock.
            return self.hold(claim, key, session, grant).map(Some);
        }
        let keep = |session: Box<Session>| {
            let process = self.process()?;
            process.table.lock().keep(*session, self.config.most_waits);
            Ok(None)
        };
        match fault {
            Some(fault) if fault.is_deadlock() => Err(Error::outcome(Code::Deadlock)),
            Some(fault)
                if !fault.is_cancelled() && !fault.is_retriable() && !fault.is_missing_table() =>
            {
                Err(fault.error)
            }
            _ => keep(session),
        }
    }

    /// Whether the session has the lock after all; its token then.
    fn truth(
        &self,
        claim: &Claim,
        key: &Key,
        session: &mut Session,
        limit: BootTime,
    ) -> Result<Option<i64>> {
        let sql = self.sql(key);
        let mark = session.mark().to_owned();
        let mine = session.number(&sql.is_mine(claim.mode), &sql.params(&mark), limit)?;
        if mine <= NO {
            return Ok(None);
        }
        // Once more, for the token: the lock is counted, and taken back once.
        let again = sql.try_lock(claim.mode, false, claim.fair);
        let token = session.number(&again, &sql.params(&mark), limit)?;
        session.number(&sql.unlock(claim.mode), &sql.params(&mark), limit)?;
        Ok(Some(token))
    }

    /// The lock is the claim's, on the session that waited for it.
    fn hold(&self, claim: &Claim, key: &Key, session: Box<Session>, token: i64) -> Result<Grant> {
        let fence = self.fence(token);
        let end = session.end().clone();
        let hold = Hold::new(claim, fence, On::Own(Some(session)), &end);
        let grant = hold.grant();
        let process = self.process()?;
        {
            let mut table = process.table.lock();
            table.add(key, hold);
            table.leave(key, claim.token);
        }
        process.ring_next(&self.config);
        Ok(grant)
    }

    pub(super) fn give_up(&self, claim: &Claim, key: &Key) -> Result<Cancelled> {
        let process = self.process()?;
        if let Some(hold) = process.table.lock().hold(key, claim.token) {
            return Ok(Cancelled::Granted(hold.grant()));
        }
        let Some(mut wait) = self.leave(claim, key)? else {
            return Ok(Cancelled::Gone);
        };
        let limit = self.config.database.limit(claim.deadline);
        if let Some(session) = &mut wait.session {
            process.ignore(session.fd());
            if wait.outcome.is_none() {
                wait.outcome = session.settle_now();
            }
            if wait.outcome.is_none() {
                self.end_wait(session.id, limit);
                wait.outcome = Some(session.settle(limit));
            }
        }
        // Without an answer in time, the session is closed with all that it has.
        Ok(match self.judge(claim, key, wait, limit) {
            Ok(Some(grant)) => Cancelled::Granted(grant),
            _ => Cancelled::Gone,
        })
    }

    /// Ends a statement of another session of ours.
    fn end_wait(&self, session: i64, limit: BootTime) {
        let _ = self.on_shared(limit, |shared| match self.config.database.engine {
            Engine::Postgres => shared.ask(
                "SELECT pg_cancel_backend($1::int)",
                &[Value::Int(session)],
                limit,
            ),
            Engine::Mysql => shared.ask("KILL QUERY ?", &[Value::Int(session)], limit),
        });
    }
}
