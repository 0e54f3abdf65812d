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
mod native;
pub mod refusal;
pub mod reply;
pub mod request;
mod splice;
pub mod sse;
pub mod world_cursor;

use std::time::Duration;

use bytes::{Bytes, BytesMut};

pub use close::CloseReason;
pub use cursor::{Cursor, CursorError, CursorText};
pub use inbound::{Assembler, InboundError, Incoming};
pub use native::{DEPTH_MAX, Kind, decode_request};
pub use refusal::{Refusal, Retry};
pub use reply::{
    About, Absence, Activity, Beside, Change, Changes, Edited, Gap, Inbox, InboxRoom, Listed, ListedMember, Notice,
    Pinned, Presences, Present, Reader, Readers, Removal, Reply, Tally, UserProfile, Version,
};
pub use request::{Ask, DecodeError, From, Request};
pub use world_cursor::Sealer;

use crate::domain::{Record, RoomKey};
use frame::Opcode;
use native::{Json, Msgpack};

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

/// One wire language.
#[allow(clippy::enum_variant_names, reason = "there will be others than the native ones")]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dialect {
    NativeJson,
    NativeMsgpack,
    /// The native objects in JSON, as events of a stream that only the server speaks on.
    NativeSse,
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
    pub const ALL: [Self; 3] = [Self::NativeJson, Self::NativeMsgpack, Self::NativeSse];
    pub const COUNT: usize = Self::ALL.len();

    /// The dialect's place in [`Dialect::ALL`], for tables with one entry per dialect.
    pub fn index(self) -> usize {
        match self {
            Self::NativeJson => 0,
            Self::NativeMsgpack => 1,
            Self::NativeSse => 2,
        }
    }

    /// How a client asks for it in the WebSocket handshake; `None` for one that is not spoken over WebSocket.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::NativeJson => Some("chinwag.v1.json"),
            Self::NativeMsgpack => Some("chinwag.v1.msgpack"),
            Self::NativeSse => None,
        }
    }

    /// What carries it.
    pub fn transport(self) -> Transport {
        match self {
            Self::NativeJson | Self::NativeMsgpack => Transport::WebSocket,
            Self::NativeSse => Transport::EventStream,
        }
    }

    /// Whether messages are text frames; otherwise they are binary ones, in both directions.
    pub fn is_text(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeSse => true,
            Self::NativeMsgpack => false,
        }
    }

    /// Frames a message of this dialect.
    pub fn frame(self, payload: &[u8]) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack => frame::frame(self.opcode(), payload),
            Self::NativeSse => sse::event("message", None, payload),
        }
    }

    /// Encodes and frames the reply to the request `id`; `None` where a frame was so broken that its id is not known.
    pub fn frame_reply(self, id: Option<&str>, reply: &Reply) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack => self.framed(|out| self.put_reply(out, id, reply)),
            Self::NativeSse => self.frame(&self.encode_reply(id, reply)),
        }
    }

    /// Encodes and frames a notice.
    pub fn frame_notice(self, notice: &Notice) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack => self.framed(|out| self.put_notice(out, notice)),
            Self::NativeSse => sse::notice(notice),
        }
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
            Self::NativeJson | Self::NativeMsgpack => reason.frame(),
            Self::NativeSse => sse::close(reason, pause),
        }
    }

    /// Whether its last words say when to come back. A close frame of a WebSocket has no place for that.
    pub fn closes_with_a_time(self) -> bool {
        match self {
            Self::NativeJson | Self::NativeMsgpack => false,
            Self::NativeSse => true,
        }
    }

    /// A sign of life that the client need not do anything about.
    pub fn frame_heartbeat(self) -> Bytes {
        match self {
            Self::NativeJson | Self::NativeMsgpack => frame::frame(Opcode::Ping, &[]),
            Self::NativeSse => Bytes::from_static(sse::COMMENT),
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
        }
    }

    /// Appends a record of `room` to `out` as a framed message.
    pub fn put_record(self, out: &mut BytesMut, room: &RoomKey, record: &Record) {
        match self {
            Self::NativeJson => {
                frame::put_frame_with(out, Opcode::Text, |out| native::record(&mut Json::to(out), room, record));
            }
            Self::NativeMsgpack => {
                frame::put_frame_with(out, Opcode::Binary, |out| native::record(&mut Msgpack::to(out), room, record));
            }
            Self::NativeSse => sse::put_record(out, room, record),
        }
    }

    /// Appends a record as [`Dialect::put_record`] framed it, with the cursor of a world that stands behind it.
    pub fn put_in_world(self, out: &mut BytesMut, framed: &[u8], cursor: &str) {
        match self {
            Self::NativeJson => splice::json(out, framed, cursor),
            Self::NativeMsgpack => splice::msgpack(out, framed, cursor),
            Self::NativeSse => splice::event(out, framed, cursor),
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
        }
    }

    /// Encodes a reply as the body of an answer over HTTP: the members that it has besides `type`, `id` and `ok`.
    pub fn encode_body(self, reply: &Reply) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::NativeJson | Self::NativeSse => native::body(&mut Json::to(&mut out), reply),
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
        }
    }

    /// Decodes a message of an authenticated client.
    pub fn decode(self, payload: &[u8]) -> Result<Request, DecodeError> {
        match self {
            Self::NativeJson | Self::NativeSse => native::decode_json(payload),
            Self::NativeMsgpack => native::decode_msgpack(payload),
        }
    }

    /// Decodes a message of a client that has not said who it is: `auth` in full, of any other command only that it is
    /// one, as [`Ask::NotYet`]. Builds nothing from what a stranger sent but the two or three strings it needs.
    pub fn decode_before_auth(self, payload: &[u8]) -> Result<Request, DecodeError> {
        match self {
            Self::NativeJson | Self::NativeSse => native::decode_json_before_auth(payload),
            Self::NativeMsgpack => native::decode_msgpack_before_auth(payload),
        }
    }
}
