//! A user's view of all rooms: the latest first, with the last message of each and what is unread, and what has changed
//! in the user's inbox since some place.
//!
//! Nothing is kept for it but what the user has said. What is unread follows from the rooms' logs; see
//! [`domain::inbox`](crate::domain::inbox).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::digests::Digested;
use super::failure::read_failed;
use super::registry::Registry;
use crate::domain::inbox::{Reached, Unread};
use crate::domain::policy::Standing;
use crate::domain::room::Member;
use crate::domain::{Position, Principal, RoomId, RoomKey, Seq, StreamId, UserId};
use crate::store::rows::{self, Kept, Place, Row};
use crate::store::{Store, StoreError};
use crate::wire::{Activity, Change, Changes, Inbox, InboxRoom, Refusal};

/// How many rooms are looked at before others have their turn on the thread.
const ROOMS_PER_TURN: usize = 128;

/// How many logs are read at the same time.
const READS_AT_ONCE: usize = 8;

/// How many rows are read at once.
const ROWS_PER_SCAN: usize = 1000;

/// About how many bytes of rooms are told at once.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

/// What is asked of an inbox.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Those that the user has put away, or the others.
    pub archived: bool,
    pub after: Option<Activity>,
    pub limit: usize,
}

/// The user's rooms, the one with the latest message first.
pub async fn overview(registry: Arc<Registry>, by: Principal, wanted: Wanted) -> Result<Inbox, Refusal> {
    let look = async {
        let stream = StreamId::User(by.tenant.clone(), by.user.clone());
        let store = &**registry.store();
        // Before the rest: what changes meanwhile is told again.
        let cursor = store.head(&stream).await?;
        let places = members_of(store, &stream).await?;
        let entries = entries_of(store, &stream).await?;
        let (mut rooms, mut missing) = (Vec::with_capacity(places.len()), Vec::new());
        for places in places.chunks(ROOMS_PER_TURN) {
            let streams = places.iter().map(|(room, _)| key(&by, *room).stream()).collect();
            let heads = store.positions_at(streams, store.mark()).await?;
            for ((room, place), at) in places.iter().zip(heads) {
                let Some(head) = at.head else { continue };
                let entry = entries.get(room).cloned().unwrap_or_default();
                let floor = entry.entry.read.0.seq.max(place.joined);
                match registry.digests().peek(&key(&by, *room), head, floor) {
                    Some(digested) => rooms.push(seen(&by.user, *room, place, entry, &digested)),
                    None => missing.push((*room, place.clone(), entry, floor)),
                }
            }
            tokio::task::yield_now().await;
        }
        let loads = missing.into_iter().map(|(room, place, entry, floor)| {
            let (registry, by) = (&registry, &by);
            async move {
                let digested = registry.digests().load(store, &key(by, room), floor).await?;
                Ok::<_, StoreError>(digested.map(|digested| seen(&by.user, room, &place, entry, &digested)))
            }
        });
        let loaded: Vec<_> = stream::iter(loads).buffer_unordered(READS_AT_ONCE).try_collect().await?;
        rooms.extend(loaded.into_iter().flatten());
        Ok::<_, StoreError>((rooms, cursor))
    };
    let (mut rooms, cursor) = look.await.map_err(|error| read_failed(&error))?;
    let now = registry.now();
    let counts = rooms.iter().filter(|room| !room.entry.archived && !room.entry.is_muted(now));
    let (unread, mentions) = counts.fold((0, 0), |(unread, mentions), room| {
        (unread + u64::from(room.unread.messages), mentions + u64::from(room.unread.mentions))
    });
    rooms.retain(|room| room.entry.archived == wanted.archived);
    rooms.sort_unstable_by_key(|room| Reverse(room.activity()));
    if let Some(after) = wanted.after {
        rooms.retain(|room| room.activity() < after);
    }
    let mut bytes = 0;
    let fit = rooms.iter().take(wanted.limit).take_while(|room| {
        bytes += room.bytes();
        bytes <= PAGE_BYTES
    });
    let fit = fit.count().max(1);
    let more = rooms.len() > fit;
    rooms.truncate(fit);
    let after = rooms.last().filter(|_| more).map(InboxRoom::activity);
    let cursor = cursor.unwrap_or_else(|| Position::start(registry.store().epoch()));
    Ok(Inbox { owner: inbox_key(&by), rooms, after, unread, mentions, cursor })
}

/// The entries that have changed after `since`, in the order of their latest changes.
pub async fn changes(registry: &Registry, by: &Principal, since: Position, limit: usize) -> Result<Changes, Refusal> {
    let stream = StreamId::User(by.tenant.clone(), by.user.clone());
    let store = &**registry.store();
    let look = async {
        let head = store.head(&stream).await?.unwrap_or_else(|| Position::start(store.epoch()));
        let mut entries: Vec<(RoomId, Kept)> = Vec::new();
        if since.seq < head.seq {
            let changed = |(_, kept): &(RoomId, Kept)| kept.changed > since.seq && kept.changed <= head.seq;
            entries.extend(entries_of(store, &stream).await?.into_iter().filter(changed));
        }
        Ok::<_, StoreError>((entries, head))
    };
    let (mut entries, head) = look.await.map_err(|error| read_failed(&error))?;
    entries.sort_unstable_by_key(|(_, kept)| kept.changed);
    let complete = entries.len() <= limit;
    entries.truncate(limit);
    let cursor = match entries.last() {
        Some((_, kept)) if !complete => Position { epoch: head.epoch, seq: kept.changed },
        Some(_) | None => head,
    };
    let changes = entries.into_iter().map(|(room, kept)| {
        let position = Position { epoch: head.epoch, seq: kept.changed };
        Change { room, entry: kept.entry, position }
    });
    Ok(Changes { owner: inbox_key(by), changes: changes.collect(), cursor, complete })
}

/// What `user`, who has read up to `read`, has not read of a room.
pub async fn unread(
    registry: &Registry,
    room: &RoomKey,
    user: &UserId,
    read: Reached,
    joined: Seq,
) -> Result<Unread, StoreError> {
    let store = &**registry.store();
    let Some(head) = store.head(&room.stream()).await? else { return Ok(Unread::default()) };
    let floor = read.0.seq.max(joined);
    let digested = match registry.digests().peek(room, head, floor) {
        Some(digested) => Some(digested),
        None => registry.digests().load(store, room, floor).await?,
    };
    Ok(digested.map(|digested| digested.digest().unread(user, read, joined)).unwrap_or_default())
}

/// By what the cursors of a user's inbox are told from those of rooms.
pub fn inbox_key(by: &Principal) -> RoomKey {
    RoomKey { tenant: by.tenant.clone(), room: RoomId::inbox(&by.tenant, &by.user) }
}

fn key(by: &Principal, room: RoomId) -> RoomKey {
    RoomKey { tenant: by.tenant.clone(), room }
}

fn seen(user: &UserId, room: RoomId, place: &Place, kept: Kept, digested: &Digested) -> InboxRoom {
    let digest = digested.digest();
    let header = &digested.header;
    InboxRoom {
        room,
        kind: place.kind,
        role: place.role,
        num: header.num,
        alias: header.alias.clone(),
        name: header.name.clone(),
        created_at: header.created_at,
        head: digest.head().map_or(Seq::ZERO, |head| head.seq),
        last: digest.last().cloned(),
        unread: digest.unread(user, kept.entry.read, place.joined),
        entry: kept.entry,
    }
}

/// The rooms that the user is in.
async fn members_of(store: &dyn Store, stream: &StreamId) -> Result<Vec<(RoomId, Place)>, StoreError> {
    let mut places = Vec::new();
    for (key, row) in all(store, stream, rows::PLACES).await? {
        let (room, mut place) = (rows::room_of(&key)?, Place::decode(&row)?);
        if place.standing != Standing::Member {
            continue;
        }
        if place.joined == Seq::ZERO {
            place.joined = joined(store, stream, room).await?;
        }
        places.push((room, place));
    }
    Ok(places)
}

/// Since when the user is in a room, of a place that was written when places did not say so.
async fn joined(store: &dyn Store, stream: &StreamId, room: RoomId) -> Result<Seq, StoreError> {
    let StreamId::User(tenant, user) = stream else { return Ok(Seq::ZERO) };
    let room = RoomKey { tenant: tenant.clone(), room };
    let row = store.get(&room.stream(), &rows::member(user)).await?;
    Ok(row.map(|row| Member::decode(&row)).transpose()?.map_or(Seq::ZERO, |member| member.joined.seq()))
}

async fn entries_of(store: &dyn Store, stream: &StreamId) -> Result<HashMap<RoomId, Kept>, StoreError> {
    let entries = all(store, stream, rows::ENTRIES).await?;
    entries.iter().map(|(key, row)| Ok((rows::room_of(key)?, Kept::decode(row)?))).collect()
}

async fn all(
    store: &dyn Store,
    stream: &StreamId,
    prefix: &[u8],
) -> Result<Vec<(bytes::Bytes, bytes::Bytes)>, StoreError> {
    let mut all = Vec::new();
    loop {
        let after = all.last().map(|(key, _): &(bytes::Bytes, _)| key.clone());
        let found = store.scan(stream, prefix, after.as_deref(), ROWS_PER_SCAN).await?;
        let complete = found.len() < ROWS_PER_SCAN;
        all.extend(found);
        if complete {
            return Ok(all);
        }
    }
}
