//! What a slot looks like to people.

use super::layout::{LABEL_BYTES, entry};
use super::member::Member;
use super::protocol::{Protocol, Table};
use super::view::View;
use super::words::{Life, ModeWord};
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::{Holder, Inspection, this_host};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

pub(super) fn show(member: &Member, slot: u16, name: Vec<u8>) -> Inspection {
    let view = View::any(member);
    let protocol = Protocol(&view);
    let holders = protocol.holders(slot).into_iter();
    Inspection {
        name,
        holders: holders.map(|record| holder(member, record)).collect(),
        waiters: Some(protocol.waiters(slot)),
    }
}

/// The first digits of the owner's token; of a hold whose token nobody has asked for, those of its
/// fencing token.
fn owner_of(member: &Member, record: u16) -> String {
    let token = token_of(member, record);
    if token == OwnerToken::NONE {
        let at = member.segment.geometry.info(record) + entry::FENCE;
        let fence = member.segment.word(at).load(Relaxed);
        return format!("{:08x}", fence as u32);
    }
    token.shown()
}

pub(super) fn token_of(member: &Member, record: u16) -> OwnerToken {
    let segment = &member.segment;
    let bytes = segment.read_bytes(segment.geometry.info(record) + entry::TOKEN, 16);
    let mut token = [0; 16];
    token.copy_from_slice(&bytes);
    OwnerToken::from_bytes(token)
}

fn holder(member: &Member, record: u16) -> Holder {
    let segment = &member.segment;
    let at = segment.geometry.info(record);
    let now = BootTime::now();
    let view = View::any(member);
    let mode = ModeWord(view.mode(record).load(Acquire));
    let life = Life(view.life(record).load(Acquire));
    let since = BootTime::from_nanos(segment.word(at + entry::SINCE).load(Relaxed));
    let length = segment.word(at + entry::LABEL_LENGTH).load(Relaxed) as usize;
    let label = segment.read_bytes(at + entry::LABEL, length.min(LABEL_BYTES));
    let label = String::from_utf8_lossy(&label).into_owned();
    Holder {
        owner: owner_of(member, record),
        mode: match mode.as_permits() {
            Some(_) => "permits",
            None if mode == ModeWord::SHARED => "shared",
            None => "exclusive",
        },
        permits: mode.as_permits().map_or(1, |(take, _)| take),
        host: this_host(),
        pid: member.pid_of(record),
        label: (!label.is_empty()).then_some(label),
        remaining: life
            .until()
            .map(|until| BootTime::from_nanos(until).since(now)),
        held: Some(now.since(since)),
        fence: Some(segment.word(at + entry::FENCE).load(Relaxed)),
        brand: token_of(member, record).brand(),
    }
}
