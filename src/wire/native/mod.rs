//! The native protocol, `chinwag.v1`, in JSON and in MessagePack: the same objects with the same members.
//!
//! [`decode`] holds the shapes of what clients send, [`encode`] those of what they are sent; each exists once, for
//! both notations. `docs/protocols/native.md` is the page that client authors read.

mod content;
mod decode;
mod encode;
mod rest;
mod writer;

pub use decode::Kind;
pub(super) use decode::{decode_json, decode_json_before_auth, decode_msgpack, decode_msgpack_before_auth};
pub(super) use encode::{body, notice, record, record_bytes, reply};
pub use rest::decode as decode_request;
pub(super) use writer::{Json, Msgpack};

/// How deep objects and arrays may be nested in what a client sends. The libraries' own limits, 128 and 1,024, are
/// more than a small stack holds.
pub const DEPTH_MAX: usize = 32;

/// The `protocol` of the hello.
const PROTOCOL: &str = "chinwag.v1";
