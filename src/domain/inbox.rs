//! A user's inbox: what each room is to one user, and how many of its messages the user has not read.
//!
//! Nothing here is counted while messages are sent. What is unread follows from positions and from the room's own log,
//! each time anew, so it agrees on all devices and cannot drift.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Audience, Event, Position, Record, RecordId, Rejection, RoomEvent, RoomId, Seq, Timestamp, UserId};

/// Unread messages are counted among so many latest records of a room.
pub const REACH: u64 = 2_000;

/// How many records a digest looks back at least: the last message is mostly among them.
pub const DEPTH_MIN: u64 = 16;

/// The longest draft, in bytes.
pub const DRAFT_BYTES_MAX: usize = 8 * 1024;

/// How much of the last message a list of rooms shows, in bytes.
pub const PREVIEW_BYTES_MAX: usize = 256;

/// How far somebody has got in a room: `position.seq` is the last that counts, and `position.epoch` is that of the room's
/// head when it was said. A record of a later epoch has taken the place of one that was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reached(pub Position);

impl Reached {
    /// Before everything.
    pub const NOTHING: Self = Self(Position { epoch: super::Epoch(0), seq: Seq::ZERO });

    /// Whether the record at `position` is among what has been reached.
    pub fn covers(self, position: Position) -> bool {
        position.seq <= self.0.seq && position.epoch <= self.0.epoch
    }

    /// The further one. After a loss whatever is said of the new epoch is.
    fn or_further(self, other: Self) -> Self {
        if (other.0.epoch, other.0.seq) > (self.0.epoch, self.0.seq) { other } else { self }
    }
}

impl Default for Reached {
    fn default() -> Self {
        Self::NOTHING
    }
}

/// What a room is to one user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// What has come to one of the user's devices.
    pub delivered: Reached,
    /// What the user has read. Never further than what was delivered.
    pub read: Reached,
    /// Nobody is to be disturbed by it before; [`FOREVER`] for good.
    pub muted_until: Option<Timestamp>,
    /// Shown before others.
    pub pinned: bool,
    /// Put away by the user.
    pub archived: bool,
    /// What the user has begun to write.
    pub draft: Option<Arc<str>>,
}

/// What a user has decided for all rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Others are not told how far the user has read.
    pub private_reading: bool,
    /// Who is shown how the user can be reached.
    pub contacts: Audience,
    /// Nobody is told whether the user is there, whatever its connections say, nor what gives it away: that it writes, and
    /// how far messages have come to it and it reads.
    pub invisible: bool,
}

/// What of that is to change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SettingsUpdate {
    pub private_reading: Option<bool>,
    pub contacts: Option<Audience>,
    pub invisible: Option<bool>,
}

impl SettingsUpdate {
    /// What is decided with it.
    pub fn of(self, before: Settings) -> Settings {
        Settings {
            private_reading: self.private_reading.unwrap_or(before.private_reading),
            contacts: self.contacts.unwrap_or(before.contacts),
            invisible: self.invisible.unwrap_or(before.invisible),
        }
    }
}

/// The most others that a user blocks.
pub const BLOCKS_MAX: usize = 1_000;

/// Stands for a time that does not come.
pub const FOREVER: Timestamp = Timestamp(i64::MAX);

/// How a user changes an entry; what is `None` stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Update {
    pub delivered_to: Option<Seq>,
    pub read_to: Option<Seq>,
    pub muted_until: Option<Option<Timestamp>>,
    pub pinned: Option<bool>,
    pub archived: Option<bool>,
    pub draft: Option<Option<Arc<str>>>,
}

/// What happened in a user's inbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum InboxEvent {
    /// The entry of `room` has changed; so far the user has got in it.
    EntryUpdated {
        room: RoomId,
        delivered: Reached,
        read: Reached,
    },
    SettingsUpdated(Settings),
    /// What the user says of itself has changed. What it says is in a row and not in the log, where it would stay.
    ProfileUpdated,
    /// The user has blocked another one, or does no longer.
    UserBlocked {
        user: UserId,
        blocked: bool,
    },
    /// The user does not want to see a message any more, or wants to again.
    MessageHidden {
        room: RoomId,
        message: RecordId,
        hidden: bool,
    },
}

impl Entry {
    /// The entry as it is after `update`, in a room that ends at `head`. Positions only grow: what is behind the one
    /// that stands changes nothing.
    pub fn updated(&self, update: Update, head: Position) -> Result<Self, Rejection> {
        let Update { delivered_to, read_to, muted_until, pinned, archived, draft } = update;
        let reached = |seq: Option<Seq>| match seq {
            Some(seq) if seq > head.seq => Err(Rejection::NotThereYet),
            Some(seq) => Ok(Reached(Position { epoch: head.epoch, seq })),
            None => Ok(Reached::NOTHING),
        };
        if draft.as_ref().and_then(Option::as_ref).is_some_and(|draft| draft.len() > DRAFT_BYTES_MAX) {
            return Err(Rejection::ContentSize);
        }
        let read = self.read.or_further(reached(read_to)?);
        Ok(Self {
            delivered: self.delivered.or_further(reached(delivered_to)?).or_further(read),
            read,
            muted_until: muted_until.unwrap_or(self.muted_until),
            pinned: pinned.unwrap_or(self.pinned),
            archived: archived.unwrap_or(self.archived),
            draft: draft.unwrap_or_else(|| self.draft.clone()).filter(|draft| !draft.is_empty()),
        })
    }

    /// Whether the user is not to be disturbed at `now`.
    pub fn is_muted(&self, now: Timestamp) -> bool {
        self.muted_until.is_some_and(|until| until > now)
    }
}

/// What a user has not read of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unread {
    /// Messages of others that are there.
    pub messages: u32,
    /// How many of them mention the user.
    pub mentions: u32,
    /// There may be others before the latest [`REACH`] records, where nobody counts.
    pub more: bool,
}

/// The last message of a room that has not been deleted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Last {
    pub id: RecordId,
    pub at: Timestamp,
    pub author: UserId,
    /// The beginning of what it says, of at most [`PREVIEW_BYTES_MAX`] bytes; `None` where it has no text.
    pub text: Option<Arc<str>>,
}

/// The latest records of a room, as far as it takes to count what somebody has not read.
///
/// Made empty at some place of the log, and given every record after it, in order, without a gap.
#[derive(Clone, Debug)]
pub struct Digest {
    /// How many records it looks back, at most.
    depth: u64,
    /// Every message after this seq is in `messages`.
    from: Seq,
    head: Option<Position>,
    messages: VecDeque<Posted>,
    mention_bytes: u64,
    last: Option<Last>,
    /// The last message has been deleted, and what was before it is not known any more.
    stale: bool,
    /// Up to here nothing is there any more.
    trimmed: Seq,
}

/// One message.
#[derive(Clone, Debug)]
struct Posted {
    position: Position,
    author: UserId,
    mentions: super::Mentions,
}

impl Posted {
    /// Each mention is a text of its own, with two counts before it.
    fn mention_bytes(&self) -> u64 {
        self.mentions.iter().map(|user| (user.as_str().len() + 2 * size_of::<UserId>()) as u64).sum()
    }
}

impl Digest {
    /// Of the records after `from`, to look back `depth` records later on, in a room that has been trimmed up to
    /// `trimmed`.
    pub fn after(from: Seq, depth: u64, trimmed: Seq) -> Self {
        let (from, messages) = (from.max(trimmed), VecDeque::new());
        Self { depth, from, head: None, messages, mention_bytes: 0, last: None, stale: false, trimmed }
    }

    /// Where it begins: it is to be given the records after this one.
    pub fn from(&self) -> Seq {
        self.from
    }

    /// The last record it knows of.
    pub fn head(&self) -> Option<Position> {
        self.head
    }

    /// The last message, if there is one among the latest [`Digest::depth`] records.
    pub fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// How much memory the mentions in it take, about.
    pub fn mention_bytes(&self) -> u64 {
        self.mention_bytes
    }

    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// Whether it can tell what is unread behind `floor`, and which message is the last.
    pub fn suffices(&self, floor: Seq) -> bool {
        let all = self.from <= self.trimmed || self.depth >= REACH;
        let last = self.last.is_some() || all;
        !self.stale && last && (all || self.from <= floor)
    }

    /// Takes note of the record after [`Digest::head`]; of any other it takes none, and returns whether it has.
    pub fn apply(&mut self, record: &Record) -> bool {
        let expected = self.head.map_or(self.from, |head| head.seq).next();
        if record.position.seq != expected {
            return false;
        }
        self.head = Some(record.position);
        if let Event::Room(event) = &record.event {
            self.apply_event(record, event);
        }
        let out = record.position.seq.0.saturating_sub(self.depth);
        self.from = self.from.max(Seq(out));
        while let Some(gone) = self.messages.pop_front_if(|message| message.position.seq <= self.from) {
            self.mention_bytes -= gone.mention_bytes();
        }
        true
    }

    fn apply_event(&mut self, record: &Record, event: &RoomEvent) {
        match event {
            RoomEvent::MessagePosted { content, mentions, .. } => {
                let (position, author) = (record.position, record.author.clone());
                let posted = Posted { position, author: author.clone(), mentions: mentions.clone() };
                self.mention_bytes += posted.mention_bytes();
                self.messages.push_back(posted);
                let text = content.text.as_deref().map(preview);
                self.last = Some(Last { id: record.id, at: record.at, author, text });
                self.stale = false;
            }
            RoomEvent::MessageEdited { message, content, mentions, .. } => {
                if let Some(at) = self.at(message.seq()) {
                    self.mention_bytes -= self.messages[at].mention_bytes();
                    self.messages[at].mentions = mentions.clone();
                    self.mention_bytes += self.messages[at].mention_bytes();
                }
                if let Some(last) = self.last.as_mut().filter(|last| last.id == *message) {
                    last.text = content.text.as_deref().map(preview);
                }
            }
            RoomEvent::MessageDeleted { message, .. } => {
                let gone = self.at(message.seq()).and_then(|at| self.messages.remove(at));
                self.mention_bytes -= gone.as_ref().map_or(0, Posted::mention_bytes);
                if self.last.as_ref().is_some_and(|last| last.id == *message) {
                    self.last = None;
                    self.stale = self.from > self.trimmed || !self.messages.is_empty();
                }
            }
            RoomEvent::HistoryTrimmed { until } => self.trim(until.seq),
            RoomEvent::RoomCreated { .. }
            | RoomEvent::RoomUpdated(_)
            | RoomEvent::RoomArchived
            | RoomEvent::DocumentCreated { .. }
            | RoomEvent::DocumentUpdated { .. }
            | RoomEvent::DocumentDeleted { .. }
            | RoomEvent::MemberJoined { .. }
            | RoomEvent::MemberInvited { .. }
            | RoomEvent::MemberLeft { .. }
            | RoomEvent::MemberKicked { .. }
            | RoomEvent::RoleChanged { .. }
            | RoomEvent::RightsChanged { .. }
            | RoomEvent::RulesChanged(_)
            | RoomEvent::MemberBanned { .. }
            | RoomEvent::MemberUnbanned { .. }
            | RoomEvent::MemberMuted { .. }
            | RoomEvent::MemberUnmuted { .. }
            | RoomEvent::MemberBlocked { .. }
            | RoomEvent::MemberUnblocked { .. }
            | RoomEvent::ReactionAdded { .. }
            | RoomEvent::ReactionRemoved { .. }
            | RoomEvent::MessagePinned { .. }
            | RoomEvent::MessageUnpinned { .. }
            | RoomEvent::MessageErased
            | RoomEvent::Audited(_)
            | RoomEvent::Administered(_)
            | RoomEvent::Reported(_)
            | RoomEvent::ReportResolved { .. } => {}
        }
    }

    fn trim(&mut self, until: Seq) {
        self.trimmed = self.trimmed.max(until);
        while let Some(gone) = self.messages.pop_front_if(|message| message.position.seq <= until) {
            self.mention_bytes -= gone.mention_bytes();
        }
        if self.last.as_ref().is_some_and(|last| last.id.seq() <= until) {
            self.last = None;
        }
    }

    fn at(&self, seq: Seq) -> Option<usize> {
        self.messages.binary_search_by_key(&seq, |message| message.position.seq).ok()
    }

    /// Behind which seq a digest has to know all messages, to say what somebody has not read who has read up to `read` and
    /// came into the room at `joined`.
    pub fn floor(head: Position, read: Reached, joined: Seq) -> Seq {
        // After a loss there are new ones below what was read.
        if read.0.epoch >= head.epoch { read.0.seq.max(joined) } else { joined }
    }

    /// What `user`, who has read up to `read` and came into the room at `joined`, has not read. Only right where
    /// [`Digest::suffices`] for the later of the two.
    pub fn unread(&self, user: &UserId, read: Reached, joined: Seq) -> Unread {
        let Some(head) = self.head else { return Unread::default() };
        let begin = head.seq.0.saturating_sub(REACH);
        let floor = Self::floor(head, read, joined);
        let from = self.messages.partition_point(|message| message.position.seq <= floor.max(Seq(begin)));
        let unread = self.messages.range(from..).filter(|message| {
            message.author != *user && message.position.seq > joined && !read.covers(message.position)
        });
        let mut found = Unread { messages: 0, mentions: 0, more: floor.max(self.trimmed).0 < begin };
        for message in unread {
            found.messages += 1;
            found.mentions += u32::from(message.mentions.contains(user));
        }
        found
    }
}

/// How deep a digest that does not suffice for `floor` is to be made instead of one of `depth`, in a room that ends at
/// `head`: at least twice as deep, so that it is not made again for each record more.
pub fn depth_for(depth: u64, head: Seq, floor: Seq) -> u64 {
    (2 * depth).max(head.0.saturating_sub(floor.0)).clamp(DEPTH_MIN, REACH)
}

/// The beginning of a text, up to the end of a character.
fn preview(text: &str) -> Arc<str> {
    text[..text.floor_char_boundary(PREVIEW_BYTES_MAX)].into()
}

#[cfg(test)]
mod tests;
