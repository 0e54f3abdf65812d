//! Committed records on their way to followers, framed once per dialect and shared by all of them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::domain::policy::History;
use crate::domain::{Event, Position, Record, RoomEvent, Seq, UserId};
use crate::wire::{Dialect, Label};

/// Consecutive records of one room that were committed together.
pub struct Batch {
    first: Seq,
    last: Position,
    frames: [Option<Frames>; Dialect::COUNT],
    removals: Vec<Removal>,
    /// Members read from their joins on, from here on.
    narrows: bool,
}

/// The frames of consecutive records in one dialect, end to end.
pub struct Frames {
    first: Seq,
    bytes: Bytes,
    /// Where each record's frame ends.
    ends: Box<[usize]>,
}

/// Somebody's membership ended with the record at `seq`.
pub struct Removal {
    pub user: UserId,
    pub seq: Seq,
    pub kicked: bool,
    /// Held as long as something of the room may still reach the user; the command is answered when all are gone.
    pub pending: Pending,
}

/// Proof that a removal is not finished: cloned into every connection that it has to reach, and dropped by each.
pub type Pending = mpsc::Sender<std::convert::Infallible>;

impl Batch {
    /// Frames `records`, which are consecutive and at least one, in each of `dialects`. `pending` is held by every
    /// removal among them; there is one where there are any.
    pub fn new(room: Label<'_>, records: &[Record], dialects: DialectSet, pending: Option<&Pending>) -> Arc<Self> {
        let (first, last) = match records {
            [first, .., last] => (first, last),
            [only] => (only, only),
            [] => unreachable!("a batch has records"),
        };
        let frames = Dialect::ALL
            .map(|dialect| dialects.has(dialect).then(|| Frames::new(dialect, room, first.position.seq, records)));
        let removals = pending
            .map_or_else(Vec::new, |pending| records.iter().filter_map(|record| removal(record, pending)).collect());
        let narrows = records.iter().any(narrows);
        Arc::new(Self { first: first.position.seq, last: last.position, frames, removals, narrows })
    }

    pub fn narrows(&self) -> bool {
        self.narrows
    }

    pub fn first(&self) -> Seq {
        self.first
    }

    pub fn last(&self) -> Position {
        self.last
    }

    pub fn removals(&self) -> &[Removal] {
        &self.removals
    }

    /// The frames of the records after `after` up to and including `until`; `None` where the dialect was not framed.
    pub fn frames(&self, dialect: Dialect, after: Seq, until: Seq) -> Option<Bytes> {
        Some(self.frames[dialect.index()].as_ref()?.between(after, until))
    }

    /// How many records come after `after` up to and including `until`.
    pub fn count(after: Seq, until: Seq) -> u64 {
        until.0.saturating_sub(after.0)
    }
}

impl Frames {
    /// Frames `records`, of which the first, if there is any, is at `first`.
    pub fn new(dialect: Dialect, room: Label<'_>, first: Seq, records: &[Record]) -> Self {
        let mut bytes = BytesMut::with_capacity(records.iter().map(|record| dialect.record_bytes(record)).sum());
        let ends = records
            .iter()
            .map(|record| {
                dialect.put_record(&mut bytes, room, record);
                bytes.len()
            })
            .collect();
        Self { first, bytes: bytes.freeze(), ends }
    }

    /// The frames of the records after `after` up to and including `until`.
    pub fn between(&self, after: Seq, until: Seq) -> Bytes {
        let end_of = |seq: Seq| match seq.0.checked_sub(self.first.0) {
            None => 0,
            Some(index) => usize::try_from(index).ok().and_then(|index| self.ends.get(index)).copied().unwrap_or(0),
        };
        self.bytes.slice(end_of(after)..end_of(until))
    }

    /// How much memory they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }
}

fn narrows(record: &Record) -> bool {
    matches!(&record.event, Event::Room(RoomEvent::RoomUpdated(settings)) if settings.history == History::FromJoin)
}

fn removal(record: &Record, pending: &Pending) -> Option<Removal> {
    let (user, kicked) = removal_of(record)?;
    Some(Removal { user: user.clone(), seq: record.position.seq, kicked, pending: pending.clone() })
}

/// Whose membership a record ends, and whether somebody else ended it.
pub fn removal_of(record: &Record) -> Option<(&UserId, bool)> {
    let Event::Room(event) = &record.event else { return None };
    match event {
        RoomEvent::MemberLeft { user, .. } => Some((user, false)),
        RoomEvent::MemberKicked { user, .. } | RoomEvent::MemberBanned { user, joined: Some(_), .. } => {
            Some((user, true))
        }
        RoomEvent::RoomCreated { .. }
        | RoomEvent::RoomUpdated(_)
        | RoomEvent::RoomArchived
        | RoomEvent::DocumentCreated { .. }
        | RoomEvent::DocumentUpdated { .. }
        | RoomEvent::DocumentDeleted { .. }
        | RoomEvent::MemberJoined { .. }
        | RoomEvent::MemberInvited { .. }
        | RoomEvent::RoleChanged { .. }
        | RoomEvent::RightsChanged { .. }
        | RoomEvent::RulesChanged(_)
        | RoomEvent::MemberBanned { joined: None, .. }
        | RoomEvent::MemberUnbanned { .. }
        | RoomEvent::MemberMuted { .. }
        | RoomEvent::MemberUnmuted { .. }
        | RoomEvent::MemberBlocked { .. }
        | RoomEvent::MemberUnblocked { .. }
        | RoomEvent::MessagePosted { .. }
        | RoomEvent::MessageEdited { .. }
        | RoomEvent::MessageDeleted { .. }
        | RoomEvent::ReactionAdded { .. }
        | RoomEvent::ReactionRemoved { .. }
        | RoomEvent::MessagePinned { .. }
        | RoomEvent::MessageUnpinned { .. }
        | RoomEvent::HistoryTrimmed { .. }
        | RoomEvent::MessageErased
        | RoomEvent::Audited(_)
        | RoomEvent::Administered(_)
        | RoomEvent::Reported(_)
        | RoomEvent::ReportResolved { .. } => None,
    }
}

/// Some of the dialects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DialectSet(u32);

impl DialectSet {
    pub fn insert(&mut self, dialect: Dialect) {
        self.0 |= 1 << dialect.index();
    }

    pub fn has(self, dialect: Dialect) -> bool {
        self.0 & (1 << dialect.index()) != 0
    }

    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
