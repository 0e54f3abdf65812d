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
pub mod frame;
pub mod guard;
pub mod inbound;
mod native;
pub mod refusal;
pub mod reply;
pub mod request;

use bytes::{Bytes, BytesMut};

pub use close::CloseReason;
pub use cursor::{Cursor, CursorError};
pub use inbound::{Assembler, InboundError, Incoming};
pub use native::{DEPTH_MAX, Kind, decode_request};
pub use refusal::{Refusal, Retry};
pub use reply::{About, Listed, ListedMember, Notice, Removal, Reply};
pub use request::{Ask, DecodeError, From, Request};

use crate::domain::{Record, RoomKey};
use frame::Opcode;

/// One wire language.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Dialect {
    NativeJson,
    NativeMsgpack,
}

impl Dialect {
    pub const ALL: [Self; 2] = [Self::NativeJson, Self::NativeMsgpack];
    pub const COUNT: usize = Self::ALL.len();

    /// The dialect's place in [`Dialect::ALL`], for tables with one entry per dialect.
    pub fn index(self) -> usize {
        match self {
            Self::NativeJson => 0,
            Self::NativeMsgpack => 1,
        }
    }

    /// How a client asks for it in the WebSocket handshake.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::NativeJson => "chinwag.v1.json",
            Self::NativeMsgpack => "chinwag.v1.msgpack",
        }
    }

    /// Whether messages are text frames; otherwise they are binary ones, in both directions.
    pub fn is_text(self) -> bool {
        match self {
            Self::NativeJson => true,
            Self::NativeMsgpack => false,
        }
    }

    /// Frames a message of this dialect.
    pub fn frame(self, payload: &[u8]) -> Bytes {
        frame::frame(self.opcode(), payload)
    }

    /// The kind of frame that messages are.
    pub fn opcode(self) -> Opcode {
        if self.is_text() { Opcode::Text } else { Opcode::Binary }
    }

    /// Appends a record of `room` to `out` as a framed message.
    pub fn put_record(self, out: &mut BytesMut, room: &RoomKey, record: &Record) {
        frame::put_frame(out, self.opcode(), &self.encode_record(room, record));
    }

    /// Encodes a record of `room`, the same whether it is pushed or replayed.
    pub fn encode_record(self, room: &RoomKey, record: &Record) -> Bytes {
        match self {
            Self::NativeJson => native::record::<native::Json>(room, record),
            Self::NativeMsgpack => native::record::<native::Msgpack>(room, record),
        }
    }

    /// Encodes the reply to the request `id`; `None` where a frame was so broken that its id is not known.
    pub fn encode_reply(self, id: Option<&str>, reply: &Reply) -> Bytes {
        match self {
            Self::NativeJson => native::reply::<native::Json>(id, reply),
            Self::NativeMsgpack => native::reply::<native::Msgpack>(id, reply),
        }
    }

    /// Encodes a reply as the body of an answer over HTTP: the members that it has besides `type`, `id` and `ok`.
    pub fn encode_body(self, reply: &Reply) -> Bytes {
        match self {
            Self::NativeJson => native::body::<native::Json>(reply),
            Self::NativeMsgpack => native::body::<native::Msgpack>(reply),
        }
    }

    pub fn encode_notice(self, notice: &Notice) -> Bytes {
        match self {
            Self::NativeJson => native::notice::<native::Json>(notice),
            Self::NativeMsgpack => native::notice::<native::Msgpack>(notice),
        }
    }

    /// Decodes a message of an authenticated client.
    pub fn decode(self, payload: &[u8]) -> Result<Request, DecodeError> {
        match self {
            Self::NativeJson => native::decode_json(payload),
            Self::NativeMsgpack => native::decode_msgpack(payload),
        }
    }

    /// Decodes a message of a client that has not said who it is: `auth` in full, of any other command only that it is
    /// one, as [`Ask::NotYet`]. Builds nothing from what a stranger sent but the two or three strings it needs.
    pub fn decode_before_auth(self, payload: &[u8]) -> Result<Request, DecodeError> {
        match self {
            Self::NativeJson => native::decode_json_before_auth(payload),
            Self::NativeMsgpack => native::decode_msgpack_before_auth(payload),
        }
    }
}
