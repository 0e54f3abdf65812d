//! The rows of files: which there are, what refers to them, uploads, how many bytes a tenant has.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Row, joined};
use crate::domain::file::Hash;
use crate::domain::{File, FileId, FileName, Purpose, RoomId, Seq, TenantId, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::{self, Id, damage};

/// Among the files: before the key of every [`Filed`].
pub const FILES: &[u8] = b"f";

/// A file as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filed {
    pub file: File,
    /// Since when nothing has been known to refer to it.
    pub loose_since: Option<Timestamp>,
}

/// Among the files: the [`Filed`] of this id.
pub fn file(id: FileId) -> Bytes {
    joined(FILES, id.0.as_bytes())
}

impl Row for Filed {
    fn encode(&self) -> Bytes {
        let File { id, tenant, owner, purpose, hash, size, media, name, at } = &self.file;
        let stored = StoredFile {
            id: Id(id.0),
            tenant: tenant.as_str(),
            owner: owner.as_str(),
            room: stored_purpose(*purpose),
            hash: hash.0,
            size: *size,
            media: media.as_str(),
            name: name.as_str(),
            at: at.0,
            loose_since: self.loose_since.map(|since| since.0),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredFile = codec::versioned(bytes)?;
        let file = File {
            id: FileId(stored.id.0),
            tenant: TenantId::new(stored.tenant).map_err(damage)?,
            owner: codec::user(stored.owner)?,
            purpose: purpose(stored.room),
            hash: Hash(stored.hash),
            size: stored.size,
            media: codec::media_type(stored.media)?,
            name: codec::file_name(stored.name)?,
            at: Timestamp(stored.at),
        };
        Ok(Self { file, loose_since: stored.loose_since.map(Timestamp) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredFile<'a> {
    id: Id,
    #[serde(borrow)]
    tenant: &'a str,
    owner: &'a str,
    room: Option<Id>,
    hash: [u8; 32],
    size: u64,
    media: &'a str,
    name: &'a str,
    at: i64,
    loose_since: Option<i64>,
}

/// Among the files: before the key of everything that refers to a file, by the file.
const REFERENCES: &[u8] = b"r";

/// In the key of a reference: it is a message's, or a user's.
const BY_MESSAGE: u8 = b'm';
const BY_USER: u8 = b'u';

/// Among the files: before the keys of what refers to a file.
pub fn references(file: FileId) -> Bytes {
    joined(REFERENCES, file.0.as_bytes())
}

/// Among the files: before the keys of the messages that refer to a file.
pub fn references_by_messages(file: FileId) -> Bytes {
    joined(&references(file), &[BY_MESSAGE])
}

/// Among the files: before the keys of the messages of a room that refer to a file.
pub fn references_in(file: FileId, room: RoomId) -> Bytes {
    joined(&references_by_messages(file), room.0.as_bytes())
}

/// Among the files: a row without a value, while the message at `seq` of `room` refers to `file`. Written by the room.
pub fn referred_by_message(file: FileId, room: RoomId, seq: Seq) -> Bytes {
    joined(&references_in(file, room), &seq.0.to_be_bytes())
}

/// Among the files: a row without a value, while `user` has `file` for an avatar. Written with what says so.
pub fn referred_by_user(file: FileId, user: &UserId) -> Bytes {
    joined(&joined(&references(file), &[BY_USER]), user.as_str().as_bytes())
}

/// In which room the message is that [`referred_by_message`] made the key of.
pub fn referring_room(key: &[u8]) -> Result<RoomId, StoreError> {
    let by = key.strip_prefix(REFERENCES).and_then(|key| key.get(16..));
    let room = by.and_then(|by| by.strip_prefix(&[BY_MESSAGE])?.get(..16)).and_then(|id| Uuid::from_slice(id).ok());
    room.map(RoomId).ok_or_else(|| damage("a key that names no message that refers to a file"))
}

/// Among the files: before the key of every [`Unfinished`] upload.
pub const UPLOADS: &[u8] = b"u";

/// An upload that comes in several requests, and is not complete.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfinished {
    pub id: FileId,
    pub tenant: TenantId,
    pub owner: UserId,
    pub purpose: Purpose,
    pub name: FileName,
    /// How large the file will be.
    pub size: u64,
    /// How much of it is on disk.
    pub offset: u64,
    /// When the last of it came.
    pub at: Timestamp,
}

/// Among the files: the [`Unfinished`] upload of this id.
pub fn upload(id: FileId) -> Bytes {
    joined(UPLOADS, id.0.as_bytes())
}

impl Row for Unfinished {
    fn encode(&self) -> Bytes {
        let stored = StoredUpload {
            id: Id(self.id.0),
            tenant: self.tenant.as_str(),
            owner: self.owner.as_str(),
            room: stored_purpose(self.purpose),
            name: self.name.as_str(),
            size: self.size,
            offset: self.offset,
            at: self.at.0,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredUpload = codec::versioned(bytes)?;
        Ok(Self {
            id: FileId(stored.id.0),
            tenant: TenantId::new(stored.tenant).map_err(damage)?,
            owner: codec::user(stored.owner)?,
            purpose: purpose(stored.room),
            name: codec::file_name(stored.name)?,
            size: stored.size,
            offset: stored.offset,
            at: Timestamp(stored.at),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredUpload<'a> {
    id: Id,
    #[serde(borrow)]
    tenant: &'a str,
    owner: &'a str,
    room: Option<Id>,
    name: &'a str,
    size: u64,
    offset: u64,
    at: i64,
}

/// The room that a file is for; none for an avatar.
fn stored_purpose(purpose: Purpose) -> Option<Id> {
    match purpose {
        Purpose::Attachment(room) => Some(Id(room.0)),
        Purpose::Avatar => None,
    }
}

fn purpose(room: Option<Id>) -> Purpose {
    room.map_or(Purpose::Avatar, |room| Purpose::Attachment(RoomId(room.0)))
}

/// Among the files: before the key of the [`Usage`] of every tenant.
pub const USAGES: &[u8] = b"b";

/// How many bytes a tenant's files have, each counted for every upload of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Usage(pub u64);

/// Among the files: the [`Usage`] of a tenant.
pub fn usage(tenant: &TenantId) -> Bytes {
    joined(USAGES, tenant.as_str().as_bytes())
}

/// Whose key [`usage`] made.
pub fn tenant_of(key: &[u8]) -> Result<TenantId, StoreError> {
    let tenant = key.strip_prefix(USAGES).and_then(|tenant| std::str::from_utf8(tenant).ok());
    let tenant = tenant.and_then(|tenant| TenantId::new(tenant).ok());
    tenant.ok_or_else(|| damage("a key that names no tenant"))
}

impl Row for Usage {
    fn encode(&self) -> Bytes {
        codec::version(&self.0).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned(bytes).map(Self)
    }
}

/// Among the files: before the key of every file, by its content.
const CONTENTS: &[u8] = b"c";

/// Among the files: before the keys of the files of this content.
pub fn contents(hash: &Hash) -> Bytes {
    joined(CONTENTS, &hash.0)
}

/// Among the files: a row without a value, for a file of this content.
pub fn content(hash: &Hash, file: FileId) -> Bytes {
    joined(&contents(hash), file.0.as_bytes())
}
