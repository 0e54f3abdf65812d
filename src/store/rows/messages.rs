//! The rows of a room's messages: each as it is now, threads, reactions, pins.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Row, joined};
use crate::domain::room::{Message, Pin};
use crate::domain::{Emoji, Epoch, FileId, Position, RecordId, Seq, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::codec::{self, Id, damage};

/// Under a room's stream: before the key of every [`Message`].
pub const MESSAGES: &[u8] = b"s";

/// Under a room's stream: the [`Message`] that was posted at `seq`. Keys are in the order of the seqs.
pub fn message(seq: Seq) -> Bytes {
    joined(MESSAGES, &seq.0.to_be_bytes())
}

impl Row for Message {
    fn encode(&self) -> Bytes {
        let stored = StoredMessage {
            id: Id(self.id.0),
            author: self.author.as_str(),
            edits: self.edits.iter().map(|seq| seq.0).collect(),
            deleted: self.deleted,
            thread: self.thread.map(|thread| Id(thread.0)),
            reactions: self.reactions.iter().map(|(emoji, count)| (emoji.as_str(), *count)).collect(),
            forwarded: self.forwarded,
            files: self.files.iter().map(|file| Id(file.0)).collect(),
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredMessage = codec::versioned(bytes)?;
        Ok(Self {
            id: RecordId(stored.id.0),
            author: codec::user(stored.author)?,
            edits: stored.edits.into_iter().map(Seq).collect(),
            deleted: stored.deleted,
            thread: stored.thread.map(|thread| RecordId(thread.0)),
            forwarded: stored.forwarded,
            files: stored.files.into_iter().map(|file| FileId(file.0)).collect(),
            reactions: stored
                .reactions
                .into_iter()
                .map(|(emoji, count)| Ok((codec::emoji(emoji)?, count)))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredMessage<'a> {
    id: Id,
    #[serde(borrow)]
    author: &'a str,
    edits: Vec<u64>,
    deleted: bool,
    /// Rows that were written before there were threads, reactions and forwards have none.
    #[serde(default)]
    thread: Option<Id>,
    #[serde(default)]
    reactions: Vec<(&'a str, u32)>,
    #[serde(default)]
    forwarded: bool,
    #[serde(default)]
    files: Vec<Id>,
}

/// Under a room's stream: before the key of every reply, by its thread.
const THREADS: &[u8] = b"t";

/// Under a room's stream: before the keys of the replies of the thread that began at `root`.
pub fn thread(root: Seq) -> Bytes {
    joined(THREADS, &root.0.to_be_bytes())
}

/// Under a room's stream: a row without a value, for the reply at `seq` in the thread that began at `root`. Keys are in
/// the order of the seqs.
pub fn threaded(root: Seq, seq: Seq) -> Bytes {
    joined(&thread(root), &seq.0.to_be_bytes())
}

/// At which seq the reply is that [`threaded`] made the key of.
pub fn seq_of(key: &[u8]) -> Result<Seq, StoreError> {
    let seq = key.strip_prefix(THREADS).and_then(|key| key.get(8..)).and_then(|seq| seq.try_into().ok());
    Ok(Seq(u64::from_be_bytes(seq.ok_or_else(|| damage("a key that names no reply"))?)))
}

/// Under a room's stream: before the key of what every user feels about a message, by the message.
pub const REACTIONS: &[u8] = b"e";

/// Under a room's stream: before the keys of what users feel about the message that was posted at `seq`.
pub fn reactions(seq: Seq) -> Bytes {
    joined(REACTIONS, &seq.0.to_be_bytes())
}

/// Under a room's stream: the emojis with which `user` has reacted to the message that was posted at `seq`. Keys are in
/// the order of the users.
pub fn reactions_of(seq: Seq, user: &UserId) -> Bytes {
    joined(&reactions(seq), user.as_str().as_bytes())
}

/// Whose key [`reactions_of`] made.
pub fn reactor_of(key: &[u8]) -> Result<UserId, StoreError> {
    let user = key.strip_prefix(REACTIONS).and_then(|key| key.get(8..)).and_then(|user| std::str::from_utf8(user).ok());
    codec::user(user.ok_or_else(|| damage("a key that names nobody who reacted"))?)
}

/// What one user feels about one message.
impl Row for BTreeSet<Emoji> {
    fn encode(&self) -> Bytes {
        let emojis: Vec<&str> = self.iter().map(Emoji::as_str).collect();
        codec::version(&emojis).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        codec::versioned::<Vec<&str>>(bytes)?.into_iter().map(codec::emoji).collect()
    }
}

/// Under a room's stream: before the key of every [`Pin`].
pub const PINS: &[u8] = b"f";

/// Under a room's stream: the [`Pin`] of the message that was posted at `seq`.
pub fn pin(seq: Seq) -> Bytes {
    joined(PINS, &seq.0.to_be_bytes())
}

impl Row for Pin {
    fn encode(&self) -> Bytes {
        let stored = StoredPin {
            message: Id(self.message.0),
            by: self.by.as_str(),
            epoch: self.position.epoch.0,
            seq: self.position.seq.0,
            at: self.at.0,
        };
        codec::version(&stored).into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let stored: StoredPin = codec::versioned(bytes)?;
        Ok(Self {
            message: RecordId(stored.message.0),
            by: codec::user(stored.by)?,
            position: Position { epoch: Epoch(stored.epoch), seq: Seq(stored.seq) },
            at: Timestamp(stored.at),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct StoredPin<'a> {
    message: Id,
    #[serde(borrow)]
    by: &'a str,
    epoch: u64,
    seq: u64,
    at: i64,
}

/// Of which message, by where it was posted, [`message`], [`reactions_of`] or [`pin`] made the key.
pub fn message_of(key: &[u8]) -> Result<Seq, StoreError> {
    let seq = [MESSAGES, REACTIONS, PINS].into_iter().find_map(|prefix| key.strip_prefix(prefix));
    let seq = seq.and_then(|seq| seq.first_chunk()).map(|seq| Seq(u64::from_be_bytes(*seq)));
    seq.ok_or_else(|| damage("a key that names no message"))
}
