//! The names of streams, as keys and checksums have them.

use std::sync::Arc;

use uuid::Uuid;

use crate::domain::{RoomId, RoomKey, StreamId, TenantId, UserId};

/// The first byte of the names of rooms' streams.
pub const ROOM_STREAM: u8 = b'r';

/// A stream's name in keys and checksums. No name is the beginning of another, so that a prefix scan of one stream
/// never meets a second.
pub fn stream_key(stream: &StreamId) -> Arc<[u8]> {
    let mut key = Vec::with_capacity(32);
    match stream {
        StreamId::Room(room) => {
            tenant_key(ROOM_STREAM, &room.tenant, &mut key);
            key.extend_from_slice(room.room.0.as_bytes());
        }
        StreamId::User(tenant, user) => {
            tenant_key(b'u', tenant, &mut key);
            key.push(u8::try_from(user.as_str().len()).expect("a user id has at most 128 bytes"));
            key.extend_from_slice(user.as_str().as_bytes());
        }
        StreamId::Directory(tenant) => tenant_key(b'd', tenant, &mut key),
        StreamId::Accounts(tenant) => tenant_key(b'a', tenant, &mut key),
        StreamId::Server => key.push(b's'),
        StreamId::Files => key.push(b'f'),
        StreamId::Owed => key.push(b'o'),
    }
    key.into()
}

fn tenant_key(kind: u8, tenant: &TenantId, key: &mut Vec<u8>) {
    key.push(kind);
    key.push(u8::try_from(tenant.as_str().len()).expect("a tenant id has at most 64 bytes"));
    key.extend_from_slice(tenant.as_str().as_bytes());
}

/// Splits what begins with a stream's name into the stream and the rest.
pub fn split_stream(key: &[u8]) -> Option<(StreamId, &[u8])> {
    let (&kind, rest) = key.split_first()?;
    if kind == b's' {
        return Some((StreamId::Server, rest));
    }
    if kind == b'f' {
        return Some((StreamId::Files, rest));
    }
    if kind == b'o' {
        return Some((StreamId::Owed, rest));
    }
    let (tenant, rest) = split_text(rest)?;
    let tenant = TenantId::new(tenant).ok()?;
    match kind {
        ROOM_STREAM => {
            let (id, rest) = rest.split_first_chunk::<16>()?;
            Some((StreamId::Room(RoomKey { tenant, room: RoomId(Uuid::from_bytes(*id)) }), rest))
        }
        b'u' => {
            let (user, rest) = split_text(rest)?;
            Some((StreamId::User(tenant, UserId::new(user).ok()?), rest))
        }
        b'd' => Some((StreamId::Directory(tenant), rest)),
        b'a' => Some((StreamId::Accounts(tenant), rest)),
        _ => None,
    }
}

pub fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&len, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(len))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}
