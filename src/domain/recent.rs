//! The publications of late by their authors' own ids, so that sending one again leads to the same record.

use std::collections::{BTreeMap, VecDeque};

use super::{ClientId, Command, Content, Event, Num, Position, Record, RecordId, RoomEvent, Seq, Timestamp, UserId};

/// How many publications a room remembers. `docs/protocols/native.md` promises it.
pub const COUNT_MAX: usize = 10_000;

/// For how long a room remembers a publication, in milliseconds: a day. `docs/protocols/native.md` promises it.
pub const AGE_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// What an author is told of what was published.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub position: Position,
    pub id: RecordId,
    pub num: Num,
    pub at: Timestamp,
}

impl Receipt {
    pub fn of(record: &Record) -> Self {
        Self { position: record.position, id: record.id, num: record.num, at: record.at }
    }
}

/// A room's index of recent publications: the last [`COUNT_MAX`], none older than [`AGE_MAX_MS`]. Rebuilt from the
/// tail of the log when the room wakes.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    by_key: BTreeMap<(UserId, ClientId), Entry>,
    by_age: VecDeque<(Timestamp, UserId, ClientId)>,
}

#[derive(Clone, Debug)]
struct Entry {
    receipt: Receipt,
    said: Said,
}

/// What was published, as far as it takes to tell whether a repetition says the same.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Posted(u64),
    Edited(RecordId, u64),
    Deleted(RecordId),
    /// Its content is gone; whatever is repeated counts as the same.
    Erased,
}

/// What is known of a client id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Never,
    /// The same was published before, with this result.
    Before(Receipt),
    /// The client id was used for something else.
    Otherwise,
}

impl Recent {
    /// Looks up what `author` published as `client_id`, and compares it with what `command` asks for now.
    pub fn seen(&self, author: &UserId, client_id: &ClientId, command: &Command, now: Timestamp) -> Seen {
        let Some(entry) = self.by_key.get(&(author.clone(), client_id.clone())) else { return Seen::Never };
        if entry.receipt.at.0 + AGE_MAX_MS < now.0 {
            return Seen::Never;
        }
        if entry.said == Said::Erased || asked(command).is_some_and(|asked| asked == entry.said) {
            Seen::Before(entry.receipt)
        } else {
            Seen::Otherwise
        }
    }

    /// Takes note of a record.
    pub fn apply(&mut self, record: &Record) {
        let (Some(client_id), Event::Room(event)) = (&record.client_id, &record.event) else { return };
        let Some(said) = said(event) else { return };
        let key = (record.author.clone(), client_id.clone());
        self.by_age.push_back((record.at, key.0.clone(), key.1.clone()));
        self.by_key.insert(key, Entry { receipt: Receipt::of(record), said });
        while self.by_age.len() > COUNT_MAX
            || self.by_age.front().is_some_and(|(at, ..)| at.0 + AGE_MAX_MS < record.at.0)
        {
            let Some((at, author, client_id)) = self.by_age.pop_front() else { break };
            let key = (author, client_id);
            // The id may have been used again since; then the younger entry stays.
            if self.by_key.get(&key).is_some_and(|entry| entry.receipt.at == at) {
                self.by_key.remove(&key);
            }
        }
    }

    /// The first record that the tail has to be read from to rebuild the index of a room whose head is `head`.
    pub fn tail_from(head: Seq) -> Seq {
        Seq(head.0.saturating_sub(COUNT_MAX as u64))
    }
}

fn asked(command: &Command) -> Option<Said> {
    match command {
        Command::Post { content } => Some(Said::Posted(digest(content))),
        Command::Edit { message, content } => Some(Said::Edited(*message, digest(content))),
        Command::Delete { message } => Some(Said::Deleted(*message)),
        Command::Create(_)
        | Command::Update { .. }
        | Command::Archive
        | Command::Join
        | Command::Leave
        | Command::Invite { .. }
        | Command::Kick { .. }
        | Command::ChangeRole { .. } => None,
    }
}

fn said(event: &RoomEvent) -> Option<Said> {
    match event {
        RoomEvent::MessagePosted { content } => Some(Said::Posted(digest(content))),
        RoomEvent::MessageEdited { message, content, .. } => Some(Said::Edited(*message, digest(content))),
        RoomEvent::MessageDeleted { message, .. } => Some(Said::Deleted(*message)),
        RoomEvent::MessageErased => Some(Said::Erased),
        RoomEvent::RoomCreated { .. }
        | RoomEvent::RoomUpdated { .. }
        | RoomEvent::RoomArchived
        | RoomEvent::MemberJoined { .. }
        | RoomEvent::MemberInvited { .. }
        | RoomEvent::MemberLeft { .. }
        | RoomEvent::MemberKicked { .. }
        | RoomEvent::RoleChanged { .. } => None,
    }
}

/// FNV-1a, 64 bits: tells an honest client's mistake, not an attacker's: authors only ever meet their own ids.
fn digest(content: &Content) -> u64 {
    let text = content.text.as_deref().unwrap_or_default();
    let body = content.body.as_deref().unwrap_or_default();
    let separated = text.bytes().chain([0xff]).chain(body.bytes());
    separated.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
