//! The rows of a box besides those of any room: for whom its messages are encrypted, and who is let in.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Row, joined};
use crate::domain::boxes::{Access, BoxNature, Restriction};
use crate::domain::{RecordId, Timestamp};
use crate::store::StoreError;
use crate::store::codec::{self, damage};

/// Under a room's stream: what makes a box of it, a [`BoxNature`].
pub const NATURE: &[u8] = b"j";

/// Under a room's stream: before the key of every [`Access`].
pub const ACCESSES: &[u8] = b"z";

/// Under a room's stream: the [`Access`] that was given by this event.
pub fn access(event: RecordId) -> Bytes {
    joined(ACCESSES, event.0.as_bytes())
}

/// By which event [`access`] made the key.
pub fn event_of(key: &[u8]) -> Result<RecordId, StoreError> {
    let id = key.strip_prefix(ACCESSES).and_then(|id| Uuid::from_slice(id).ok());
    id.map(RecordId).ok_or_else(|| damage("a key that names no event"))
}

impl Row for BoxNature {
    fn encode(&self) -> Bytes {
        codec::version(&StoredNature { public_key: &self.public_key, creator: self.creator.as_str() }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredNature<'_> = codec::versioned(bytes)?;
        Ok(Self { public_key: stored.public_key.into(), creator: codec::user(stored.creator)? })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredNature<'a> {
    public_key: &'a str,
    creator: &'a str,
}

impl Row for Access {
    fn encode(&self) -> Bytes {
        let restriction = match self.restriction {
            Restriction::InvitationLink => StoredRestriction::InvitationLink,
            Restriction::Identifier => StoredRestriction::Identifier,
            Restriction::EmailDomain => StoredRestriction::EmailDomain,
        };
        let stored = StoredAccess { restriction, value: &self.value, by: self.by.as_str(), at: self.at.0 };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredAccess<'_> = codec::versioned(bytes)?;
        let restriction = match stored.restriction {
            StoredRestriction::InvitationLink => Restriction::InvitationLink,
            StoredRestriction::Identifier => Restriction::Identifier,
            StoredRestriction::EmailDomain => Restriction::EmailDomain,
        };
        Ok(Self { restriction, value: stored.value.into(), by: codec::user(stored.by)?, at: Timestamp(stored.at) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredAccess<'a> {
    restriction: StoredRestriction,
    value: &'a str,
    by: &'a str,
    at: i64,
}

#[derive(Serialize, Deserialize)]
enum StoredRestriction {
    InvitationLink,
    Identifier,
    EmailDomain,
}
