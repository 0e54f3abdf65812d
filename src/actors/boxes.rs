//! Boxes, as Misakey's clients ask for them: rooms whose members are let in by what their owner has said about others.

use super::failure::read_failed;
use super::reading::{Insider, record_at};
use super::registry::Registry;
use crate::domain::{Principal, RecordId, Rejection, Role, RoomKey, RoomKind};
use crate::wire::{Cursor, From as Since, Refusal};

/// Refuses who may not read the box: who is not in it, and once it is closed everybody but its owner.
pub async fn may_read(registry: &Registry, key: &RoomKey, by: &Principal) -> Result<Role, Refusal> {
    let Insider { member, header } = Insider::of(&**registry.store(), key, &by.user).await?;
    if header.kind != RoomKind::Box {
        return Err(Rejection::RoomNotFound.into());
    }
    if header.archived && member.role != Role::Owner {
        return Err(Rejection::RoomArchived.into());
    }
    Ok(member.role)
}

/// The place behind an event. One that is not of this box is as good as a cursor that cannot be read, to who may read it.
pub async fn behind(registry: &Registry, key: &RoomKey, event: RecordId) -> Result<Since, Refusal> {
    let record = record_at(&**registry.store(), &key.stream(), event.seq()).await;
    let record = record.map_err(|error| read_failed(&error))?.filter(|record| record.id == event);
    Ok(Since::Cursor(record.map_or_else(String::new, |record| Cursor::encode(key, record.position).to_string())))
}
