//! Boxes, as Misakey's clients ask for them: rooms whose members are let in by what their owner has said about others.
//!
//! What a box is besides a room lies in rows under the room's stream, which are written with a command of the room, so
//! that the room decides whether its owner asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::blocking;
use super::failure::read_failed;
use super::reading::{Insider, record_at};
use super::registry::Registry;
use super::room::Answer;
use crate::clock::random_wide;
use crate::domain::boxes::{ACCESSES_MAX, Access, BoxNature, Restriction, lets_in};
use crate::domain::command::{Create, Update};
use crate::domain::policy::Role;
use crate::domain::room::{Header, Member};
use crate::domain::{Command, Name, Principal, Record, RecordId, Rejection, RoomKey, RoomKind, Seq, Timestamp, UserId};
use crate::store::rows::{self, Row, boxes as keys};
use crate::store::{Put, Store, StoreError};
use crate::wire::{Cursor, From as Since, Refusal};

/// How many members are looked at together when some may have to go.
const MEMBERS_PER_READ: usize = 500;

/// How often is asked for what is refused for a while, and for how long a while that is worth it.
const TRIES: u32 = 100;
const PAUSE_MAX_MS: u64 = 2_000;

/// What a box is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Boxed {
    pub title: String,
    pub public_key: Arc<str>,
    pub creator: UserId,
    pub created_at: Timestamp,
    pub closed: bool,
}

/// Why somebody does not get to see a box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Barred {
    /// There is none, or none that lets him in.
    NoAccess,
    /// He might come in.
    NotMember,
    /// It is closed to all but its owner.
    Closed,
    Refused(Refusal),
}

impl From<Refusal> for Barred {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// By which event some are let in, and who.
pub type Accesses = BTreeMap<RecordId, Access>;

/// What is to change of who is let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessChange {
    Add(Restriction, Arc<str>),
    /// By the event that it was added by.
    Remove(RecordId),
}

/// Why nothing of a change of accesses was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unchanged {
    NoSuchAccess,
    ThereAlready,
    TooMany,
    Refused(Refusal),
}

impl From<Refusal> for Unchanged {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// What a change of accesses has led to: an event for each change, in their order, and those who had to go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    pub events: Vec<(RecordId, AccessChange, Timestamp)>,
    pub kicks: Vec<Record>,
}

/// Refuses who may not read the box: who is not in it, and once it is closed everybody but its owner.
pub async fn may_read(registry: &Registry, key: &RoomKey, by: &Principal) -> Result<Role, Barred> {
    let insider = match Insider::of(&**registry.store(), key, &by.user).await {
        Ok(insider) if insider.header.kind == RoomKind::Box => insider,
        Ok(_) => return Err(Barred::NoAccess),
        Err(refusal) if refusal.code() == Rejection::NotMember.code() => return Err(Barred::NotMember),
        Err(refusal) if refusal.code() == Rejection::RoomNotFound.code() => {
            let let_in = lets_in(accesses(registry, key).await?.values(), &by.user);
            return Err(if let_in { Barred::NotMember } else { Barred::NoAccess });
        }
        Err(refusal) => return Err(refusal.into()),
    };
    let role = insider.member.role;
    if insider.header.archived && role != Role::Owner { Err(Barred::Closed) } else { Ok(role) }
}

/// What the box is, to whoever it may be told; `None` where there is none.
pub async fn about(registry: &Registry, key: &RoomKey) -> Result<Option<Boxed>, Refusal> {
    let (store, stream) = (&**registry.store(), key.stream());
    let Some(header) = row::<Header>(store, key, rows::HEADER).await?.filter(|header| header.kind == RoomKind::Box)
    else {
        return Ok(None);
    };
    let nature = match row::<BoxNature>(store, key, keys::NATURE).await? {
        Some(nature) => nature,
        // It was made natively, and its messages are for nobody in particular.
        None => {
            let first = record_at(store, &stream, Seq::ZERO.next()).await.map_err(|error| read_failed(&error))?;
            let creator = first.map_or_else(UserId::server, |record| record.author);
            BoxNature { public_key: "".into(), creator }
        }
    };
    let BoxNature { public_key, creator } = nature;
    let title = header.settings.name.as_ref().map_or_else(String::new, |name| name.as_str().to_owned());
    Ok(Some(Boxed { title, public_key, creator, created_at: header.created_at, closed: header.archived }))
}

async fn row<T: Row>(store: &dyn Store, key: &RoomKey, row: &[u8]) -> Result<Option<T>, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    store.get(&key.stream(), row).await.map_err(failed)?.map(|row| T::decode(&row)).transpose().map_err(failed)
}

/// Who is let into the box besides its owner.
pub async fn accesses(registry: &Registry, key: &RoomKey) -> Result<Accesses, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let found = registry.store().scan(&key.stream(), keys::ACCESSES, None, ACCESSES_MAX).await.map_err(failed)?;
    let read = |(key, row): &(Bytes, Bytes)| Ok((keys::event_of(key)?, Access::decode(row)?));
    found.iter().map(read).collect::<Result<_, _>>().map_err(failed)
}

/// Makes a box.
pub async fn make(
    registry: &Arc<Registry>,
    by: Principal,
    title: Name,
    public_key: Arc<str>,
) -> Result<RoomKey, Refusal> {
    let reserved = registry.reserve(&by, None, None).await?;
    let key = RoomKey { tenant: by.tenant.clone(), room: reserved.room };
    let nature = BoxNature { public_key, creator: by.user.clone() };
    let put = Put { under: key.stream(), key: keys::NATURE.into(), value: Some(nature.encode()) };
    let create = Create { kind: RoomKind::Box, num: reserved.num, alias: None, name: Some(title), members: Vec::new() };
    let (_, made) = registry.submit_beside(&key, by, Command::Create(create), vec![put])?;
    made.await?;
    Ok(key)
}

/// Makes `by` a member, provided that the owner has said so; who has been invited natively may come, too.
pub async fn enter(registry: &Arc<Registry>, key: &RoomKey, by: Principal) -> Answer {
    if Insider::of(&**registry.store(), key, &by.user).await.is_ok() {
        return Err(Rejection::AlreadyMember.into());
    }
    // Whoever asks pays before the owner does, in whose name he is invited.
    registry.meters().user(&registry.limits().rates, &by)?;
    let (registry, key) = (Arc::clone(registry), key.clone());
    // It goes on also when whoever asked has gone: an invitation that nobody has followed would outlast the access.
    let entered = actix::spawn(async move { let_in(&registry, &key, by).await });
    entered.await.unwrap_or_else(|_| Err(Refusal::unavailable()))
}

async fn let_in(registry: &Arc<Registry>, key: &RoomKey, by: Principal) -> Answer {
    let boxed = about(registry, key).await?.ok_or(Rejection::RoomNotFound)?;
    let owner = Principal { user: boxed.creator, token: None, login: None, ..by.clone() };
    let has_access = lets_in(accesses(registry, key).await?.values(), &by.user);
    if has_access {
        blocking::check(registry, &owner, &[&by.user]).await?;
        let invite = Command::Invite { user: by.user.clone(), role: Role::Member };
        registry.submit(key, owner.clone(), invite, None).await?;
    }
    let joined = submit_patiently(registry, key, &by, || Command::Join).await?;
    // The access may have been taken away meanwhile, and who goes with it looked up before he came.
    if has_access && !lets_in(accesses(registry, key).await?.values(), &by.user) {
        kick(registry, key, &owner, by.user).await?;
        return Err(Rejection::RoomNotFound.into());
    }
    Ok(joined)
}

/// Changes who is let in: all of it, or nothing. Then everybody goes who is not let in any more, also when whoever asked
/// has gone; where the server ends meanwhile, whoever is left stays until the next change.
pub async fn change_accesses(
    registry: &Arc<Registry>,
    key: &RoomKey,
    by: &Principal,
    changes: Vec<AccessChange>,
) -> Result<Changed, Unchanged> {
    let (registry, key, by) = (Arc::clone(registry), key.clone(), by.clone());
    let change = async move { change_and_kick(&registry, &key, &by, changes).await };
    actix::spawn(change).await.unwrap_or_else(|_| Err(Refusal::unavailable().into()))
}

async fn change_and_kick(
    registry: &Arc<Registry>,
    key: &RoomKey,
    by: &Principal,
    changes: Vec<AccessChange>,
) -> Result<Changed, Unchanged> {
    let (mut accesses, now) = (accesses(registry, key).await?, registry.now());
    let (mut puts, mut changed, mut narrows) = (Vec::new(), Changed::default(), false);
    // In the order in which they were asked for, also by their ids.
    let random = random_wide();
    for (index, change) in (0..).zip(changes) {
        let event = RecordId::new(now, Seq(index), random);
        let put = match &change {
            AccessChange::Add(restriction, value) => {
                let value = Arc::clone(value);
                let access = Access { restriction: *restriction, value, by: by.user.clone(), at: now };
                if accesses.values().any(|other| other.is_like(&access)) {
                    return Err(Unchanged::ThereAlready);
                }
                let put = Put { under: key.stream(), key: keys::access(event), value: Some(access.encode()) };
                accesses.insert(event, access);
                put
            }
            AccessChange::Remove(added) => {
                accesses.remove(added).ok_or(Unchanged::NoSuchAccess)?;
                narrows = true;
                Put { under: key.stream(), key: keys::access(*added), value: None }
            }
        };
        puts.push(put);
        changed.events.push((event, change, now));
    }
    if accesses.len() > ACCESSES_MAX {
        return Err(Unchanged::TooMany);
    }
    // A change of nothing, which only the owner may ask for.
    let (_, answer) = registry.submit_beside(key, by.clone(), Command::Update(Update::default()), puts)?;
    answer.await?;
    if narrows {
        changed.kicks = kick_the_rest(registry, key, by, &accesses).await?;
    }
    Ok(changed)
}

/// Kicks the members whom nothing lets in.
async fn kick_the_rest(
    registry: &Arc<Registry>,
    key: &RoomKey,
    by: &Principal,
    accesses: &Accesses,
) -> Result<Vec<Record>, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let (mut kicks, mut after) = (Vec::new(), None);
    loop {
        let found = registry.store().scan(&key.stream(), rows::MEMBERS, after.as_deref(), MEMBERS_PER_READ);
        let found = found.await.map_err(failed)?;
        let mut going = Vec::new();
        for (row, member) in &found {
            let (user, member) = (rows::user_of(row).map_err(failed)?, Member::decode(member).map_err(failed)?);
            if member.role != Role::Owner && !lets_in(accesses.values(), &user) {
                going.push(kick(registry, key, by, user));
            }
        }
        // Each waits for the proof that it has arrived: all of them at the same time.
        for seq in join_all(going).await {
            if let Some(seq) = seq? {
                kicks.extend(record(registry, key, seq).await?);
            }
        }
        match found.last() {
            Some((last, _)) if found.len() == MEMBERS_PER_READ => after = Some(last.clone()),
            Some(_) | None => return Ok(kicks),
        }
    }
}

/// Kicks a member, and says by which record; `None` where he has gone by himself.
async fn kick(registry: &Arc<Registry>, key: &RoomKey, by: &Principal, user: UserId) -> Result<Option<Seq>, Refusal> {
    let kick = || Command::Kick { user: user.clone(), reason: None };
    match submit_patiently(registry, key, by, kick).await {
        Ok(done) => Ok(Some(done.receipt.position.seq)),
        Err(refusal) if refusal.code() == Rejection::NoSuchMember.code() => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

/// What is too much at once waits.
async fn submit_patiently(
    registry: &Arc<Registry>,
    key: &RoomKey,
    by: &Principal,
    command: impl Fn() -> Command,
) -> Answer {
    let mut tries = 0;
    loop {
        let answer = registry.submit(key, by.clone(), command(), None).await;
        tries += 1;
        match answer.as_ref().err().and_then(Refusal::retry_after_ms) {
            Some(ms) if tries < TRIES && ms <= PAUSE_MAX_MS => tokio::time::sleep(Duration::from_millis(ms)).await,
            Some(_) | None => return answer,
        }
    }
}

/// A record of the box, to who has just made it.
pub async fn record(registry: &Registry, key: &RoomKey, seq: Seq) -> Result<Option<Record>, Refusal> {
    record_at(&**registry.store(), &key.stream(), seq).await.map_err(|error| read_failed(&error))
}

/// The place behind an event. One that is not of this box is as good as a cursor that cannot be read, to who may read it.
pub async fn behind(registry: &Registry, key: &RoomKey, event: RecordId) -> Result<Since, Refusal> {
    let record = record(registry, key, event.seq()).await?.filter(|record| record.id == event);
    Ok(Since::Cursor(record.map_or_else(String::new, |record| Cursor::encode(key, record.position).to_string())))
}
