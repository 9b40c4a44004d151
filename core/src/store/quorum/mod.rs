//! `quorum:`: one lock on several stores. Whoever holds it on a majority of them (or on all) has it.
//!
//! Members are asked side by side. After a split everybody gives back what it got and goes to the first
//! member first, always in the same order, so that somebody wins; there it also waits. A quorum adds no
//! truth of its own: it is as reliable as its members' memory. One that has just come up may have
//! forgotten, so it does not vote until every lease that it could have granted before is over.
//!
//! Knows the members by the store contract alone.

mod brand;
mod config;
mod count;
mod holders;
mod line;
mod losses;
mod members;
mod pool;
mod round;
mod rules;
mod tally;
#[cfg(test)]
mod tests;
mod verbs;
mod votes;

pub use config::open;
