//! The dialects: pure translation between the bytes that clients speak and the domain's words.
//!
//! A [`Dialect`] decodes what a client sends into a [`Request`], and encodes records, replies and notices. It keeps no
//! state, looks nothing up and knows no actor, no store and no HTTP; `actors` and `http` call it. The shapes on the
//! wire are types of their own, so that a rename inside never changes a byte outside.
//!
//! Beside the dialects stands what every WebSocket needs: [`inbound`] puts messages together behind the [`guard`],
//! [`frame`](mod@frame) frames what is sent, [`close`] lists why a connection ends.

pub mod close;
pub mod cursor;
mod file_link;
pub mod frame;
pub mod guard;
pub mod inbound;
pub mod misakey;
mod native;
pub mod refusal;
pub mod reply;
pub mod request;
mod splice;
pub mod sse;
pub mod staticbackend;
pub mod world_cursor;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub use close::CloseReason;
pub use cursor::{Cursor, CursorError, CursorText};
pub use inbound::{Assembler, InboundError, Incoming};
pub use native::{DEPTH_MAX, Kind, decode_request};
pub use refusal::{Refusal, Retry};
pub use reply::{
    About, Absence, Activity, Beside, Change, Changes, ChannelReply, Edited, Gap, Inbox, InboxRoom, Listed,
    ListedMember, Notice, Pinned, Presences, Present, Reader, Readers, Removal, Reply, Tally, UserProfile, Version,
};
pub use request::{Ask, ChannelAsk, DecodeError, From, Request};
pub use staticbackend::collection_of;
pub use world_cursor::Sealer;

use crate::domain::{Alias, Record, RoomKey};
use frame::Opcode;
use native::{Json, Msgpack};
use staticbackend::Carried;

/// Most replies and notices take less.
const MESSAGE_BYTES: usize = 512;

/// A page of a world as the body of an answer. What is in it are objects already.
pub fn world_page(records: &[Bytes], notices: &[Bytes], cursor: &str, complete: bool) -> Bytes {
    let bytes: usize = records.iter().chain(notices).map(|object| object.len() + 1).sum();
    let mut out = BytesMut::with_capacity(bytes + cursor.len() + 64);
    for (name, list) in [("{\"records\":[", records), ("],\"notices\":[", notices)] {
        out.extend_from_slice(name.as_bytes());
        for (index, object) in list.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b"," } else { b"" });
            out.extend_from_slice(object);
        }
    }
    out.extend_from_slice(format!("],\"cursor\":\"{cursor}\",\"complete\":{complete}}}").as_bytes());
    out.freeze()
}

/// A room as it is named to clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label<'a> {
    pub key: &'a RoomKey,
    /// For the dialects that name rooms by it ([`Dialect::names_rooms`]).
    pub alias: Option<&'a Alias>,
}

impl<'a> Label<'a> {
    /// Of a room that is named by its id.
    pub fn plain(key: &'a RoomKey) -> Self {
        Self { key, alias: None }
    }
}

/// One wire language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dialect {
    NativeJson,
    NativeMsgpack,
    /// The native objects in JSON, as events of a stream that only the server speaks on.
    NativeSse,
    /// StaticBackend's channels over a WebSocket.
    StaticBackend,
    /// The same as an event stream, whose client speaks by requests beside it.
    StaticBackendSse,
    /// The events of one of Misakey's boxes over a WebSocket that only the server speaks on.
    Misakey,
}

/// What carries a connection: for who watches the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    WebSocket,
    EventStream,
}

impl Transport {
    pub const ALL: [Self; 2] = [Self::WebSocket, Self::EventStream];
    pub const COUNT: usize = Self::ALL.len();

    /// The transport's place in [`Transport::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::WebSocket => 0,
            Self::EventStream => 1,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::EventStream => "event_stream",
        }
    }
}

impl Dialect {
    pub const ALL: [Self; 6] = [
        Self::NativeJson,
        Self::NativeMsgpack,
        Self::NativeSse,
        Self::StaticBackend,
        Self::StaticBackendSse,
        Self::Misakey,
    ];
    pub const COUNT: usize = Self::ALL.len();

    /// The dialect's place in [`Dialect::ALL`], for tables with one entry per dialect.
    pub fn index(self) -> usize {
        match self {
            Self::NativeJson => 0,
            Self::NativeMsgpack => 1,
            Self::NativeSse => 2,
            Self::StaticBackend => 3,
            Self::StaticBackendSse => 4,
            Self::Misakey => 5,
        }
    }

    /// How a client asks for it in the WebSocket handshake; `None` for one that is not spoken over WebSocket.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::NativeJson => Some("chinwag.v1.json"),
            Self::NativeMsgpack => Some("chinwag.v1.msgpack"),
            Self::NativeSse | Self::StaticBackend | Self::StaticBackendSse | Self::Misakey => None,
        }
    }

    /// What carries it.
    pub fn transport(self) -> Transport {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::StaticBackend | Self::Misakey => Transport::WebSocket,
            Self::NativeSse | Self::StaticBackendSse => Transport::EventStream,
        }
    }

    /// Whether its records say the alias of their room.
    pub fn names_rooms(self) -> bool {
        self.names_sockets()
    }

    /// Whether its connections have names, by which requests reach them.
    pub fn names_sockets(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::NativeSse | Self::Misakey => false,
            Self::StaticBackend | Self::StaticBackendSse => true,
        }
    }

    /// Whether commands may come before the token that they need, and a token that is no good is only answered.
    pub fn waits_for_a_token(self) -> bool {
        self.names_sockets()
    }

    /// Whether its clients ask anything by the connection. What comes of those that do not is passed over.
    pub fn takes_commands(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::StaticBackend | Self::StaticBackendSse => true,
            Self::NativeSse | Self::Misakey => false,
        }
    }

    /// Whether its connections end with what they follow, which is one room from the beginning.
    pub fn ends_with_its_room(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::NativeSse | Self::StaticBackend | Self::StaticBackendSse => {
                false
            }
            Self::Misakey => true,
        }
    }

    /// How what the channels of StaticBackend say is carried, where the dialect is one of these.
    fn carried(self) -> Option<Carried> {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::NativeSse | Self::Misakey => None,
            Self::StaticBackend => Some(Carried::Frames),
            Self::StaticBackendSse => Some(Carried::Events),
        }
    }

    /// Whether messages are text frames; otherwise they are binary ones, in both directions.
    pub fn is_text(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeSse | Self::StaticBackend | Self::StaticBackendSse | Self::Misakey => true,
            Self::NativeMsgpack => false,
        }
    }

    /// Frames a message of this dialect.
    pub fn frame(self, payload: &[u8]) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::StaticBackend | Self::Misakey => {
                frame::frame(self.opcode(), payload)
            }
            Self::NativeSse | Self::StaticBackendSse => sse::event("message", None, payload),
        }
    }

    /// Encodes and frames the reply to the request `id`; `None` where a frame was so broken that its id is not known.
    pub fn frame_reply(self, id: Option<&str>, reply: &Reply) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack => self.framed(|out| self.put_reply(out, id, reply)),
            Self::NativeSse => self.frame(&self.encode_reply(id, reply)),
            Self::StaticBackend | Self::StaticBackendSse => {
                self.in_channels(|out, carried| staticbackend::reply(out, carried, id.unwrap_or_default(), reply))
            }
            Self::Misakey => Bytes::new(),
        }
    }

    /// Encodes and frames a notice; nothing, where the dialect has no word for it.
    pub fn frame_notice(self, notice: &Notice) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack => self.framed(|out| self.put_notice(out, notice)),
            Self::NativeSse => sse::notice(notice),
            Self::StaticBackend | Self::StaticBackendSse => {
                self.in_channels(|out, carried| staticbackend::notice(out, carried, notice))
            }
            // Its clients know events of boxes and nothing else.
            Self::Misakey => Bytes::new(),
        }
    }

    /// What `write` writes in the dialect of StaticBackend's channels: nothing, in another one.
    fn in_channels(self, write: impl FnOnce(&mut BytesMut, Carried)) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(carried) = self.carried() {
            write(&mut out, carried);
        }
        out.freeze()
    }

    /// A message of a WebSocket that `write` writes.
    fn framed(self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut out = BytesMut::with_capacity(MESSAGE_BYTES);
        frame::put_frame_with(&mut out, self.opcode(), write);
        out.freeze()
    }

    /// The last words on a connection. `pause` is how long to wait before coming back, where that is any use and there
    /// is a way to say it.
    pub fn frame_close(self, reason: CloseReason, pause: Duration) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::StaticBackend => reason.frame(),
            Self::NativeSse => sse::close(reason, pause),
            // Its clients come back by themselves, and are told then what there is to tell.
            Self::StaticBackendSse => Bytes::new(),
            Self::Misakey => misakey::last_words(reason),
        }
    }

    /// Whether its last words say when to come back. A close frame of a WebSocket has no place for that.
    pub fn closes_with_a_time(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::StaticBackend | Self::StaticBackendSse | Self::Misakey => {
                false
            }
            Self::NativeSse => true,
        }
    }

    /// A sign of life that the client need not do anything about.
    pub fn frame_heartbeat(self) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack | Self::StaticBackend | Self::Misakey => {
                frame::frame(Opcode::Ping, &[])
            }
            Self::NativeSse | Self::StaticBackendSse => Bytes::from_static(sse::COMMENT),
        }
    }

    /// The kind of frame that messages are.
    pub fn opcode(self) -> Opcode {
        if self.is_text() { Opcode::Text } else { Opcode::Binary }
    }

    /// What a record probably takes at most, framed: who frames many makes room for all of them.
    pub fn record_bytes(self, record: &Record) -> usize {
        match self {
            Self::NativeJson | Self::NativeMsgpack => frame::HEADER_BYTES_MAX + native::record_bytes(record),
            Self::NativeSse => sse::EVENT_BYTES + native::record_bytes(record),
            Self::StaticBackend | Self::StaticBackendSse => staticbackend::record_bytes(record),
            Self::Misakey => misakey::record_bytes(record),
        }
    }

    /// Appends a record of `room` to `out` as a framed message; nothing, where the dialect has no word for it.
    pub fn put_record(self, out: &mut BytesMut, room: Label<'_>, record: &Record) {
        let Label { key, .. } = room;
        match self {
            Self::NativeJson => {
                frame::put_frame_with(out, Opcode::Text, |out| native::record(&mut Json::to(out), key, record));
            }
            Self::NativeMsgpack => {
                frame::put_frame_with(out, Opcode::Binary, |out| native::record(&mut Msgpack::to(out), key, record));
            }
            Self::NativeSse => sse::put_record(out, key, record),
            Self::StaticBackend => staticbackend::record(out, Carried::Frames, room, record),
            Self::StaticBackendSse => staticbackend::record(out, Carried::Events, room, record),
            Self::Misakey => misakey::record(out, record),
        }
    }

    /// Appends a record as [`Dialect::put_record`] framed it, with the cursor of a world that stands behind it.
    pub fn put_in_world(self, out: &mut BytesMut, framed: &[u8], cursor: &str) {
        match self {
            Self::NativeJson => splice::json(out, framed, cursor),
            Self::NativeMsgpack => splice::msgpack(out, framed, cursor),
            Self::NativeSse => splice::event(out, framed, cursor),
            // They follow no worlds.
            Self::StaticBackend | Self::StaticBackendSse | Self::Misakey => out.extend_from_slice(framed),
        }
    }

    /// The objects among framed messages in JSON: records in a world, with the cursor behind each, and others.
    pub fn take_apart(framed: &mut Bytes) -> impl Iterator<Item = (Bytes, Option<String>)> {
        std::iter::from_fn(|| frame::take(framed)).map(|object| match splice::split(&object) {
            Some((record, cursor)) => (record, Some(cursor)),
            None => (object, None),
        })
    }

    /// Encodes a record of `room`, the same whether it is pushed or replayed.
    pub fn encode_record(self, room: &RoomKey, record: &Record) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::NativeJson | Self::NativeSse => native::record(&mut Json::to(&mut out), room, record),
            Self::NativeMsgpack => native::record(&mut Msgpack::to(&mut out), room, record),
            Self::StaticBackend | Self::StaticBackendSse => {
                staticbackend::record(&mut out, Carried::Lines, Label::plain(room), record);
            }
            Self::Misakey => misakey::plain_record(&mut out, record),
        }
        out.freeze()
    }

    /// Encodes the reply to the request `id`; `None` where a frame was so broken that its id is not known.
    pub fn encode_reply(self, id: Option<&str>, reply: &Reply) -> Bytes {
        let mut out = BytesMut::new();
        self.put_reply(&mut out, id, reply);
        out.freeze()
    }

    fn put_reply(self, out: &mut BytesMut, id: Option<&str>, reply: &Reply) {
        match self {
            Self::NativeJson | Self::NativeSse => native::reply(&mut Json::to(out), id, reply),
            Self::NativeMsgpack => native::reply(&mut Msgpack::to(out), id, reply),
            Self::StaticBackend | Self::StaticBackendSse => {
                staticbackend::reply(out, Carried::Lines, id.unwrap_or_default(), reply);
            }
            Self::Misakey => {}
        }
    }

    /// Encodes a reply as the body of an answer over HTTP: the members that it has besides `type`, `id` and `ok`.
    pub fn encode_body(self, reply: &Reply) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::NativeJson | Self::NativeSse | Self::StaticBackend | Self::StaticBackendSse | Self::Misakey => {
                native::body(&mut Json::to(&mut out), reply);
            }
            Self::NativeMsgpack => native::body(&mut Msgpack::to(&mut out), reply),
        }
        out.freeze()
    }

    pub fn encode_notice(self, notice: &Notice) -> Bytes {
        let mut out = BytesMut::new();
        self.put_notice(&mut out, notice);
        out.freeze()
    }

    fn put_notice(self, out: &mut BytesMut, notice: &Notice) {
        match self {
            Self::NativeJson | Self::NativeSse => native::notice(&mut Json::to(out), notice),
            Self::NativeMsgpack => native::notice(&mut Msgpack::to(out), notice),
            Self::StaticBackend | Self::StaticBackendSse => staticbackend::notice(out, Carried::Lines, notice),
            Self::Misakey => {}
        }
    }

    /// Decodes a message of an authenticated client.
    pub fn decode(self, payload: &[u8]) -> Result<Request, DecodeError> {
        match self {
            Self::NativeJson | Self::NativeSse => native::decode_json(payload),
            Self::NativeMsgpack => native::decode_msgpack(payload),
            Self::StaticBackend | Self::StaticBackendSse => staticbackend::decode(payload),
            Self::Misakey => Err(unasked()),
        }
    }

    /// Decodes a message of a client that has not said who it is: `auth` in full, of any other command only that it is
    /// one, as [`Ask::NotYet`]. Builds nothing from what a stranger sent but the two or three strings it needs.
    pub fn decode_before_auth(self, payload: &[u8]) -> Result<Request, DecodeError> {
        match self {
            Self::NativeJson | Self::NativeSse => native::decode_json_before_auth(payload),
            Self::NativeMsgpack => native::decode_msgpack_before_auth(payload),
            // What is before it waits for the token, and the frames of a stranger are short.
            Self::StaticBackend | Self::StaticBackendSse => staticbackend::decode(payload),
            Self::Misakey => Err(unasked()),
        }
    }
}

/// What is said where nothing is asked.
fn unasked() -> DecodeError {
    DecodeError { id: None, refusal: Refusal::bad_request("nothing is asked by this connection") }
}
