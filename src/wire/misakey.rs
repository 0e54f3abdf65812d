//! The events of Misakey's boxes, as their clients read them: objects of always the same six members.
//!
//! A box is a room, and what is said in it is for its members to read: the server sees a text that it does not understand
//! beside the key that goes with it. Who opens a socket only listens, and asks by requests.
//! `docs/protocols/misakey.md` is the page for those who run its clients.

pub mod requests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, Serializer};

use super::close::CloseReason;
use super::frame::{self, Opcode};
use crate::domain::boxes::Restriction;
use crate::domain::policy::Role;
use crate::domain::{Content, Event, Record, RecordId, RoomEvent, Timestamp, UserId};

/// The members of an object besides what they hold take about this much.
const OBJECT_BYTES: usize = 512;

/// The text of a message, and the key that it was encrypted for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sealed {
    pub encrypted: String,
    pub public_key: String,
}

/// What an event holds.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
enum Holds {
    Created { public_key: String, title: String },
    State { state: &'static str },
    Text(Text),
    File(File),
    Edit { new_encrypted: String, new_public_key: String },
    Kicked { kicker: Sender },
    Access { restriction_type: &'static str, value: Arc<str> },
    Deleted { deleted: Deletion },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Text {
    encrypted: String,
    public_key: String,
    last_edited_at: Option<Time>,
    deleted: Option<Deletion>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct File {
    encrypted: String,
    public_key: String,
    encrypted_file_id: String,
}

/// Who took a message back, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Deletion {
    at_time: Time,
    by_identity: Sender,
}

/// Somebody, as the others see him: by the id that his token gives him. A frame says of a record what the record says,
/// live or years later; and how somebody is reached is not everybody's to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sender(pub UserId);

impl Serialize for Sender {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct View<'a> {
            display_name: &'a str,
            avatar_url: Option<&'a str>,
            identifier: Identifier<'a>,
        }
        #[derive(Serialize)]
        struct Identifier<'a> {
            value: &'a str,
            kind: &'a str,
        }
        let value = self.0.as_str();
        View { display_name: value, avatar_url: None, identifier: Identifier { value, kind: "email" } }
            .serialize(serializer)
    }
}

/// A moment, written as RFC 3339 has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time(pub Timestamp);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        let (days, ms) = (self.0.0.div_euclid(DAY_MS), self.0.0.rem_euclid(DAY_MS));
        let (year, month, day) = civil(days);
        let (seconds, ms) = (ms / 1000, ms % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The day that is `days` after the first of 1970, in the Gregorian calendar, whose 400 years are one as long as another.
/// They are counted from a first of March, so that a leap day is the last of its year.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let since_march = days + 719_468;
    let (era, of_era) = (since_march.div_euclid(ERA), since_march.rem_euclid(ERA));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

/// An event as clients see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct EventView {
    #[serde(serialize_with = "displayed")]
    pub id: RecordId,
    #[serde(rename = "type")]
    kind: &'static str,
    content: Option<Holds>,
    server_event_created_at: Time,
    #[serde(serialize_with = "displayed_if_any")]
    referrer_id: Option<RecordId>,
    sender: Sender,
}

fn displayed<S: Serializer>(id: &RecordId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn displayed_if_any<S: Serializer>(id: &Option<RecordId>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

impl EventView {
    /// What is pushed of a record: nothing, where the dialect has no word for it or does not push it.
    pub fn pushed(record: &Record) -> Option<Self> {
        let Event::Room(event) = &record.event else { return None };
        let is = |kind, content, referrer_id| Some(Self::of(record, kind, content, referrer_id));
        match event {
            RoomEvent::MessagePosted { content, attachments, .. } => {
                let Sealed { encrypted, public_key } = sealed(content);
                match attachments.first() {
                    Some(file) => {
                        let encrypted_file_id = file.id.to_string();
                        is("msg.file", Some(Holds::File(File { encrypted, public_key, encrypted_file_id })), None)
                    }
                    None => {
                        let text = Text { encrypted, public_key, last_edited_at: None, deleted: None };
                        is("msg.text", Some(Holds::Text(text)), None)
                    }
                }
            }
            RoomEvent::MessageEdited { message, content, .. } => {
                let Sealed { encrypted, public_key } = sealed(content);
                let edit = Holds::Edit { new_encrypted: encrypted, new_public_key: public_key };
                is("msg.edit", Some(edit), Some(*message))
            }
            RoomEvent::MessageDeleted { message, .. } => is("msg.delete", None, Some(*message)),
            // Who has made a box is in it from the beginning.
            RoomEvent::MemberJoined { role: Role::Owner, .. } => None,
            RoomEvent::MemberJoined { user, .. } => is("member.join", None, None).map(|view| view.by(user)),
            RoomEvent::MemberLeft { user, joined } => is("member.leave", None, Some(*joined)).map(|view| view.by(user)),
            RoomEvent::MemberKicked { user, joined, .. }
            | RoomEvent::MemberBanned { user, joined: Some(joined), .. } => {
                let kicked = Holds::Kicked { kicker: Sender(record.author.clone()) };
                is("member.kick", Some(kicked), Some(*joined)).map(|view| view.by(user))
            }
            RoomEvent::RoomArchived => is("state.lifecycle", Some(Holds::State { state: "closed" }), None),
            RoomEvent::RoomCreated { .. }
            | RoomEvent::RoomUpdated(_)
            | RoomEvent::DocumentCreated { .. }
            | RoomEvent::DocumentUpdated { .. }
            | RoomEvent::DocumentDeleted { .. }
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

    /// The first event of a box, which is only read.
    pub fn created(record: &Record, public_key: &str, title: &str) -> Self {
        let (public_key, title) = (public_key.to_owned(), title.to_owned());
        Self::of(record, "create", Some(Holds::Created { public_key, title }), None)
    }

    /// The event by which some were let in: it is in no log.
    pub fn access_added(id: RecordId, restriction: Restriction, value: Arc<str>, by: &UserId, at: Timestamp) -> Self {
        let content = Some(Holds::Access { restriction_type: restriction.as_str(), value });
        let (server_event_created_at, sender) = (Time(at), Sender(by.clone()));
        Self { id, kind: "access.add", content, server_event_created_at, referrer_id: None, sender }
    }

    /// The event by which those who were let in by `added` are so no longer.
    pub fn access_removed(id: RecordId, added: RecordId, by: &UserId, at: Timestamp) -> Self {
        let (server_event_created_at, sender) = (Time(at), Sender(by.clone()));
        Self { id, kind: "access.rm", content: None, server_event_created_at, referrer_id: Some(added), sender }
    }

    fn of(record: &Record, kind: &'static str, content: Option<Holds>, referrer_id: Option<RecordId>) -> Self {
        let (server_event_created_at, sender) = (Time(record.at), Sender(record.author.clone()));
        Self { id: record.id, kind, content, server_event_created_at, referrer_id, sender }
    }

    /// The same by whom it is about.
    fn by(self, user: &UserId) -> Self {
        Self { sender: Sender(user.clone()), ..self }
    }
}

/// What a message says, in the one shape that there is. What was posted by a client that does not encrypt is not secret,
/// and stands there readable: its text, else all of it, in base64, beside no key.
fn sealed(content: &Content) -> Sealed {
    let body = content.body.as_deref();
    if let Some(sealed) = body.and_then(|body| serde_json::from_str(body).ok()) {
        return sealed;
    }
    let plain = content.text.as_deref().or(body).unwrap_or_default();
    Sealed { encrypted: BASE64_STANDARD.encode(plain), public_key: String::new() }
}

impl Sealed {
    /// As a message of a room.
    pub fn content(&self) -> Content {
        let body = serde_json::to_string(self).expect("an object of texts can be written to memory");
        Content { text: None, body: Some(body.into()) }
    }
}

/// What there is of a box, from the newest event to the oldest: edits and deletions stand in the messages that they are of.
#[derive(Default)]
pub struct Listing {
    edited: BTreeMap<RecordId, (Timestamp, Sealed)>,
    deleted: BTreeMap<RecordId, Deletion>,
}

impl Listing {
    /// The event that a record is; the records before it, which are later, have all been taken.
    pub fn take(&mut self, record: &Record) -> Option<EventView> {
        let Event::Room(event) = &record.event else { return None };
        if let RoomEvent::MessageEdited { message, content, .. } = event {
            self.edited.entry(*message).or_insert_with(|| (record.at, sealed(content)));
            return None;
        }
        if let RoomEvent::MessageDeleted { message, .. } = event {
            let deletion = Deletion { at_time: Time(record.at), by_identity: Sender(record.author.clone()) };
            self.deleted.insert(*message, deletion);
            return None;
        }
        // Of a message that is gone only its place is left.
        if let Some(deleted) = self.deleted.remove(&record.id) {
            return Some(EventView::of(record, "msg.text", Some(Holds::Deleted { deleted }), None));
        }
        let mut view = EventView::pushed(record)?;
        if let Some((at, Sealed { encrypted, public_key })) = self.edited.remove(&record.id) {
            view.edited(at, encrypted, public_key);
        }
        Some(view)
    }
}

impl EventView {
    fn edited(&mut self, at: Timestamp, encrypted: String, public_key: String) {
        if let Some(Holds::Text(text)) = &mut self.content {
            *text = Text { encrypted, public_key, last_edited_at: Some(Time(at)), deleted: None };
        } else if let Some(Holds::File(file)) = &mut self.content {
            (file.encrypted, file.public_key) = (encrypted, public_key);
        }
    }
}

/// How much a record takes at most, framed, about.
pub(super) fn record_bytes(record: &Record) -> usize {
    let Event::Room(event) = &record.event else { return 0 };
    OBJECT_BYTES + event.said().map_or(0, |(content, _)| content.bytes() * 4 / 3)
}

/// Appends what a record is, framed: nothing, where the dialect has no word for it.
pub(super) fn record(out: &mut BytesMut, record: &Record) {
    if let Some(view) = EventView::pushed(record) {
        frame::put_frame_with(out, Opcode::Text, |out| put(out, &view));
    }
}

/// The same without a frame.
pub(super) fn plain_record(out: &mut BytesMut, record: &Record) {
    if let Some(view) = EventView::pushed(record) {
        put(out, &view);
    }
}

fn put(out: &mut BytesMut, view: &EventView) {
    serde_json::to_writer(out.writer(), view).expect("an object of texts can be written to memory");
}

/// The last words on a connection. Their web client comes back where the connection just breaks, and stays away for good
/// where it is told anything at all: so who may come back is told nothing.
pub(super) fn last_words(reason: CloseReason) -> Bytes {
    match reason {
        CloseReason::Normal
        | CloseReason::ProtocolError
        | CloseReason::UnsupportedData
        | CloseReason::InvalidText
        | CloseReason::TooBig
        | CloseReason::BadFrame => reason.frame(),
        CloseReason::Unauthenticated | CloseReason::TokenRevoked | CloseReason::TenantBanned => {
            CloseReason::Normal.frame()
        }
        CloseReason::Internal
        | CloseReason::Restarting
        | CloseReason::TokenExpired
        | CloseReason::SlowConsumer
        | CloseReason::HeartbeatMissed
        | CloseReason::LimitReached => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_rfc_3339_has_it() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_600_164_245_007, "2020-09-15T10:04:05.007Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Time(Timestamp(ms)).to_string(), expected);
        }
    }

    #[test]
    fn only_who_is_to_stay_away_is_told_that_the_connection_ends() {
        let code =
            |reason: CloseReason| last_words(reason).get(2..4).map(|code| u16::from_be_bytes([code[0], code[1]]));
        for (reason, expected) in [
            (CloseReason::Normal, Some(1000)),
            (CloseReason::TokenRevoked, Some(1000)),
            (CloseReason::TenantBanned, Some(1000)),
            (CloseReason::TooBig, Some(1009)),
            (CloseReason::Restarting, None),
            (CloseReason::HeartbeatMissed, None),
            (CloseReason::SlowConsumer, None),
            (CloseReason::LimitReached, None),
            (CloseReason::TokenExpired, None),
            (CloseReason::Internal, None),
        ] {
            assert_eq!(code(reason), expected, "{reason:?}");
        }
    }
}
