//! Committed records on their way to followers, framed once per dialect and shared by all of them.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::domain::document::{Audience, Reader};
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
    audiences: Audiences,
}

/// Who is told of each of consecutive records; `None` where that is everybody who follows.
pub type Audiences = Option<Arc<[Audience]>>;

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
        let audiences = audiences(records);
        let framed = |dialect| Frames::new(dialect, room, first.position.seq, records, audiences.clone());
        let frames = Dialect::ALL.map(|dialect| dialects.has(dialect).then(|| framed(dialect)));
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

    /// The frames of the records after `after` up to and including `until` that `reader` is told of, and how many these
    /// are; `None` where the dialect was not framed.
    pub fn frames(&self, dialect: Dialect, after: Seq, until: Seq, reader: Option<&Reader>) -> Option<(Bytes, u64)> {
        Some(self.frames[dialect.index()].as_ref()?.between(after, until, reader))
    }

    /// How many records come after `after` up to and including `until`.
    pub fn count(after: Seq, until: Seq) -> u64 {
        until.0.saturating_sub(after.0)
    }
}

impl Frames {
    /// Frames `records`, of which the first, if there is any, is at `first`.
    pub fn new(dialect: Dialect, room: Label<'_>, first: Seq, records: &[Record], audiences: Audiences) -> Self {
        let mut bytes = BytesMut::with_capacity(records.iter().map(|record| dialect.record_bytes(record)).sum());
        let ends = records
            .iter()
            .map(|record| {
                dialect.put_record(&mut bytes, room, record);
                bytes.len()
            })
            .collect();
        Self { first, bytes: bytes.freeze(), ends, audiences }
    }

    /// The frames of the records after `after` up to and including `until` that `reader` is told of, and how many these
    /// are. Who is no reader of documents is told of none.
    pub fn between(&self, after: Seq, until: Seq, reader: Option<&Reader>) -> (Bytes, u64) {
        let Some(audiences) = &self.audiences else {
            return (self.slice(after, until), Batch::count(after, until));
        };
        let is_told = |seq: &Seq| {
            let audience = self.index(*seq).and_then(|index| audiences.get(index));
            audience.zip(reader).is_some_and(|(audience, reader)| audience.includes(reader))
        };
        let told: Vec<Seq> = (after.0..until.0).map(|seq| Seq(seq).next()).filter(is_told).collect();
        let run = |run: &[Seq]| match run {
            [first, .., last] => self.slice(Seq(first.0 - 1), *last),
            [only] => self.slice(Seq(only.0 - 1), *only),
            [] => Bytes::new(),
        };
        let mut runs = told.chunk_by(|one, next| one.next() == *next);
        let first = runs.next().map(run).unwrap_or_default();
        let mut rest = runs.peekable();
        if rest.peek().is_none() {
            return (first, told.len() as u64);
        }
        let mut frames = BytesMut::from(&first[..]);
        rest.for_each(|next| frames.extend_from_slice(&run(next)));
        (frames.freeze(), told.len() as u64)
    }

    fn slice(&self, after: Seq, until: Seq) -> Bytes {
        let end_of = |seq: Seq| self.index(seq).and_then(|index| self.ends.get(index)).copied().unwrap_or(0);
        self.bytes.slice(end_of(after)..end_of(until))
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        seq.0.checked_sub(self.first.0).and_then(|index| usize::try_from(index).ok())
    }

    /// How much memory they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.ends)
    }
}

/// Who is told of each of `records`.
pub fn audiences(records: &[Record]) -> Audiences {
    let audience = |record: &Record| match &record.event {
        Event::Room(event) => Audience::of(event),
        Event::Directory(_) | Event::Inbox(_) => Audience::Everybody,
    };
    let limited = |record: &Record| matches!(&record.event, Event::Room(event) if event.whose().is_some());
    records.iter().any(limited).then(|| records.iter().map(audience).collect())
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

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::document::{CollectionName, Fields, Whose};
    use crate::domain::{AccountId, Content, Epoch, Num, RecordId, RoomId, RoomKey, TenantId, Timestamp};

    #[test]
    fn a_reader_is_handed_the_frames_of_what_it_is_told_of_whole_and_in_order() {
        // Who owns what, so that each run of frames of each reader is of another length.
        let owners = ["ann", "bob", "ann", "ann", "eve", "bob", "bob"];
        let records: Vec<_> = (3..).zip(owners).map(|(seq, owner)| created(seq, owner, "tasks_700_")).collect();
        let alone = |index: usize| {
            Frames::new(JSON, Label::plain(&room()), records[index].position.seq, &records[index..=index], None)
        };
        let frames = Frames::new(JSON, Label::plain(&room()), Seq(3), &records, audiences(&records));
        let root = Reader::Root { user: user("root"), account: account("host") };
        let readers = owners.map(reader).into_iter().chain([reader("joe"), root.clone()]);
        for reader in readers {
            for (after, until) in (2..=9).flat_map(|after| (after..=9).map(move |until| (after, until))) {
                let is_told = |index: &usize| {
                    let at = *index as u64 + 3;
                    (after < at && at <= until) && (reader == root || reader == self::reader(owners[*index]))
                };
                let told: Vec<usize> = (0..owners.len()).filter(is_told).collect();
                let expected: Vec<u8> = told.iter().flat_map(|index| alone(*index).bytes).collect();
                let (found, count) = frames.between(Seq(after), Seq(until), Some(&reader));
                assert_eq!((&found[..], count), (&expected[..], told.len() as u64), "{reader:?} {after}..={until}");
            }
        }
        assert_eq!(frames.between(Seq(2), Seq(9), None), (Bytes::new(), 0));
    }

    #[test]
    fn where_everybody_is_told_of_everything_nothing_is_kept_of_that() {
        let posted = Record { event: Event::Room(RoomEvent::posted(Content::text("hi"))), ..created(3, "ann", "a") };
        assert_eq!(audiences(std::slice::from_ref(&posted)), None);
        let frames = Frames::new(JSON, Label::plain(&room()), Seq(3), &[posted], None);
        assert_eq!(frames.between(Seq(2), Seq(3), None), (frames.bytes.clone(), 1));
    }

    const JSON: Dialect = Dialect::NativeJson;

    fn created(seq: u64, owner: &str, collection: &str) -> Record {
        let collection = CollectionName::new(collection).unwrap();
        let whose = Box::new(Whose { collection, owner: user(owner), account: account("acme") });
        Record {
            position: Position { epoch: Epoch(1), seq: Seq(seq) },
            id: RecordId(Uuid::from_u128(seq.into())),
            num: Num(seq),
            at: Timestamp(0),
            author: user(owner),
            client_id: None,
            event: Event::Room(RoomEvent::DocumentCreated { whose, fields: Arc::new(Fields::default()) }),
        }
    }

    fn reader(name: &str) -> Reader {
        Reader::User { user: user(name), account: account("acme") }
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn account(name: &str) -> AccountId {
        AccountId::new(name).unwrap()
    }

    fn room() -> RoomKey {
        RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) }
    }
}
