//! What devices were shown and what people were answered: notes, and no judgement.
//!
//! Knows no sockets, so that the recount can be given notes that are wrong on purpose.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A record as it came, without what is only about the connection that it came by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub seq: u64,
    pub text: Arc<str>,
}

/// Keeps each text once, however many devices were shown it.
#[derive(Default)]
pub struct Texts(Mutex<HashSet<Arc<str>>>);

impl Texts {
    pub fn shown(&self, mut record: Value) -> Shown {
        if let Some(members) = record.as_object_mut() {
            members.remove("world");
        }
        let (seq, text) = (record["seq"].as_u64().unwrap_or(0), record.to_string());
        let mut texts = self.0.lock().expect("nobody panics holding this");
        let text = match texts.get(text.as_str()) {
            Some(text) => Arc::clone(text),
            None => {
                let text: Arc<str> = text.into();
                texts.insert(Arc::clone(&text));
                text
            }
        };
        Shown { seq, text }
    }
}

/// Where a device began with a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begun {
    /// Right behind this seq.
    At(u64),
    /// With the membership, or behind a seq from the first to the second where that is later.
    Between(u64, u64),
}

/// What came of one room by one device without its asking for the room again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    pub begun: Begun,
    /// Where the room ended when that was asked for; only of a follow of one room.
    pub head: Option<u64>,
    pub shown: Vec<Shown>,
}

/// What one device was shown of everything.
#[derive(Clone, Default, Debug)]
pub struct View {
    /// All rooms under one cursor. Then each room has one stretch.
    pub world: bool,
    pub rooms: BTreeMap<String, Vec<Stretch>>,
    /// Of each room what it was told to be passed over: the first and the last seq.
    pub gaps: Vec<(String, u64, u64)>,
    /// It is connected, and follows.
    pub on: bool,
    /// What it says of its user.
    pub presence: Option<&'static str>,
}

/// What was acknowledged of a post, an edit or a deletion.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    pub room: String,
    pub client_id: String,
    pub seq: u64,
    pub record: String,
    /// The event that has to stand there.
    pub event: &'static str,
    /// What was said, if something was.
    pub text: Option<String>,
}

/// What a room is to a user, as was acknowledged.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Entry {
    pub delivered_to: u64,
    pub read_to: u64,
    /// How far others may know that messages have come to the user, and that it has read.
    pub known_to: u64,
    pub shown_to: u64,
    pub muted_until: Option<i64>,
    pub pinned: bool,
    pub archived: bool,
    pub draft: Option<String>,
    /// Something may have been carried out that was never answered with more than a refusal.
    pub doubtful: bool,
}

/// What one user was answered.
#[derive(Clone, Default, Debug)]
pub struct Book {
    pub acknowledged: Vec<Acknowledged>,
    pub entries: BTreeMap<String, Entry>,
    /// Of each room, the messages that the user does not want to see.
    pub hidden: BTreeMap<String, BTreeSet<String>>,
    pub private: bool,
    pub invisible: bool,
    pub name: Option<String>,
}
