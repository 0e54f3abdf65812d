//! What a session looks up before it answers: whether its user may follow, from where, and what was said before.
//!
//! Reads go to the store and wake no room. Each reader is registered as a follower first, so that a removal meanwhile is
//! noticed.

use std::rc::Rc;

use super::failure::read_failed;
use super::link::Link;
use super::registry::Registry;
use super::worker::{Follower, Worker};
use crate::domain::room::{Header, Member};
use crate::domain::{Position, Rejection, RoomKey, Seq, UserId};
use crate::store::rows::{self, Row};
use crate::store::{Store, StoreError};
use crate::wire::{Cursor, From as Since, Refusal, Reply};

/// Admits a registered follower and lets it have what is published from now on, where it has nothing to read before.
pub async fn open(registry: &Registry, follower: &Rc<Follower>, since: Since) -> Result<(Position, Seq), Refusal> {
    let (at, head) = admit(registry, follower, since).await?;
    let mut follow = follower.follow().borrow_mut();
    let generation = follow.generation();
    // A follower that stands at the head has nothing to read, unless something came meanwhile.
    follow.page(generation, at.seq, None, at.seq == head, []);
    Ok((at, head))
}

/// Admits a registered follower: its membership, then the head, then where it wants to begin. It is behind from then
/// on.
pub async fn admit(registry: &Registry, follower: &Rc<Follower>, since: Since) -> Result<(Position, Seq), Refusal> {
    let (store, key) = (&**registry.store(), follower.room());
    let member = membership(store, key, follower.user()).await?;
    let head = store.head(&key.stream()).await.map_err(|error| read_failed(&error))?;
    let head = head.ok_or_else(|| Refusal::from(Rejection::RoomNotFound))?;
    let at = match since {
        Since::Start => Position::start(store.epoch()),
        Since::Now => head,
        Since::Cursor(text) => position(store, key, &text, head).await?,
    };
    let mut follow = follower.follow().borrow_mut();
    if !follow.admit(at, member.joined.seq()) {
        return Err(Rejection::NotMember.into());
    }
    Ok((at, head.seq))
}

/// The membership of `user`, or why there is none, without waking the room.
async fn membership(store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<Member, Refusal> {
    let stream = key.stream();
    let failed = |error: StoreError| read_failed(&error);
    if let Some(row) = store.get(&stream, &rows::member(user)).await.map_err(failed)? {
        return Member::decode(&row).map_err(failed);
    }
    let header = store.get(&stream, rows::HEADER).await.map_err(failed)?;
    let header = header.ok_or_else(|| Refusal::from(Rejection::RoomNotFound))?;
    let kind = Header::decode(&header).map_err(failed)?.kind;
    let invited = store.get(&stream, &rows::invitation(user)).await.map_err(failed)?.is_some();
    let known = kind.policy().is_known_to(invited);
    Err(if known { Rejection::NotMember } else { Rejection::RoomNotFound }.into())
}

/// Reads a cursor and makes sure that it still means what it meant when it was given out.
async fn position(store: &dyn Store, key: &RoomKey, text: &str, head: Position) -> Result<Position, Refusal> {
    let at = Cursor::parse(text, key)?;
    if at.seq > head.seq {
        return Err(if at.epoch == store.epoch() { Refusal::cursor_invalid() } else { Refusal::epoch_changed() });
    }
    if at.seq == Seq::ZERO || at.epoch == store.epoch() {
        return Ok(at);
    }
    let page = store.read(&key.stream(), Seq(at.seq.0 - 1), 1).await.map_err(|error| read_failed(&error))?;
    match page.records.first() {
        Some(record) if record.position == at => Ok(at),
        Some(_) | None => Err(Refusal::epoch_changed()),
    }
}

/// A page of what was before. The reader is registered as a follower meanwhile, so that a removal while it reads is
/// noticed, and nothing is shown to who was removed.
pub async fn history(
    worker: &Rc<Worker>,
    link: &Rc<Link>,
    key: RoomKey,
    user: UserId,
    before: Option<String>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let reader = worker.register(key, user, link);
    read_history(&**worker.registry().store(), reader.follower(), before, limit).await
}

async fn read_history(
    store: &dyn Store,
    reader: &Rc<Follower>,
    before: Option<String>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let key = reader.room();
    let member = membership(store, key, reader.user()).await?;
    let stream = key.stream();
    let head = store.head(&stream).await.map_err(|error| read_failed(&error))?;
    let head = head.ok_or_else(|| Refusal::from(Rejection::RoomNotFound))?;
    let before = match before {
        Some(text) => position(store, key, &text, head).await?.seq,
        None => head.seq.next(),
    };
    let page = store.read_back(&stream, before, limit).await.map_err(|error| read_failed(&error))?;
    if !reader.follow().borrow().stands(member.joined.seq()) {
        return Err(Rejection::NotMember.into());
    }
    let before = page.records.first().filter(|_| !page.complete).map(|record| record.position);
    Ok(Reply::History { room: key.clone(), records: page.records, before })
}
