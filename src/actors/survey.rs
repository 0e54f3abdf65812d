//! What the operator sees of a tenant's rooms, without waking any.

use super::auditing;
use super::failure::read_failed;
use super::registry::Registry;
use crate::domain::room::{Header, Member};
use crate::domain::{Record, Rejection, RoomId, RoomKey, RoomKind, Seq, StreamId, TenantId, UserId};
use crate::store::rows::{self, Reservation, Row};
use crate::store::{Store, StoreError};
use crate::wire::Refusal;

/// The most members that are named of one room.
pub const MEMBERS_SHOWN: usize = 1000;

/// A room as the operator sees it.
pub struct Surveyed {
    pub room: RoomId,
    pub header: Header,
    /// How many records it has.
    pub head: Seq,
}

/// Up to `limit` rooms of `tenant` after `after`, in the order of their ids, and whether there are more. Names that
/// were reserved for rooms that were never made are passed over.
pub async fn rooms(
    registry: &Registry,
    tenant: &TenantId,
    after: Option<RoomId>,
    limit: usize,
) -> Result<(Vec<Surveyed>, bool), Refusal> {
    let store = &**registry.store();
    let directory = StreamId::Directory(tenant.clone());
    let mut found = Vec::new();
    let mut after = after.map(rows::room);
    // A reservation without a room costs a look and no place in the page.
    while found.len() <= limit {
        let reserved = store.scan(&directory, rows::ROOMS, after.as_deref(), limit + 1).await;
        let reserved = reserved.map_err(|error| read_failed(&error))?;
        let Some((last, _)) = reserved.last() else { break };
        after = Some(last.clone());
        for (_, row) in &reserved {
            let room = Reservation::decode(row).map_err(|error| read_failed(&error))?.room;
            let key = RoomKey { tenant: tenant.clone(), room };
            found.extend(look(store, &key).await.map_err(|error| read_failed(&error))?);
        }
    }
    let more = found.len() > limit;
    found.truncate(limit);
    Ok((found, more))
}

/// One room, and its first [`MEMBERS_SHOWN`] members.
pub async fn room(registry: &Registry, key: &RoomKey) -> Result<(Surveyed, Vec<(UserId, Member)>), Refusal> {
    let store = &**registry.store();
    let seen = look(store, key).await.map_err(|error| read_failed(&error))?;
    let seen = seen.ok_or_else(|| Refusal::from(Rejection::RoomNotFound))?;
    let members = store.scan(&key.stream(), rows::MEMBERS, None, MEMBERS_SHOWN).await;
    let members = members.and_then(|members| {
        members.iter().map(|(key, row)| Ok((rows::user_of(key)?, Member::decode(row)?))).collect::<Result<_, _>>()
    });
    Ok((seen, members.map_err(|error| read_failed(&error))?))
}

/// What has been decided in a room, and reported of it: the records of its audit room after `after`, oldest first, with the
/// room that they are in, and whether there are more. Of an audit room its own are meant.
pub async fn audit(
    registry: &Registry,
    key: &RoomKey,
    after: Seq,
    limit: usize,
) -> Result<(RoomKey, Vec<Record>, bool), Refusal> {
    let store = &**registry.store();
    let seen = look(store, key).await.map_err(|error| read_failed(&error))?;
    let audit = match seen.ok_or(Rejection::RoomNotFound)?.header.kind {
        RoomKind::Audit => key.clone(),
        RoomKind::Channel
        | RoomKind::Group
        | RoomKind::Direct
        | RoomKind::Box
        | RoomKind::Canvas
        | RoomKind::Collection => RoomKey { tenant: key.tenant.clone(), room: RoomId::audit(&key.tenant, key.room) },
    };
    let (records, more) = page(store, &audit, after, limit).await?;
    Ok((audit, records, more))
}

/// The same of what has been decided in a tenant, and reported of its direct rooms.
pub async fn audit_of_tenant(
    registry: &Registry,
    tenant: &TenantId,
    after: Seq,
    limit: usize,
) -> Result<(RoomKey, Vec<Record>, bool), Refusal> {
    let audit = auditing::audit_of_tenant(tenant);
    let (records, more) = page(&**registry.store(), &audit, after, limit).await?;
    Ok((audit, records, more))
}

async fn page(store: &dyn Store, room: &RoomKey, after: Seq, limit: usize) -> Result<(Vec<Record>, bool), Refusal> {
    let page = store.read(&room.stream(), after, limit).await.map_err(|error| read_failed(&error))?;
    Ok((page.records, !page.complete))
}

async fn look(store: &dyn Store, key: &RoomKey) -> Result<Option<Surveyed>, StoreError> {
    let stream = key.stream();
    let Some(header) = store.get(&stream, rows::HEADER).await? else { return Ok(None) };
    let head = store.head(&stream).await?.map_or(Seq::ZERO, |head| head.seq);
    Ok(Some(Surveyed { room: key.room, header: Header::decode(&header)?, head }))
}
