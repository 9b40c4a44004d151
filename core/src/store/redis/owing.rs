//! Replies that one connection owes, before those to what is asked on it next.

use super::connection::Connection;
use super::left::Left;
use super::owed::{Debt, Owed};
use super::pipe::released;
use crate::Result;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use redis::Value;
use std::collections::VecDeque;
use std::sync::Arc;

/// What is owed by one connection at most: all of it fits into the buffers of a server that has stopped reading.
const MOST: usize = 16;

/// A reply that comes before any other.
#[derive(Debug)]
pub(super) enum Due {
    /// To a release.
    Release(Debt),
    /// That nobody waits for.
    Left(Left),
}

impl Due {
    fn limit(&self) -> BootTime {
        match self {
            Due::Release(debt) => debt.limit,
            Due::Left(left) => left.limit,
        }
    }
}

/// What one connection owes, in order. If it goes, releases are to be sent again.
#[derive(Debug, Default)]
pub(super) struct Owing {
    book: Option<Arc<Owed>>,
    dues: VecDeque<Due>,
}

impl Owing {
    pub fn is_empty(&self) -> bool {
        self.dues.is_empty()
    }

    /// Whether the reply to a release is among it.
    pub fn has_release(&self) -> bool {
        let mut dues = self.dues.iter();
        dues.any(|due| matches!(due, Due::Release(_)))
    }

    pub fn owes(&self, name: &Name) -> bool {
        let mut dues = self.dues.iter();
        dues.any(|due| matches!(due, Due::Release(debt) if debt.name == *name))
    }

    /// Whether something is late.
    pub fn is_late(&self) -> bool {
        let mut dues = self.dues.iter();
        dues.any(|due| matches!(due, Due::Left(_)))
    }

    /// Whether something is late that was asked for this token.
    pub fn has_left(&self, token: OwnerToken) -> bool {
        let mut dues = self.dues.iter();
        dues.any(|due| matches!(due, Due::Left(left) if left.token == token))
    }

    pub fn has_room(&self) -> bool {
        self.dues.len() < MOST
    }

    /// Until when the next reply must have come, if one is owed.
    pub fn limit(&self) -> Option<BootTime> {
        self.dues.front().map(Due::limit)
    }

    /// The next reply has come.
    pub fn settle(&mut self, value: &Value) -> Result<()> {
        let mut debt = match self.dues.pop_front() {
            Some(Due::Release(debt)) => debt,
            Some(Due::Left(left)) => {
                left.has_come();
                return Ok(());
            }
            None => return Ok(()),
        };
        let Some(book) = &self.book else {
            return Ok(());
        };
        match released(value) {
            // Nothing was done: the script is not known any more, or the server serves nobody now.
            _ if matches!(value, Value::ServerError(_)) => {
                book.learn(false);
                book.lose(debt);
            }
            Ok(answer) => book.settle(debt, Ok(answer)),
            Err(error) => {
                debt.in_doubt = true;
                book.lose(debt);
                return Err(error);
            }
        }
        Ok(())
    }

    pub fn add(&mut self, due: Due) {
        self.dues.push_back(due);
    }

    pub fn add_release(&mut self, book: &Arc<Owed>, debt: Debt) {
        self.book.get_or_insert_with(|| book.clone());
        self.add(Due::Release(debt));
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        // Those that are late put an end to the connection first.
        for due in std::mem::take(&mut self.dues) {
            if let (Due::Release(mut debt), Some(book)) = (due, &self.book)
                && !cfg!(canary = "drop_debts")
            {
                debt.in_doubt = true;
                book.lose(debt);
            }
        }
    }
}

impl Connection {
    /// Reads what is owed.
    pub fn pay(&mut self, deadline: BootTime) -> Result<()> {
        while let Some(limit) = self.owing.limit() {
            let value = self.reply(deadline.min(limit))?;
            self.owing.settle(&value)?;
        }
        Ok(())
    }

    /// Whether it is open, owes nothing that is late, and nothing has arrived that nobody asked for.
    pub fn is_sound(&mut self) -> bool {
        if self.is_outlived() {
            return false;
        }
        while let Some(limit) = self.owing.limit() {
            match self.reply_now() {
                Ok(Some(value)) if self.owing.settle(&value).is_ok() => {}
                Ok(None) => return !limit.has_passed(),
                Ok(Some(_)) | Err(_) => return false,
            }
        }
        self.is_quiet()
    }
}
