//! The rows of a user: rooms, inbox, settings, blocks, profile.

use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Row, joined};
use crate::domain::inbox::{Entry, Reached, Settings};
use crate::domain::policy::{Role, RoomKind, Standing};
use crate::domain::profile::{Avatar, ContactHash, Email, Introduction, Telephone};
use crate::domain::{Content, FileId, Name, Position, Profile, RoomId, Seq, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::{self, Id, StoredAudience, StoredKind, StoredReached, StoredRole, damage};

/// Under a user's stream: before the key of every [`Place`].
pub const PLACES: &[u8] = b"p";

/// A room in a user's list: as a member, or as somebody invited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub kind: RoomKind,
    pub role: Role,
    pub standing: Standing,
    /// The record by which the membership began; 0 for who is invited, and in rows of before they said so.
    pub joined: Seq,
}

/// Under a user's stream: the [`Place`] of `room` in the user's list.
pub fn place(room: RoomId) -> Bytes {
    joined(PLACES, room.0.as_bytes())
}

impl Row for Place {
    fn encode(&self) -> Bytes {
        let invited = match self.standing {
            Standing::Member => false,
            Standing::Invited => true,
        };
        let (kind, role, joined) = (self.kind.into(), self.role.into(), self.joined.0);
        codec::version(&StoredPlace { kind, role, invited, joined }).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredPlace = codec::versioned(bytes)?;
        let standing = if stored.invited { Standing::Invited } else { Standing::Member };
        Ok(Self { kind: stored.kind.into(), role: stored.role.into(), standing, joined: Seq(stored.joined) })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPlace {
    kind: StoredKind,
    role: StoredRole,
    invited: bool,
    #[serde(default)]
    joined: u64,
}

/// Under a user's stream: before the key of every [`Kept`] entry of the inbox. By itself it is [`INTRODUCTION`].
pub const ENTRIES: &[u8] = b"k";

/// An entry of a user's inbox as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub entry: Entry,
    /// How far others know that the user has read.
    pub shown: Reached,
    /// Where in the user's stream it has changed last.
    pub changed: Position,
}

impl Default for Kept {
    fn default() -> Self {
        let Reached(nowhere) = Reached::NOTHING;
        Self { entry: Entry::default(), shown: Reached::NOTHING, changed: nowhere }
    }
}

/// Under a user's stream: the [`Kept`] entry of `room`.
pub fn entry(room: RoomId) -> Bytes {
    joined(ENTRIES, room.0.as_bytes())
}

impl Row for Kept {
    fn encode(&self) -> Bytes {
        let Entry { delivered, read, muted_until, pinned, archived, draft } = &self.entry;
        let stored = StoredEntry {
            delivered: (*delivered).into(),
            read: (*read).into(),
            shown: self.shown.into(),
            muted_until: muted_until.map(|until| until.0),
            pinned: *pinned,
            archived: *archived,
            draft: draft.as_deref(),
            changed: Reached(self.changed).into(),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredEntry { delivered, read, shown, muted_until, pinned, archived, draft, changed } =
            codec::versioned(bytes)?;
        let muted_until = muted_until.map(Timestamp);
        let (delivered, read, draft) = (delivered.into(), read.into(), draft.map(Arc::from));
        let entry = Entry { delivered, read, muted_until, pinned, archived, draft };
        let Reached(changed) = changed.into();
        Ok(Self { entry, shown: shown.into(), changed })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredEntry<'a> {
    delivered: StoredReached,
    read: StoredReached,
    shown: StoredReached,
    muted_until: Option<i64>,
    pinned: bool,
    archived: bool,
    #[serde(borrow)]
    draft: Option<&'a str>,
    changed: StoredReached,
}

/// Of which room [`place`] or [`entry`] made the key.
pub fn room_of(key: &[u8]) -> Result<RoomId, StoreError> {
    let id = key.strip_prefix(PLACES).or_else(|| key.strip_prefix(ENTRIES));
    let id = id.and_then(|id| Uuid::from_slice(id).ok());
    id.map(RoomId).ok_or_else(|| damage("a key that names no room"))
}

/// Under a user's stream: before the key of every message that the user does not want to see, a
/// [`RecordId`](crate::domain::RecordId).
pub const HIDDEN: &[u8] = b"x";

/// Under a user's stream: before the keys of the messages of `room` that the user does not want to see.
pub fn hidden_in(room: RoomId) -> Bytes {
    joined(HIDDEN, room.0.as_bytes())
}

/// Under a user's stream: the [`RecordId`](crate::domain::RecordId) of the message at `seq` of `room`, which the user does
/// not want to see. Keys are in the order of the seqs.
pub fn hidden(room: RoomId, seq: Seq) -> Bytes {
    joined(&hidden_in(room), &seq.0.to_be_bytes())
}

/// Under a user's stream: before the key, a row without a value, of everybody whom the user has blocked.
pub const BLOCKS: &[u8] = b"y";

/// Under a user's stream: that `user` is blocked.
pub fn block(user: &UserId) -> Bytes {
    joined(BLOCKS, user.as_str().as_bytes())
}

/// Under a user's stream: the [`Settings`].
pub const SETTINGS: &[u8] = b"o";

impl Row for Settings {
    fn encode(&self) -> Bytes {
        codec::version(&(self.private_reading, StoredAudience::from(self.contacts), self.invisible)).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        // Older rows are one value, and then two.
        let first = || codec::versioned(bytes).map(|private_reading| (private_reading, StoredAudience::default()));
        let second =
            || codec::versioned(bytes).or_else(|_| first()).map(|(reading, contacts)| (reading, contacts, false));
        let (private_reading, contacts, invisible) = codec::versioned(bytes).or_else(|_| second())?;
        Ok(Self { private_reading, contacts: contacts.into(), invisible })
    }
}

/// Under a user's stream: when the user was last seen, a [`Timestamp`].
pub const LAST_SEEN: &[u8] = b"z";

/// Under a user's stream: the [`Profile`].
pub const PROFILE: &[u8] = b"n";

impl Row for Profile {
    fn encode(&self) -> Bytes {
        let stored = StoredProfile {
            name: self.name.as_ref().map(Name::as_str),
            avatar: match &self.avatar {
                Some(Avatar::Address(address)) => Some(address),
                Some(Avatar::File(_)) | None => None,
            },
            about: self.about.as_ref().map(Name::as_str),
            email: self.email.as_ref().map(Email::as_str),
            telephone: self.telephone.as_ref().map(Telephone::as_str),
            text: self.fields.text.as_deref(),
            body: self.fields.body.as_deref(),
            avatar_file: self.avatar.as_ref().and_then(Avatar::file).map(|file| Id(file.0)),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredProfile = codec::versioned(bytes)?;
        Ok(Self {
            name: codec::name(stored.name)?,
            avatar: match stored.avatar_file {
                Some(file) => Some(Avatar::File(FileId(file.0))),
                None => stored.avatar.map(|address| Avatar::Address(address.into())),
            },
            about: codec::name(stored.about)?,
            email: stored.email.map(Email::new).transpose().map_err(damage)?,
            telephone: stored.telephone.map(Telephone::new).transpose().map_err(damage)?,
            fields: Content { text: stored.text.map(Arc::from), body: stored.body.map(Arc::from) },
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredProfile<'a> {
    #[serde(borrow)]
    name: Option<&'a str>,
    avatar: Option<&'a str>,
    about: Option<&'a str>,
    email: Option<&'a str>,
    telephone: Option<&'a str>,
    text: Option<&'a str>,
    body: Option<&'a str>,
    /// In the place of `avatar`.
    #[serde(default)]
    avatar_file: Option<Id>,
}

/// By what a user can be found, who says this of itself.
pub fn contact_hashes(profile: &Profile) -> Vec<ContactHash> {
    let email = profile.email.as_ref().map(Email::normal);
    let telephone = profile.telephone.as_ref().map(|telephone| telephone.as_str().to_owned());
    let contacts = email.into_iter().chain(telephone);
    let hash = |contact: String| digest::digest(&digest::SHA256, contact.as_bytes());
    let of_bytes = |hash: &digest::Digest| hash.as_ref().try_into().expect("SHA-256 has 32 bytes");
    contacts.map(|contact| ContactHash(of_bytes(&hash(contact)))).collect()
}

/// Under a user's stream: what tokens have said of the user, an [`Introduction`]. Whoever reads [`ENTRIES`] meets it.
pub const INTRODUCTION: &[u8] = b"k";

impl Row for Introduction {
    fn encode(&self) -> Bytes {
        let avatar = match &self.avatar {
            Some(Avatar::Address(address)) => Some(&**address),
            Some(Avatar::File(_)) | None => None,
        };
        let stored = StoredIntroduction {
            name: self.name.as_ref().map(Name::as_str),
            avatar,
            about: self.about.as_ref().map(Name::as_str),
            email: self.email.as_ref().map(Email::as_str),
            telephone: self.telephone.as_ref().map(Telephone::as_str),
            wins: self.wins,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let StoredIntroduction { name, avatar, about, email, telephone, wins } = codec::versioned(bytes)?;
        Ok(Self {
            name: codec::name(name)?,
            avatar: avatar.map(|address| Avatar::Address(address.into())),
            about: codec::name(about)?,
            email: email.map(Email::new).transpose().map_err(damage)?,
            telephone: telephone.map(Telephone::new).transpose().map_err(damage)?,
            wins,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredIntroduction<'a> {
    #[serde(borrow)]
    name: Option<&'a str>,
    avatar: Option<&'a str>,
    about: Option<&'a str>,
    email: Option<&'a str>,
    telephone: Option<&'a str>,
    wins: bool,
}
