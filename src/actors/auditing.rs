//! What rooms have decided, on its way to their audit rooms.
//!
//! A commit has records of one room, so what a room decides files a row in its own commit, and the room hands that on
//! afterwards, as often as it takes. The audit room keeps in its own commit how far it has taken, so that each arrives once.
//! Entries are read from their rows, so that however many there are they take no memory.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::failure::read_failed;
use super::reading::{self, Evidence};
use super::registry::Registry;
use super::room::{Answer, Asker};
use super::worker::Follower;
use crate::domain::command::{Audit, Begin, Decision, Report};
use crate::domain::room::{Header, Member};
use crate::domain::{
    Capability, Command, FileId, Name, Principal, RecordId, Rejection, Rights, RoomId, RoomKey, Seq, StreamId,
    TenantId, Timestamp, UserId,
};
use crate::store::rows::{self, Row};
use crate::store::{Store, StoreError};
use crate::wire::{Refusal, Reply};

/// How much an audit room is handed at once.
const ENTRIES_MAX: usize = 64;
const ENTRIES_BYTES_MAX: usize = 256 * 1024;

/// How many rows are read at once.
const ROWS_PER_SCAN: usize = 1000;

/// How long to wait before something is handed over again that was not taken: twice as long each time, and at last 1.6
/// seconds, which is less than whoever asks again waits for an answer.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_DOUBLINGS_MAX: u32 = 5;

/// How long a start waits from one room that owes something to the next: each is woken, and hands over what it owes.
const WAKING_PACE: Duration = Duration::from_millis(5);

/// How far a room is with what it owes its audit room.
pub struct Owed {
    /// The last record that is owed and on disk.
    filed: Seq,
    /// The last by which somebody reads no more what is decided, on disk or on its way there.
    narrowed: Seq,
    /// Up to here everything has been taken.
    taken: watch::Sender<Seq>,
    /// Something is being handed over, or will be again.
    under_way: bool,
    failures: u32,
}

impl Default for Owed {
    fn default() -> Self {
        let (taken, _) = watch::channel(Seq::ZERO);
        Self { filed: Seq::ZERO, narrowed: Seq::ZERO, taken, under_way: false, failures: 0 }
    }
}

impl Owed {
    /// A room that was woken at `head` finds that it owes something: anything of it may take from somebody what he reads.
    pub fn found(&mut self, head: Seq) {
        (self.filed, self.narrowed) = (head, head);
    }

    /// By the record at `seq`, which is about to be committed, somebody reads no more.
    pub fn narrows(&mut self, seq: Seq) {
        self.narrowed = self.narrowed.max(seq);
    }

    /// The record up to which all has to be taken before an answer tells that somebody reads no more.
    pub fn narrowed(&self) -> Seq {
        self.narrowed
    }

    /// Everything up to `seq` that is owed is on disk.
    pub fn filed(&mut self, seq: Seq) {
        self.filed = self.filed.max(seq);
    }

    /// Whether something is on its way, or has to be.
    pub fn is_open(&self) -> bool {
        self.under_way || self.filed > *self.taken.borrow()
    }

    /// Whether something has to be handed over now; from then on it is under way.
    pub fn begin(&mut self) -> bool {
        let begins = !self.under_way && self.is_open();
        self.under_way |= begins;
        begins
    }

    /// Up to where everything is on disk, and up to where it has been taken.
    pub fn stretch(&self) -> (Seq, Seq) {
        (self.filed, *self.taken.borrow())
    }

    /// Everything up to `seq` has been taken.
    pub fn taken(&mut self, seq: Seq) {
        (self.under_way, self.failures) = (false, 0);
        self.taken.send_modify(|taken| *taken = seq.max(*taken));
    }

    /// It was not taken; after how long to try again.
    pub fn failed(&mut self) -> Duration {
        self.failures += 1;
        RETRY_FIRST * 2_u32.pow((self.failures - 1).min(RETRY_DOUBLINGS_MAX))
    }

    pub fn again(&mut self) {
        self.under_way = false;
    }

    /// Answers as soon as everything up to `after` has been taken; when that has not happened by `due`, nobody may rely on
    /// who reads what is decided.
    pub fn tell(&self, asker: Asker, answer: Answer, after: Seq, due: Instant) {
        if after <= *self.taken.borrow() {
            return asker.tell(answer);
        }
        let mut taken = self.taken.subscribe();
        actix::spawn(async move {
            let taken = timeout_at(due, taken.wait_for(|taken| *taken >= after)).await;
            asker.tell(if matches!(taken, Ok(Ok(_))) { answer } else { Err(Refusal::unavailable()) });
        });
    }
}

/// What an audit room has taken.
pub struct Taken {
    /// Of what was owed up to here nothing is left.
    pub through: Seq,
    /// The rows that are not needed any more.
    pub rows: Vec<Bytes>,
}

/// Hands the oldest of what `room` owes behind `after` to its audit room, which is made where there is none; `None` where
/// nothing is owed.
pub async fn hand_on(registry: Arc<Registry>, room: RoomKey, after: Seq) -> Result<Option<Taken>, Refusal> {
    if let Some(refusal) = registry.unready() {
        return Err(refusal);
    }
    let owed = owed(&**registry.store(), &room, after).await.map_err(|error| read_failed(&error))?;
    let Some(last) = owed.last() else { return Ok(None) };
    let through = last.1.audited.position.seq;
    let audit = RoomKey { tenant: room.tenant.clone(), room: RoomId::audit(&room.tenant, room.room) };
    begin(&registry, &room, &audit).await?;
    let (rows, decisions) = owed.into_iter().unzip();
    write_down(&registry, &audit, Audit { begin: None, decisions }).await?;
    Ok(Some(Taken { through, rows }))
}

/// Takes a report of a message that `reader` may read: whoever answers for the room finds it in the audit room, with what
/// the message says now, whatever becomes of it.
pub async fn report(
    registry: &Arc<Registry>,
    reader: &Rc<Follower>,
    by: &Principal,
    message: RecordId,
    reason: Option<Name>,
) -> Result<Reply, Refusal> {
    let (store, room) = (&**registry.store(), reader.room());
    let Evidence { kind, audited, reported } = reading::evidence(store, reader, message, reason).await?;
    if kind.policy().moderate.is_none() {
        return Err(Rejection::KindForbids.into());
    }
    let audit = RoomKey { tenant: room.tenant.clone(), room: RoomId::audit(&room.tenant, room.room) };
    let before = store.get(&audit.stream(), &rows::report(message, &by.user)).await;
    let before = before.map_err(|error| read_failed(&error))?.is_some();
    let files: Vec<FileId> = reported.attachments.iter().map(|attachment| attachment.id).collect();
    let hold = match files.is_empty() {
        true => None,
        // It was deleted meanwhile, and what it had attached is gone.
        false => Some(registry.files()?.hold_all(files).await?.ok_or(Rejection::MessageDeleted)?),
    };
    if !audited {
        let watched = registry.submit(room, server(&room.tenant, registry.now()), Command::Watch, None);
        watched.await?;
    }
    begin(registry, room, &audit).await?;
    let report = Command::Report(Report { reported, before });
    registry.submit_holding(&audit, by.clone(), report, None, hold).await?;
    Ok(Reply::Reported { room: room.clone(), message })
}

/// What can be handed over together: no two of it are about the same reading.
async fn owed(store: &dyn Store, room: &RoomKey, after: Seq) -> Result<Vec<(Bytes, Decision)>, StoreError> {
    // What was taken lies there until the next commit.
    let after = (after > Seq::ZERO).then(|| rows::owed(room, after));
    let found = store.scan(&StreamId::Owed, &rows::owed_by(room), after.as_deref(), ENTRIES_MAX).await?;
    let (mut owed, mut readers, mut bytes) = (Vec::new(), BTreeSet::new(), 0);
    for (key, row) in found {
        let entry = Decision::decode(&row)?;
        bytes += row.len();
        let again = entry.reading.as_ref().is_some_and(|reading| !readers.insert(reading.user.clone()));
        if again || (bytes > ENTRIES_BYTES_MAX && !owed.is_empty()) {
            break;
        }
        owed.push((key, entry));
    }
    Ok(owed)
}

/// Makes the audit room of `room` where there is none.
async fn begin(registry: &Arc<Registry>, room: &RoomKey, audit: &RoomKey) -> Result<(), Refusal> {
    let store = &**registry.store();
    if store.head(&audit.stream()).await.map_err(|error| read_failed(&error))?.is_some() {
        return Ok(());
    }
    let num = registry.reserve_beside(audit).await?.num;
    // As they are on disk: who comes and goes meanwhile is owed, too.
    let readers = readers(store, room).await.map_err(|error| read_failed(&error))?;
    let begin = Some(Begin { num, audits: room.room, readers });
    write_down(registry, audit, Audit { begin, decisions: Vec::new() }).await
}

async fn write_down(registry: &Arc<Registry>, audit: &RoomKey, what: Audit) -> Result<(), Refusal> {
    let by = server(&audit.tenant, registry.now());
    registry.submit(audit, by, Command::Audit(what), None).await.map(drop)
}

/// Who reads what is decided in `room`.
async fn readers(store: &dyn Store, room: &RoomKey) -> Result<Vec<UserId>, StoreError> {
    let stream = room.stream();
    let Some(header) = store.get(&stream, rows::HEADER).await? else { return Ok(Vec::new()) };
    let header = Header::decode(&header)?;
    let (mut readers, mut after) = (Vec::new(), None::<Bytes>);
    loop {
        let members = store.scan(&stream, rows::MEMBERS, after.as_deref(), ROWS_PER_SCAN).await?;
        let Some((last, _)) = members.last() else { return Ok(readers) };
        after = Some(last.clone());
        let users = members.iter().map(|(key, _)| rows::user_of(key)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<Bytes> = users.iter().map(rows::rights).collect();
        let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let rights = store.get_all(&stream, &keys).await?;
        for ((user, (_, member)), rights) in users.into_iter().zip(&members).zip(rights) {
            let rights = rights.map(|row| Rights::decode(&row)).transpose()?.unwrap_or_default();
            if header.allows(Member::decode(member)?.role, rights).has(Capability::Audit) {
                readers.push(user);
            }
        }
    }
}

/// Whoever asks for what nobody asked for.
fn server(tenant: &TenantId, now: Timestamp) -> Principal {
    let (tenant, user, expires_at) = (tenant.clone(), UserId::server(), Timestamp(i64::MAX));
    Principal { tenant, user, token: None, login: None, issued_at: now, expires_at }
}

/// Wakes every room that owes something, one after the other: after a kill nobody else might.
pub async fn wake_who_owes(registry: Arc<Registry>) {
    let mut after = None::<Bytes>;
    while !registry.draining() {
        let found = registry.store().scan(&StreamId::Owed, &[], after.as_deref(), 1).await;
        let room = match found.as_deref() {
            Ok([(key, _), ..]) => rows::owing_room(key),
            Ok([]) => return,
            Err(error) => Err(error.clone()),
        };
        match room {
            Ok(room) => {
                registry.wake(&room);
                // Behind all of its rows.
                after = Some(rows::owed(&room, Seq(u64::MAX)));
            }
            Err(error) => {
                tracing::error!(%error, "what is owed to audit rooms could not be read; rooms hand it on when they wake");
                return;
            }
        }
        tokio::time::sleep(WAKING_PACE).await;
    }
}
