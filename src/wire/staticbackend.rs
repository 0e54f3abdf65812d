//! The messages of StaticBackend's channels: objects with the same five members, whichever way they go.
//!
//! A channel is a room that is named by its alias. `docs/protocols/staticbackend.md` is the page for those who run its
//! clients, and says what is added to the original: members that these pass over.

pub mod documents;

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};

use self::documents::Changed;
use super::cursor::Cursor;
use super::frame::{self, Opcode};
use super::refusal::Refusal;
use super::reply::{ChannelReply, Gap, Notice, Removal, Reply};
use super::request::{Ask, ChannelAsk, DecodeError, Request};
use super::{Label, sse};
use crate::domain::{Content, Event, Record, RecordId, RoomEvent, Signal};

/// What the channels begin with that have the changes of a collection, which is called as the rest says.
const DATABASE: &str = "db-";

/// The members of an object besides what they hold take about this much.
const OBJECT_BYTES: usize = 160;

/// What every message of a server has; the last three are of ours.
#[derive(Serialize, Default)]
struct Object<'a> {
    sid: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    data: &'a str,
    channel: &'a str,
    token: &'a str,
    /// The message that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Where in the channel it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
}

/// What a client sends. The original's clients always send the first five, some of them as `null`.
#[derive(Deserialize)]
struct Command<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(default)]
    data: Option<String>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    token: Option<String>,
    /// A cursor to go on from.
    #[serde(default)]
    since: Option<String>,
}

/// What carries the objects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carried {
    Frames,
    Events,
    /// One to a line, by nothing.
    Lines,
}

impl Carried {
    /// Appends an object. As an event it has no name, so that it reaches whoever listens for messages.
    fn put(self, out: &mut BytesMut, object: &Object<'_>) {
        let write = |out: &mut BytesMut| {
            serde_json::to_writer(out.writer(), object).expect("an object of texts can be written to memory");
        };
        match self {
            Self::Frames => frame::put_frame_with(out, Opcode::Text, write),
            Self::Events => sse::put_message_with(out, object.cursor, write),
            Self::Lines => {
                write(out);
                out.put_u8(b'\n');
            }
        }
    }
}

/// How much a record takes at most, framed, about.
pub(super) fn record_bytes(record: &Record) -> usize {
    if let Some(bytes) = documents::changed_bytes(record) {
        return OBJECT_BYTES + sse::EVENT_BYTES + bytes;
    }
    match said(record) {
        Some(Said { content, .. }) => OBJECT_BYTES + sse::EVENT_BYTES + content.map_or(0, Content::bytes),
        None => 0,
    }
}

/// Appends what a record is to the members of a channel: nothing, where the dialect has no word for it.
pub(super) fn record(out: &mut BytesMut, carried: Carried, room: Label<'_>, record: &Record) {
    if let Some(changed) = documents::changed(record) {
        return put_changed(out, carried, room, record, &changed);
    }
    let Some(Said { kind, content, message }) = said(record) else { return };
    let (cursor, id) = (Cursor::encode(room.key, record.position), message.0.to_string());
    let channel = channel(room);
    let text = content.map(text);
    let data = text.as_deref().unwrap_or(&id);
    let object =
        Object { kind, data, channel: &channel, cursor: Some(&cursor), id: Some(id.clone()), ..Object::default() };
    carried.put(out, &object);
}

/// Appends what became of a document to those who follow its collection.
fn put_changed(out: &mut BytesMut, carried: Carried, room: Label<'_>, record: &Record, changed: &Changed<'_>) {
    let (cursor, id) = (Cursor::encode(room.key, record.position), changed.id.to_string());
    let channel = format!("{DATABASE}{}", changed.collection);
    let Changed { kind, data, .. } = changed;
    let object = Object { kind, data, channel: &channel, cursor: Some(&cursor), id: Some(id), ..Object::default() };
    carried.put(out, &object);
}

/// A record of something that was said.
struct Said<'a> {
    kind: &'static str,
    /// What is said now; `None` where it is taken back.
    content: Option<&'a Content>,
    message: RecordId,
}

fn said(record: &Record) -> Option<Said<'_>> {
    let Event::Room(event) = &record.event else { return None };
    match event {
        RoomEvent::MessagePosted { content, .. } => {
            Some(Said { kind: "chan_out", content: Some(content), message: record.id })
        }
        RoomEvent::MessageEdited { message, content, .. } => {
            Some(Said { kind: "chan_edited", content: Some(content), message: *message })
        }
        RoomEvent::MessageDeleted { message, .. } => {
            Some(Said { kind: "chan_deleted", content: None, message: *message })
        }
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
        | RoomEvent::HistoryTrimmed { .. }
        | RoomEvent::MessageErased
        | RoomEvent::Audited(_)
        | RoomEvent::Administered(_)
        | RoomEvent::Reported(_)
        | RoomEvent::ReportResolved { .. } => None,
    }
}

/// What a message says, as the one text that there is place for: its text, else all of it.
fn text(content: &Content) -> Cow<'_, str> {
    match (&content.text, &content.body) {
        (Some(text), _) => (&**text).into(),
        (None, Some(body)) => (&**body).into(),
        (None, None) => "{}".into(),
    }
}

/// What a room is called by who joins it as a channel.
fn channel(room: Label<'_>) -> String {
    room.alias.map_or_else(|| room.key.room.to_string(), |alias| alias.as_str().to_owned())
}

/// Appends the answers to a command of the socket `sid`.
pub(super) fn reply(out: &mut BytesMut, carried: Carried, sid: &str, reply: &Reply) {
    let plain = Object { sid, ..Object::default() };
    match reply {
        Reply::Authenticated { token, .. } => carried.put(out, &Object { kind: "token", data: token, ..plain }),
        Reply::Published { .. } => carried.put(out, &Object { kind: "ok", ..plain }),
        Reply::Refused(refusal) => {
            let why = error(refusal);
            carried.put(out, &Object { kind: "error", data: &why, ..plain });
        }
        Reply::Channel(reply) => channel_reply(out, carried, plain, reply),
        Reply::Created { .. }
        | Reply::Joined { .. }
        | Reply::Changed { .. }
        | Reply::Following { .. }
        | Reply::Unfollowed { .. }
        | Reply::Signaled { .. }
        | Reply::FollowingAll { .. }
        | Reply::UnfollowedAll
        | Reply::History { .. }
        | Reply::Thread { .. }
        | Reply::Reactions { .. }
        | Reply::Edits { .. }
        | Reply::Pins { .. }
        | Reply::Page { .. }
        | Reply::Rooms { .. }
        | Reply::Room { .. }
        | Reply::Members { .. }
        | Reply::Bans { .. }
        | Reply::Rules { .. }
        | Reply::Mutes { .. }
        | Reply::Readers { .. }
        | Reply::Present { .. }
        | Reply::Presences { .. }
        | Reply::Inbox(_)
        | Reply::Settings(_)
        | Reply::Profile(_)
        | Reply::Users(_)
        | Reply::FoundUsers(_)
        | Reply::Reported { .. }
        | Reply::Blocked { .. }
        | Reply::Blocks { .. }
        | Reply::Hidden { .. }
        | Reply::InboxChanges(_)
        | Reply::InboxUpdated { .. } => {}
    }
}

fn channel_reply(out: &mut BytesMut, carried: Carried, plain: Object<'_>, reply: &ChannelReply) {
    match reply {
        ChannelReply::Echoed { data, channel, token } => {
            let data = format!("echo: {data}");
            carried.put(out, &Object { kind: "echo", data: &data, channel, token, ..plain });
        }
        // Of the two answers that the original has had over time a client heeds the one it knows.
        ChannelReply::Entered { channel, room, at } => {
            let cursor = Cursor::encode(room, *at);
            let sid = plain.sid;
            carried.put(out, &Object { kind: "ok", data: channel, ..plain });
            let object =
                Object { sid, kind: "joined", data: channel, channel, cursor: Some(&cursor), ..Object::default() };
            carried.put(out, &object);
        }
        ChannelReply::Counted { count } => {
            carried.put(out, &Object { kind: "presence", data: &count.to_string(), ..plain });
        }
        ChannelReply::Failed { why } => carried.put(out, &Object { kind: "error", data: why, ..plain }),
    }
}

/// A refusal in the words of the original, where it has some.
fn error(refusal: &Refusal) -> String {
    match refusal.code() {
        "unauthenticated" | "token_invalid" | "token_expired" | "token_revoked" => "invalid token".to_owned(),
        _ => refusal.to_string(),
    }
}

/// Appends what the server says by itself: nothing, where the dialect has no word for it.
pub(super) fn notice(out: &mut BytesMut, carried: Carried, notice: &Notice) {
    match notice {
        Notice::Hello { socket, .. } => {
            let sid = socket.map_or_else(String::new, |socket| socket.to_string());
            carried.put(out, &Object { sid: &sid, kind: "init", data: &sid, ..Object::default() });
        }
        Notice::Signal { signal: Signal::Entered { channel, handle, .. }, .. } => {
            let (data, channel) = (handle.to_string(), channel.as_str());
            carried.put(out, &Object { kind: "joined", data: &data, channel, ..Object::default() });
        }
        Notice::Removed { reason, .. } => {
            let why = match reason {
                Removal::Left => "you have left a channel",
                Removal::Kicked => "you have been removed from a channel",
            };
            carried.put(out, &Object { kind: "error", data: why, ..Object::default() });
        }
        Notice::Gap { gap, .. } => {
            let Gap { from, to, reason } = gap;
            let data = format!(r#"{{"from":{},"to":{},"reason":"{}"}}"#, from.0, to.0, reason.as_str());
            carried.put(out, &Object { kind: "gap", data: &data, ..Object::default() });
        }
        Notice::FollowFailed { refusal, .. } => {
            let why = error(refusal);
            carried.put(out, &Object { kind: "error", data: &why, ..Object::default() });
        }
        Notice::Streaming { .. }
        | Notice::StreamingAll { .. }
        | Notice::RoomGained { .. }
        | Notice::RoomLost { .. }
        | Notice::InboxUpdated { .. }
        | Notice::MessageHidden { .. }
        | Notice::Signal { .. }
        | Notice::Restarting { .. }
        | Notice::UserUpdated(_)
        | Notice::UserBlocked { .. } => {}
    }
}

/// Reads a command.
pub(super) fn decode(payload: &[u8]) -> Result<Request, DecodeError> {
    let command: Command<'_> = serde_json::from_slice(payload)
        .map_err(|error| DecodeError { id: None, refusal: Refusal::bad_request(error) })?;
    let Command { kind, data, channel, token, since } = command;
    let [data, channel, token] = [data, channel, token].map(Option::unwrap_or_default);
    let ask = match &*kind {
        "auth" => Ask::Auth { token: data },
        "echo" => Ask::Channel(ChannelAsk::Echo { data, channel, token }),
        "join" if data.is_empty() => Ask::Channel(ChannelAsk::failed("no channel was specified")),
        "join" => Ask::Channel(ChannelAsk::Enter { channel: data, since }),
        "chan_in" if channel.is_empty() => Ask::Channel(ChannelAsk::failed("no channel was specified")),
        "chan_in" if collection_of(&channel).is_some() => {
            Ask::Channel(ChannelAsk::failed("you cannot write to database channel"))
        }
        "chan_in" if data.len() > Content::BYTES_MAX => Ask::Channel(ChannelAsk::failed("the data is too long")),
        "chan_in" => Ask::Channel(ChannelAsk::Say { channel, data }),
        "presence" => Ask::Channel(ChannelAsk::Count { channel: data }),
        _ => Ask::Channel(ChannelAsk::failed(&format!("{kind} command not found"))),
    };
    Ok(Request { id: String::new(), ask })
}

/// The collection whose changes a channel has, whatever the case its name begins in.
pub fn collection_of(channel: &str) -> Option<&str> {
    let (prefix, collection) = channel.split_at_checked(DATABASE.len())?;
    prefix.eq_ignore_ascii_case(DATABASE).then_some(collection)
}
