//! A user's view of all rooms: the latest first, with the last message of each and what is unread, and what has changed
//! in the user's inbox since some place.
//!
//! Nothing is kept for it but what the user has said. What is unread follows from the rooms' logs; see
//! [`domain::inbox`](crate::domain::inbox).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::OwnedMutexGuard;

use super::digests::Digested;
use super::failure::read_failed;
use super::registry::Registry;
use crate::domain::inbox::{Digest, Reached, Unread};
use crate::domain::policy::{History, Standing};
use crate::domain::room::Member;
use crate::domain::{Position, Principal, RecordId, RoomId, RoomKey, Seq, StreamId, TenantId, UserId};
use crate::store::rows::{self, Kept, Place, Row};
use crate::store::{Store, StoreError};
use crate::wire::{Activity, Change, Changes, Inbox, InboxRoom, Refusal};

/// How many rooms are looked up at once, and how many are looked at before others have their turn on the thread.
const ROOMS_PER_READ: usize = 128;
const ROOMS_PER_TURN: usize = 8;

/// How many logs are read at the same time.
const READS_AT_ONCE: usize = 8;

/// How many rows are read at once.
const ROWS_PER_SCAN: usize = 1000;

/// About how many bytes of rooms are told at once.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

/// What an entry takes besides its draft, about.
const ENTRY_BYTES: usize = 256;

/// How many lists of one user may wait for one another.
const WAITING_MAX: usize = 16;

/// Whose rooms are being looked at: one list at a time for each user, however long it takes.
#[derive(Default)]
pub struct Overviews(Arc<Mutex<Turns>>);

type Turns = HashMap<(TenantId, UserId), Arc<tokio::sync::Mutex<()>>>;

/// The list that a user has under way, or that waits for its turn.
pub struct Only {
    all: Arc<Mutex<Turns>>,
    who: (TenantId, UserId),
    turn: Arc<tokio::sync::Mutex<()>>,
    has_turn: Option<OwnedMutexGuard<()>>,
}

impl Overviews {
    /// Begins a list, behind those of the user that are under way; `None` where too many wait.
    pub async fn begin(&self, by: &Principal) -> Option<Only> {
        let who = (by.tenant.clone(), by.user.clone());
        let turn = Arc::clone(locked(&self.0).entry(who.clone()).or_default());
        let mut only = Only { all: Arc::clone(&self.0), who, turn, has_turn: None };
        // Each of them, and its guard.
        if Arc::strong_count(&only.turn) > 2 * WAITING_MAX {
            return None;
        }
        only.has_turn = Some(Arc::clone(&only.turn).lock_owned().await);
        Some(only)
    }
}

impl Drop for Only {
    fn drop(&mut self) {
        self.has_turn = None;
        let mut all = locked(&self.all);
        // The table's, and this one: nobody waits.
        if Arc::strong_count(&self.turn) <= 2 {
            all.remove(&self.who);
        }
    }
}

fn locked(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

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
        let hidden = hidden_of(store, &stream).await?;
        let (mut rooms, mut missing) = (Vec::with_capacity(places.len()), Vec::new());
        for places in places.chunks(ROOMS_PER_READ) {
            let streams = places.iter().map(|(room, _)| key(&by, *room).stream()).collect();
            let heads = store.positions_at(streams, store.mark()).await?;
            for (n, ((room, place), at)) in places.iter().zip(heads).enumerate() {
                if n.is_multiple_of(ROOMS_PER_TURN) {
                    tokio::task::yield_now().await;
                }
                let Some(head) = at.head else { continue };
                let entry = entries.get(room).cloned().unwrap_or_default();
                let floor = Digest::floor(head, entry.entry.read, place.joined);
                match registry.digests().peek(&key(&by, *room), head, floor) {
                    Some(digested) => rooms.push(seen(&by.user, *room, place, entry, &digested)),
                    None => missing.push((*room, place.clone(), entry, floor)),
                }
            }
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
        for room in &mut rooms {
            room.last = room.last.take().filter(|last| !hidden.contains(&last.id));
        }
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
        if !still_means_the_same(store, &stream, since, head).await? {
            return Ok(None);
        }
        let mut entries: Vec<(RoomId, Kept)> = Vec::new();
        if since.seq < head.seq {
            let changed = |(_, kept): &(RoomId, Kept)| kept.changed.seq > since.seq && kept.changed.seq <= head.seq;
            entries.extend(entries_of(store, &stream).await?.into_iter().filter(changed));
        }
        Ok::<_, StoreError>(Some((entries, head)))
    };
    let found = look.await.map_err(|error| read_failed(&error))?;
    let (mut entries, head) = found.ok_or_else(Refusal::epoch_changed)?;
    entries.sort_unstable_by_key(|(_, kept)| kept.changed.seq);
    let mut bytes = 0;
    let fit = entries.iter().take(limit).take_while(|(_, kept)| {
        bytes += ENTRY_BYTES + kept.entry.draft.as_deref().map_or(0, str::len);
        bytes <= PAGE_BYTES
    });
    let fit = fit.count();
    let complete = entries.len() <= fit;
    entries.truncate(fit);
    let cursor = match entries.last() {
        Some((_, kept)) if !complete => kept.changed,
        Some(_) | None => head,
    };
    let changes = entries.into_iter().map(|(room, kept)| Change { room, position: kept.changed, entry: kept.entry });
    Ok(Changes { owner: inbox_key(by), changes: changes.collect(), cursor, complete })
}

/// Whether a place in a stream that ends at `head` is the one that was meant when it was given out.
async fn still_means_the_same(
    store: &dyn Store,
    stream: &StreamId,
    at: Position,
    head: Position,
) -> Result<bool, StoreError> {
    if at.seq == Seq::ZERO || (at.epoch == store.epoch() && at.seq <= head.seq) {
        return Ok(true);
    }
    let page = store.records_at(stream, &[at.seq]).await?;
    Ok(page.records.first().is_some_and(|record| record.position == at))
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
    let floor = Digest::floor(head, read, joined);
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
        name: header.settings.name.clone(),
        created_at: header.created_at,
        head: digest.head().map_or(Seq::ZERO, |head| head.seq),
        last: digest
            .last()
            .filter(|last| header.settings.history == History::All || last.id.seq() >= place.joined)
            .cloned(),
        unread: digest.unread(user, kept.entry.read, place.joined),
        entry: kept.entry,
    }
}

/// What the user is in all of its rooms.
pub async fn places_of(store: &dyn Store, stream: &StreamId) -> Result<Vec<(RoomId, Place)>, StoreError> {
    all(store, stream, rows::PLACES)
        .await?
        .iter()
        .map(|(key, row)| Ok((rows::room_of(key)?, Place::decode(row)?)))
        .collect()
}

/// The rooms that the user is in.
async fn members_of(store: &dyn Store, stream: &StreamId) -> Result<Vec<(RoomId, Place)>, StoreError> {
    let mut places = Vec::new();
    for (room, mut place) in places_of(store, stream).await? {
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
    let entries = entries.iter().filter(|(key, _)| **key != *rows::INTRODUCTION);
    entries.map(|(key, row)| Ok((rows::room_of(key)?, Kept::decode(row)?))).collect()
}

/// The messages that the user does not want to see.
async fn hidden_of(store: &dyn Store, stream: &StreamId) -> Result<HashSet<RecordId>, StoreError> {
    all(store, stream, rows::HIDDEN).await?.iter().map(|(_, row)| RecordId::decode(row)).collect()
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

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::domain::Timestamp;

    #[tokio::test]
    async fn one_list_of_a_user_at_a_time_and_nothing_is_left_behind() {
        let overviews = Overviews::default();
        let [ann, bob] = ["ann", "bob"].map(|user| Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new(user).unwrap(),
            token: None,
            login: None,
            issued_at: Timestamp(0),
            expires_at: Timestamp(i64::MAX),
        });
        let first = overviews.begin(&ann).await;
        let others = overviews.begin(&bob).await;
        assert!(first.is_some() && others.is_some());
        let mut waiting: Vec<_> = (0..2 * WAITING_MAX).map(|_| Box::pin(overviews.begin(&ann))).collect();
        let mut refused = 0;
        for second in &mut waiting {
            refused += usize::from(matches!(polled(second), Poll::Ready(None)));
        }
        assert!((WAITING_MAX..2 * WAITING_MAX).contains(&refused), "{refused}");
        drop(first);
        let mut next = waiting.swap_remove(0);
        assert!(matches!(polled(&mut next), Poll::Ready(Some(_))));
        drop((next, waiting, others));
        assert!(locked(&overviews.0).is_empty());
    }

    fn polled<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }
}
