//! What goes into one commit of a room, and who is answered after it.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use super::{Beside, Reply};
use crate::actors::projection::{owe, project};
use crate::actors::retention::Going;
use crate::domain::command::{Decision, Reading};
use crate::domain::{Event, Record, RecordId, Room, RoomEvent, RoomKey, Seq, UserId};
use crate::store::Put;

/// What goes into one commit.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) records: Vec<Record>,
    pub(super) puts: Vec<Put>,
    pub(super) erase: Vec<Seq>,
    pub(super) trim: Option<Seq>,
    pub(super) replies: Vec<Reply>,
    /// Who is told that it is on disk before it is shown to anybody.
    pub(super) written: Vec<oneshot::Sender<()>>,
    /// The last of the records that the audit room is owed; and of those by which somebody reads no more.
    pub(super) owed: Option<Seq>,
    pub(super) lost: Option<Seq>,
    /// Who reads what is decided, or does not any more, from these records on; and who has seen to that himself.
    pub(super) readings: Vec<Reading>,
    pub(super) left: Vec<UserId>,
}

impl Gathered {
    /// Puts up a record that the room has just applied.
    pub(super) fn add(&mut self, key: &RoomKey, room: &Room, record: Record, decision: Option<&Decision>) {
        let mut erase = Vec::new();
        project(key, room, &record, &mut self.puts, &mut erase);
        if let Some(decision) = decision {
            owe(key, room, decision, &mut self.puts);
            self.owed = Some(record.position.seq);
        }
        for seq in erase {
            // What has not been written yet is not written at all.
            match self.records.iter_mut().find(|record| record.position.seq == seq) {
                Some(unwritten) => unwritten.event = Event::Room(RoomEvent::MessageErased),
                None => self.erase.push(seq),
            }
        }
        self.records.push(record);
    }

    /// Puts up rows of others that go with a command.
    pub(super) fn put_beside(&mut self, beside: Option<Beside>) {
        if let Some(Beside { puts, written }) = beside {
            self.puts.extend(puts);
            self.written.push(written);
        }
    }

    /// Puts up what goes with the records that the last one has trimmed.
    pub(super) fn trim(&mut self, going: Going) {
        self.trim = Some(going.until.seq);
        self.puts.extend(going.puts);
        self.erase.extend(going.erase);
    }

    /// The messages that these records change, by the seqs that they were posted at. An edit whose message is deleted
    /// by the same commit is not told apart any more, but then the deletion is there.
    pub(super) fn changed_messages(&self) -> BTreeSet<Seq> {
        self.records.iter().filter_map(changes).collect()
    }

    /// The documents that these records change.
    pub(super) fn changed_documents(&self) -> BTreeSet<RecordId> {
        let changed = self.records.iter().filter_map(|record| match &record.event {
            Event::Room(RoomEvent::DocumentUpdated { document, .. } | RoomEvent::DocumentDeleted { document, .. }) => {
                Some(*document)
            }
            Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => None,
        });
        changed.collect()
    }
}

/// Which message a record changes.
fn changes(record: &Record) -> Option<Seq> {
    match &record.event {
        Event::Room(
            RoomEvent::MessageEdited { message, .. }
            | RoomEvent::MessageDeleted { message, .. }
            | RoomEvent::ReactionAdded { message, .. }
            | RoomEvent::ReactionRemoved { message, .. },
        ) => Some(message.seq()),
        Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => None,
    }
}
