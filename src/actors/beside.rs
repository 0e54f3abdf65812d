//! What goes beside the messages of an answer: what they say now, and what users feel about them.
//!
//! Records are shown as they were recorded. Who reads one page of them cannot know what came of its messages later, so
//! that is read from the messages' rows.

use std::collections::{BTreeMap, BTreeSet};

use super::reading::{all, record_at};
use crate::domain::room::Message;
use crate::domain::{Content, Emoji, Event, Record, RecordId, RoomEvent, Seq, StreamId, UserId};
use crate::store::rows::{self, Row};
use crate::store::{PAGE_BYTES, Store, StoreError};
use crate::wire::{Beside, Edited, Tally};

/// The most that the messages of one answer say, as they were posted and as they are now.
const CONTENT_BYTES_MAX: usize = 2 * PAGE_BYTES;

/// Records that make one answer.
pub struct Shown {
    pub records: Vec<Record>,
    pub beside: Beside,
    /// None has been left out.
    pub complete: bool,
}

/// Which records are left out where not all can be shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaveOut {
    First,
    Last,
}

/// Takes as many of `records` as an answer holds together with what they say now; at least one.
pub async fn shown(
    store: &dyn Store,
    stream: &StreamId,
    user: &UserId,
    mut records: Vec<Record>,
    leave_out: LeaveOut,
) -> Result<Shown, StoreError> {
    let mut messages = messages(store, stream, &records).await?;
    let (mut edited, mut bytes, mut kept) = (BTreeMap::new(), 0, 0);
    for step in 0..records.len() {
        let index = match leave_out {
            LeaveOut::First => records.len() - 1 - step,
            LeaveOut::Last => step,
        };
        let record = &records[index];
        let edit = messages.get(&record.position.seq).and_then(|message| message.edits.last());
        let edit = match edit {
            Some(seq) => edit_of(store, stream, record, *seq, &records).await?,
            None => None,
        };
        bytes += said_bytes(record)
            + edit.as_ref().map_or(0, |edit| bytes_of(&edit.version.content, &edit.version.mentions));
        if bytes > CONTENT_BYTES_MAX && kept > 0 {
            break;
        }
        kept += 1;
        edited.extend(edit.map(|edit| (index, edit)));
    }
    let left_out = records.len() - kept;
    match leave_out {
        LeaveOut::First => drop(records.drain(..left_out)),
        LeaveOut::Last => records.truncate(kept),
    }
    let shown = records.iter().filter_map(|record| messages.remove(&record.position.seq)).collect();
    let reactions = tallies(store, stream, user, shown).await?;
    let edited = edited.into_values().collect();
    let hidden = hidden(store, stream, user, &records).await?;
    Ok(Shown { records, beside: Beside { reactions, edited, hidden }, complete: left_out == 0 })
}

/// How much a record says.
pub fn said_bytes(record: &Record) -> usize {
    let Event::Room(event) = &record.event else { return 0 };
    event.said().map_or(0, |(content, mentions)| bytes_of(content, mentions))
}

fn bytes_of(content: &Content, mentions: &[UserId]) -> usize {
    content.bytes() + mentions.iter().map(|user| user.as_str().len()).sum::<usize>()
}

/// What is known of those of `records` that are messages of which something is known besides.
async fn messages(
    store: &dyn Store,
    stream: &StreamId,
    records: &[Record],
) -> Result<BTreeMap<Seq, Message>, StoreError> {
    let posted = records.iter().filter(|record| matches!(record.event, Event::Room(RoomEvent::MessagePosted { .. })));
    let keys: Vec<_> = posted.clone().map(|record| rows::message(record.position.seq)).collect();
    let mut messages = BTreeMap::new();
    for (record, row) in posted.zip(all(store, stream, &keys).await?) {
        let Some(message) = row.map(|row| Message::decode(&row)).transpose()? else { continue };
        // After a loss that the operator accepted the row may be that of a message that is gone.
        if message.id == record.id {
            messages.insert(record.position.seq, message);
        }
    }
    Ok(messages)
}

/// What the edit at `seq` has made of `message`; `None` where that has been erased meanwhile.
async fn edit_of(
    store: &dyn Store,
    stream: &StreamId,
    message: &Record,
    seq: Seq,
    page: &[Record],
) -> Result<Option<Edited>, StoreError> {
    let read;
    let edit = match page.iter().find(|record| record.position.seq == seq) {
        Some(edit) => Some(edit),
        None => {
            read = record_at(store, stream, seq).await?;
            read.as_ref()
        }
    };
    Ok(edit.and_then(Edited::of).filter(|edited| edited.message == message.id))
}

/// What users feel about `messages`, and whether `user` is one of them.
async fn tallies(
    store: &dyn Store,
    stream: &StreamId,
    user: &UserId,
    mut messages: Vec<Message>,
) -> Result<Vec<Tally>, StoreError> {
    messages.retain(|message| !message.reactions.is_empty());
    let keys: Vec<_> = messages.iter().map(|message| rows::reactions_of(message.id.seq(), user)).collect();
    let own = all(store, stream, &keys).await?;
    let mut tallies = Vec::new();
    for (message, own) in messages.into_iter().zip(own) {
        let own: BTreeSet<Emoji> = own.map(|row| Row::decode(&row)).transpose()?.unwrap_or_default();
        let tally = |(emoji, count)| Tally { message: message.id, mine: own.contains(&emoji), emoji, count };
        tallies.extend(message.reactions.into_iter().map(tally));
    }
    Ok(tallies)
}

/// Which of `records`, that are in any order, are messages that `user` does not want to see.
async fn hidden(
    store: &dyn Store,
    stream: &StreamId,
    user: &UserId,
    records: &[Record],
) -> Result<Vec<RecordId>, StoreError> {
    let StreamId::Room(room) = stream else { return Ok(Vec::new()) };
    let own = StreamId::User(room.tenant.clone(), user.clone());
    let posted = records.iter().filter(|record| matches!(record.event, Event::Room(RoomEvent::MessagePosted { .. })));
    let keys: Vec<_> = posted.map(|record| rows::hidden(room.room, record.position.seq)).collect();
    let found = all(store, &own, &keys).await?;
    let known = |id: &RecordId| records.iter().any(|record| record.id == *id);
    let hidden = found.iter().flatten().map(|row| RecordId::decode(row));
    hidden.filter(|id| id.as_ref().map_or(true, known)).collect()
}
