//! Blocks between users.
//!
//! A block is a row of who blocks, and a record in the direct room of the two, where there is one: the room alone decides
//! what is said in it. The row is written first and the room is asked then; who makes a direct room looks at the rows when
//! it is there. So whichever comes first, one of the two finds the other. What lies between, a kill of the process for one,
//! is made up for when the room is woken: it goes by the rows of the two then.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::failure::read_failed;
use super::inbox::What;
use super::registry::{BUSY, Registry};
use crate::domain::inbox::BLOCKS_MAX;
use crate::domain::{Command, Principal, Rejection, RoomId, RoomKey, StreamId, TenantId, UserId};
use crate::store::{Store, StoreError, rows};
use crate::wire::{Refusal, Reply};

/// How often a room is told again what has changed while it was told.
const TELLINGS_MAX: usize = 4;

/// Blocks `user`, or does no longer: on disk, and in the direct room of the two. Goes on when whoever asked has gone.
pub async fn block(registry: &Arc<Registry>, by: &Principal, user: UserId, blocked: bool) -> Result<Reply, Refusal> {
    if user == by.user {
        return Err(Refusal::bad_request("nobody blocks itself"));
    }
    let told = actix::spawn(decide(Arc::clone(registry), by.clone(), user.clone(), blocked));
    told.await.map_err(|_| Refusal::unavailable())??;
    Ok(Reply::Blocked { user, blocked })
}

async fn decide(registry: Arc<Registry>, by: Principal, user: UserId, blocked: bool) -> Result<(), Refusal> {
    registry.ask_inbox(&by, What::Block { user: user.clone(), blocked }).await?;
    let room = RoomKey { tenant: by.tenant.clone(), room: RoomId::direct(&by.tenant, &by.user, &user) };
    let mut told = blocked;
    for _ in 0..TELLINGS_MAX {
        tell_room(&registry, &by, &room, user.clone(), told).await?;
        // Another device may have decided otherwise meanwhile, and have told the room first.
        let store = &**registry.store();
        let now = has_blocked(store, &by.tenant, &by.user, &user).await.map_err(|error| read_failed(&error))?;
        if now == told {
            return Ok(());
        }
        told = now;
    }
    Err(Refusal::unavailable())
}

/// Refuses `by` what concerns users who have blocked it, or whom it has blocked.
pub async fn check(registry: &Registry, by: &Principal, users: &[&UserId]) -> Result<(), Refusal> {
    registry.meters().user(&registry.limits().rates, by)?;
    let store = &**registry.store();
    let look = async {
        let stream = StreamId::User(by.tenant.clone(), by.user.clone());
        let own = store.scan(&stream, rows::BLOCKS, None, BLOCKS_MAX).await?;
        let own = own.iter().map(|(key, _)| rows::user_of(key)).collect::<Result<BTreeSet<_>, _>>()?;
        for user in users {
            if own.contains(*user) || has_blocked(store, &by.tenant, user, &by.user).await? {
                return Ok(true);
            }
        }
        Ok::<_, StoreError>(false)
    };
    // One at a time for each user: there may be thousands to be looked at.
    let _only = registry.overviews().begin(by).await.ok_or_else(|| Refusal::busy(BUSY))?;
    if look.await.map_err(|error| read_failed(&error))? { Err(Rejection::Blocked.into()) } else { Ok(()) }
}

/// Who of the two of a direct room has blocked the other, as their own lists say: a room that is asleep need not have been
/// told.
pub async fn blocks_between(store: &dyn Store, room: &RoomKey) -> Result<BTreeSet<UserId>, StoreError> {
    let mut blocks = BTreeSet::new();
    if let [one, two] = &pair(store, room).await?[..] {
        for (blocker, other) in [(one, two), (two, one)] {
            if has_blocked(store, &room.tenant, blocker, other).await? {
                blocks.insert(blocker.clone());
            }
        }
    }
    Ok(blocks)
}

/// The two of a direct room.
async fn pair(store: &dyn Store, room: &RoomKey) -> Result<Vec<UserId>, StoreError> {
    let members = store.scan(&room.stream(), rows::MEMBERS, None, 2).await?;
    members.iter().map(|(key, _)| rows::user_of(key)).collect()
}

/// Whether one of the two of a direct room has blocked the other.
pub async fn is_shut(store: &dyn Store, room: &RoomKey) -> Result<bool, StoreError> {
    Ok(!blocks_between(store, room).await?.is_empty())
}

/// Has a direct room that has just been made know of blocks that were decided meanwhile.
pub async fn carry_over(registry: &Arc<Registry>, by: &Principal, room: &RoomKey) -> Result<(), Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let store = &**registry.store();
    let users = pair(store, room).await.map_err(failed)?;
    for blocker in blocks_between(store, room).await.map_err(failed)? {
        let Some(other) = users.iter().find(|user| **user != blocker).cloned() else { continue };
        tell_room(registry, &Principal { user: blocker, ..by.clone() }, room, other, true).await?;
    }
    Ok(())
}

/// Whom the user has blocked, in the order of the ids.
pub async fn blocks(
    registry: &Registry,
    by: &Principal,
    after: Option<UserId>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let stream = StreamId::User(by.tenant.clone(), by.user.clone());
    let after = after.map(|user| rows::block(&user));
    let found = registry.store().scan(&stream, rows::BLOCKS, after.as_deref(), limit + 1).await.map_err(failed)?;
    let users = found.iter().take(limit).map(|(key, _)| rows::user_of(key)).collect::<Result<Vec<_>, _>>();
    let users = users.map_err(failed)?;
    let after = users.last().filter(|_| found.len() > limit).cloned();
    Ok(Reply::Blocks { users, after })
}

/// Whether `blocker` has blocked `other`, as the list of the former says.
pub async fn has_blocked(
    store: &dyn Store,
    tenant: &TenantId,
    blocker: &UserId,
    other: &UserId,
) -> Result<bool, StoreError> {
    let stream = StreamId::User(tenant.clone(), blocker.clone());
    Ok(store.get(&stream, &rows::block(other)).await?.is_some())
}

/// The two may have no direct room.
async fn tell_room(
    registry: &Arc<Registry>,
    by: &Principal,
    room: &RoomKey,
    user: UserId,
    blocked: bool,
) -> Result<(), Refusal> {
    let head = registry.store().head(&room.stream()).await.map_err(|error| read_failed(&error))?;
    if head.is_none() {
        return Ok(());
    }
    let command = if blocked { Command::Block { user } } else { Command::Unblock { user } };
    match registry.submit(room, by.clone(), command, None).await {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.code() == Rejection::RoomNotFound.code() => Ok(()),
        Err(refusal) => Err(refusal),
    }
}
