//! What a room reads: itself when it wakes, and what a command refers to, while nothing else happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use bytes::Bytes;

use super::{RoomActor, Submission, Tells};
use crate::actors::blocking::blocks_between;
use crate::actors::failure::read_failed;
use crate::actors::reading::{message_at, rules_of};
use crate::actors::retention::going;
use crate::domain::document::{Document, INDEXES_MAX};
use crate::domain::recent::{AGE_MAX_MS, Recent};
use crate::domain::room::{Ban, Header, Member, Message, Mute, PINS_MAX, Pin, Snapshot};
use crate::domain::{
    Command, Emoji, Position, Record, RecordId, Rights, Role, Room, RoomKey, RoomKind, Seq, StreamId, Timestamp, UserId,
};
use crate::store::rows::documents::{self, DocumentCount, Indexed};
use crate::store::rows::{self, Row};
use crate::store::{Store, StoreError};

/// How many rows are read at once when a room wakes.
const ROWS_PER_SCAN: usize = 1000;

/// How many records are read at once when a room wakes.
const RECORDS_PER_READ: usize = 1000;

/// How many documents are read at once.
const DOCUMENTS_PER_READ: usize = 64;

/// What a room finds when it wakes.
pub(super) struct Woken {
    pub(super) head: Option<Position>,
    pub(super) room: Room,
    pub(super) recent: Recent,
    pub(super) last_at: Timestamp,
    /// What a predecessor had committed and not published.
    pub(super) unpublished: Vec<Record>,
    /// It has not handed everything to its audit room.
    pub(super) owes: bool,
}

impl RoomActor {
    /// Gets the message that a command refers to, and what its sender feels about it where that matters; nothing else
    /// happens meanwhile.
    pub(super) fn load(&mut self, target: RecordId, submit: Submission, ctx: &mut Context<Self>) {
        let reactor = submit.command.reacts().then(|| submit.by.user.clone());
        let load = load(Arc::clone(self.registry.store()), self.key.clone(), target, reactor);
        self.held = true;
        ctx.wait(load.into_actor(self).map(move |loaded, room, ctx| {
            room.held = false;
            match loaded {
                Ok(loaded) => {
                    if let Some((message, reactions)) = loaded {
                        let target = message.id;
                        room.room.know(message);
                        if let Some(reactions) = reactions {
                            room.room.know_reactions(target, submit.by.user.clone(), reactions);
                        }
                    }
                    room.consider(submit, ctx);
                }
                Err(error) => room.answer(submit.asker, Err(read_failed(&error)), Tells::default()),
            }
            room.work(ctx);
        }));
    }

    /// Gets the documents that a command is about; nothing else happens meanwhile.
    pub(super) fn load_documents(&mut self, ids: Vec<RecordId>, submit: Submission, ctx: &mut Context<Self>) {
        let load = documents_at(Arc::clone(self.registry.store()), self.key.clone(), ids);
        self.held = true;
        ctx.wait(load.into_actor(self).map(move |loaded, room, ctx| {
            room.held = false;
            match loaded {
                Ok(loaded) => {
                    for (id, document) in loaded {
                        room.room.know_document(id, document);
                    }
                    room.consider(submit, ctx);
                }
                Err(error) => room.answer(submit.asker, Err(read_failed(&error)), Tells::default()),
            }
            room.work(ctx);
        }));
    }

    /// Gets what goes with the room's oldest records; nothing else happens meanwhile, and nothing of the room is on its way
    /// to the disk.
    pub(super) fn load_going(
        &mut self,
        until: Position,
        at: Timestamp,
        mut submit: Submission,
        ctx: &mut Context<Self>,
    ) {
        let trimmed = self.room.header().map_or(Seq::ZERO, |header| header.trimmed.seq);
        let load = going(Arc::clone(self.registry.store()), self.key.clone(), trimmed, until, at);
        self.held = true;
        ctx.wait(load.into_actor(self).map(move |loaded, room, ctx| {
            room.held = false;
            match loaded {
                Ok(going) => {
                    if let Command::Trim { until, at, .. } = &mut submit.command {
                        (*until, *at) = (going.until, going.at);
                    }
                    room.going = Some(going);
                    room.consider(submit, ctx);
                    // It stays where nums have to be leased first, and nothing else is looked at until then.
                    room.going = room.going.take().filter(|_| room.held);
                }
                Err(error) => room.answer(submit.asker, Err(read_failed(&error)), Tells::default()),
            }
            room.work(ctx);
        }));
    }
}

/// Reads a room as it is on disk, after whatever a predecessor had under way has settled. That one had published the
/// records up to `published`; zero says that there was none.
pub(super) async fn wake(
    store: Arc<dyn Store>,
    key: RoomKey,
    published: Seq,
    now: Timestamp,
) -> Result<Woken, StoreError> {
    let stream = key.stream();
    let Some(head) = store.settle(&stream).await? else {
        let (recent, unpublished) = (Recent::default(), Vec::new());
        return Ok(Woken {
            head: None,
            room: Room::default(),
            recent,
            last_at: Timestamp(0),
            unpublished,
            owes: false,
        });
    };
    let header = store.get(&stream, rows::HEADER).await?;
    let header = header.ok_or_else(|| StoreError::Damaged(format!("room {} has no header", key.room)))?;
    let mut members = BTreeMap::<UserId, Member>::new();
    scan(&*store, &key, rows::MEMBERS, |user, row| {
        members.insert(user, Member::decode(row)?);
        Ok(())
    })
    .await?;
    let mut invited = BTreeMap::<UserId, Role>::new();
    scan(&*store, &key, rows::INVITATIONS, |user, row| {
        invited.insert(user, Role::decode(row)?);
        Ok(())
    })
    .await?;
    let mut bans = BTreeMap::<UserId, Ban>::new();
    scan(&*store, &key, rows::BANS, |user, row| {
        bans.insert(user, Ban::decode(row)?);
        Ok(())
    })
    .await?;
    let mut mutes = BTreeMap::<UserId, Mute>::new();
    scan(&*store, &key, rows::MUTES, |user, row| {
        mutes.insert(user, Mute::decode(row)?);
        Ok(())
    })
    .await?;
    let mut rights = BTreeMap::<UserId, Rights>::new();
    scan(&*store, &key, rows::RIGHTS, |user, row| {
        rights.insert(user, Rights::decode(row)?);
        Ok(())
    })
    .await?;
    let mut pins = BTreeMap::new();
    for (_, row) in store.scan(&stream, rows::PINS, None, PINS_MAX).await? {
        let pin = Pin::decode(&row)?;
        pins.insert(pin.message.seq(), pin);
    }
    let header = Header::decode(&header)?;
    let blocks = if header.kind == RoomKind::Direct { blocks_between(&*store, &key).await? } else { BTreeSet::new() };
    let rules = rules_of(&*store, &stream).await?.into();
    let owes = header.audited && !store.scan(&StreamId::Owed, &rows::owed_by(&key), None, 1).await?.is_empty();
    let taken = match header.kind {
        RoomKind::Audit => store.get(&stream, rows::TAKEN).await?,
        RoomKind::Channel
        | RoomKind::Group
        | RoomKind::Direct
        | RoomKind::Box
        | RoomKind::Canvas
        | RoomKind::Collection => None,
    };
    let count = match header.kind {
        RoomKind::Collection => store.get(&stream, documents::DOCUMENT_COUNT).await?,
        RoomKind::Channel | RoomKind::Group | RoomKind::Direct | RoomKind::Box | RoomKind::Canvas | RoomKind::Audit => {
            None
        }
    };
    let mut indexes = BTreeMap::new();
    if header.kind == RoomKind::Collection {
        for (key, row) in store.scan(&stream, documents::INDEXES, None, INDEXES_MAX).await? {
            indexes.insert(documents::path_of(&key)?.into(), Indexed::decode(&row)?.built);
        }
    }
    let DocumentCount(documents) = count.map(|row| Row::decode(&row)).transpose()?.unwrap_or_default();
    let taken = taken.map(|row| Position::decode(&row)).transpose()?;
    let snapshot = Snapshot {
        head,
        header,
        members,
        invited,
        bans,
        mutes,
        rights,
        blocks,
        rules,
        pins,
        taken,
        documents,
        indexes,
    };
    let mut room = Room::restore(snapshot);

    let (mut recent, mut last_at, mut unpublished) = (Recent::default(), Timestamp(0), Vec::new());
    let since = Timestamp(now.0.saturating_sub(AGE_MAX_MS));
    let mut after = remembered_after(&*store, &stream, head.seq, since).await?;
    if published != Seq::ZERO {
        after = after.min(published);
    }
    loop {
        let page = store.read(&stream, after, RECORDS_PER_READ).await?;
        for record in &page.records {
            recent.apply(record);
            room.recall(record);
            last_at = last_at.max(record.at);
            if published != Seq::ZERO && record.position.seq > published {
                unpublished.push(record.clone());
            }
        }
        match page.records.last() {
            Some(last) if !page.complete => after = last.position.seq,
            Some(_) | None => break,
        }
    }
    Ok(Woken { head: Some(head), room, recent, last_at, unpublished, owes })
}

/// After which seq the records lie that a room remembers the client ids of: not too many, and none from before
/// `since`. Times never go backwards within a room, so the place is found in a few reads.
async fn remembered_after(
    store: &dyn Store,
    stream: &StreamId,
    head: Seq,
    since: Timestamp,
) -> Result<Seq, StoreError> {
    // Everything up to `low` is too old; the head itself is always read, for its time.
    let (mut low, mut high) = (Recent::tail_from(head), Seq(head.0.saturating_sub(1)));
    while low < high {
        let middle = Seq(low.0 + (high.0 - low.0) / 2);
        let page = store.read(stream, middle, 1).await?;
        match page.records.first() {
            Some(record) if record.at < since => low = record.position.seq,
            Some(_) | None => high = middle,
        }
    }
    Ok(low)
}

async fn scan(
    store: &dyn Store,
    key: &RoomKey,
    prefix: &[u8],
    mut each: impl FnMut(UserId, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let stream = key.stream();
    let mut after: Option<Bytes> = None;
    loop {
        let found = store.scan(&stream, prefix, after.as_deref(), ROWS_PER_SCAN).await?;
        for (row_key, row) in &found {
            each(rows::user_of(row_key)?, row)?;
        }
        match found.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// Loads what the rules have to know of a message, and what `reactor` feels about it; `None` when there is none of this
/// id.
async fn load(
    store: Arc<dyn Store>,
    key: RoomKey,
    id: RecordId,
    reactor: Option<UserId>,
) -> Result<Option<(Message, Option<BTreeSet<Emoji>>)>, StoreError> {
    let stream = key.stream();
    let Some(message) = message_at(&*store, &stream, id).await? else { return Ok(None) };
    let Some(reactor) = reactor else { return Ok(Some((message, None))) };
    let row = store.get(&stream, &rows::reactions_of(id.seq(), &reactor)).await?;
    let reactions = row.map(|row| Row::decode(&row)).transpose()?.unwrap_or_default();
    Ok(Some((message, Some(reactions))))
}

/// The documents of these ids, each `None` where there is none.
async fn documents_at(
    store: Arc<dyn Store>,
    key: RoomKey,
    ids: Vec<RecordId>,
) -> Result<Vec<(RecordId, Option<Document>)>, StoreError> {
    let stream = key.stream();
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(DOCUMENTS_PER_READ) {
        let keys: Vec<Bytes> = ids.iter().map(|id| documents::document(id.seq())).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        for (id, row) in ids.iter().zip(store.get_all(&stream, &keys).await?) {
            let document = row.map(|row| Document::decode(&row)).transpose()?;
            found.push((*id, document.filter(|document| document.id == *id)));
        }
    }
    Ok(found)
}
