//! What rooms have decided, on its way to their audit rooms.
//!
//! A commit has records of one room, so what a room decides files a row in its own commit, and the room hands that on
//! afterwards, as often as it takes. The audit room keeps in its own commit how far it has taken, so that each arrives once.
//! Entries are read from their rows, some at a time, so that however many there are they take little memory.
//!
//! Who reads is told by itself, and first: as it is on disk, not as it has come about.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryFutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::failure::read_failed;
use super::reading::{self, Evidence};
use super::registry::Registry;
use super::room::{Answer, Asker};
use super::worker::Follower;
use crate::domain::account::Account;
use crate::domain::command::{Administer, Audit, Begin, Decision, Report};
use crate::domain::room::{Header, Member};
use crate::domain::{
    Capability, Command, FileId, Name, Num, Principal, RecordId, Rejection, Rights, RoomId, RoomKey, RoomKind, Seq,
    StreamId, TenantId, Timestamp, UserId,
};
use crate::store::rows::accounts as account_rows;
use crate::store::rows::{self, Row};
use crate::store::{Put, Store, StoreError};
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

/// How many rooms that owe something are woken before they have handed it over, how long they are waited for and how often
/// is looked whether they have; and how long after all have been woken that begins again.
const WAKING_MAX: usize = 64;
const WAKING_TIME: Duration = Duration::from_secs(10);
const WAKING_LOOK: Duration = Duration::from_millis(10);
const WAKING_PAUSE: Duration = Duration::from_secs(60);

/// How far a room is with what it owes its audit room.
pub struct Owed {
    /// The last record that is owed and on disk.
    filed: Seq,
    /// Up to here everything has been taken.
    taken: Seq,
    /// The last by which somebody reads no more what is decided, on disk or on its way there; and on disk.
    narrowed: Seq,
    lost: Seq,
    /// Who has done that himself, and at which record.
    left: BTreeMap<UserId, Seq>,
    /// Whoever read no more at this record is out of the audit room. That has not been told who reads, where it is 0.
    out: watch::Sender<Seq>,
    pub letting_go: Turn,
    pub handing_on: Turn,
}

/// Something that is done again and again until it has come to pass.
#[derive(Default)]
pub struct Turn {
    under_way: bool,
    failures: u32,
}

impl Default for Owed {
    fn default() -> Self {
        let (out, _) = watch::channel(Seq::ZERO);
        Self {
            filed: Seq::ZERO,
            taken: Seq::ZERO,
            narrowed: Seq::ZERO,
            lost: Seq::ZERO,
            left: BTreeMap::new(),
            out,
            letting_go: Turn::default(),
            handing_on: Turn::default(),
        }
    }
}

impl Turn {
    fn begin(&mut self, due: bool) -> bool {
        let begins = due && !self.under_way;
        self.under_way |= begins;
        begins
    }

    fn done(&mut self) {
        *self = Self::default();
    }

    /// It did not come to pass; after how long to try again, and whether that is the first time.
    pub fn failed(&mut self) -> (Duration, bool) {
        self.failures += 1;
        (RETRY_FIRST * 2_u32.pow((self.failures - 1).min(RETRY_DOUBLINGS_MAX)), self.failures == 1)
    }

    pub fn again(&mut self) {
        self.under_way = false;
    }
}

impl Owed {
    /// A room that was woken at `head` finds that it owes something: anything of it may take from somebody what he reads.
    pub fn found(&mut self, head: Seq) {
        (self.filed, self.narrowed, self.lost) = (head, head, head);
    }

    /// By the record at `seq`, which is about to be committed, somebody reads no more.
    pub fn narrows(&mut self, seq: Seq) {
        self.narrowed = self.narrowed.max(seq);
    }

    /// Up to which record those who read no more have to be out before an answer tells of it.
    pub fn narrowed(&self) -> Seq {
        self.narrowed
    }

    /// Everything up to `seq` that is owed is on disk.
    pub fn filed(&mut self, seq: Seq) {
        self.filed = self.filed.max(seq);
    }

    /// By the record at `seq`, which is on disk, somebody reads no more; those who have `left` did it themselves.
    pub fn lost(&mut self, seq: Seq, left: Vec<UserId>) {
        self.lost = self.lost.max(seq);
        self.left.extend(left.into_iter().map(|user| (user, seq)));
    }

    /// Whether something is on its way, or has to be.
    pub fn is_open(&self) -> bool {
        self.letting_go.under_way || self.handing_on.under_way || self.lets_go() || self.filed > self.taken
    }

    /// The audit room has to be told who reads: somebody does not any more, or it may not know from before this room woke.
    fn lets_go(&self) -> bool {
        let out = *self.out.borrow();
        self.lost > out || (out == Seq::ZERO && self.filed > self.taken)
    }

    /// Whether it has to be told now; from then on that is under way.
    pub fn begins_letting_go(&mut self) -> bool {
        let due = self.lets_go();
        self.letting_go.begin(due)
    }

    /// Who of those that read no more has seen to it himself.
    pub fn left(&self) -> BTreeSet<UserId> {
        self.left.keys().cloned().collect()
    }

    /// Whoever read no more at `seq` is out.
    pub fn out(&mut self, seq: Seq) {
        self.letting_go.done();
        self.left.retain(|_, at| *at > seq);
        self.out.send_replace(seq);
    }

    /// Behind which record and up to which something has to be handed over now; from then on that is under way. Nobody is
    /// told of a decision by which he reads no more: nothing of what is behind that goes before he is out.
    pub fn begins_handing_on(&mut self) -> Option<(Seq, Seq)> {
        let out = *self.out.borrow();
        let until = if self.lets_go() { out } else { self.filed };
        self.handing_on.begin(until > self.taken).then_some((self.taken, until))
    }

    /// Everything up to `seq` has been taken.
    pub fn taken(&mut self, seq: Seq) {
        self.handing_on.done();
        self.taken = seq.max(self.taken);
    }

    /// Answers as soon as whoever read no more at `after` is out; when that has not happened by `due`, nobody may rely on
    /// who reads what is decided.
    pub fn tell(&self, asker: Asker, answer: Answer, after: Seq, due: Instant) {
        if after <= *self.out.borrow() {
            return asker.tell(answer);
        }
        let mut out = self.out.subscribe();
        actix::spawn(async move {
            let out = timeout_at(due, out.wait_for(|out| *out >= after)).await;
            asker.tell(if matches!(out, Ok(Ok(_))) { answer } else { Err(Refusal::unavailable()) });
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

/// The audit room of `room`.
pub fn audit_of(room: &RoomKey) -> RoomKey {
    RoomKey { tenant: room.tenant.clone(), room: RoomId::audit(&room.tenant, room.room) }
}

/// The audit room of a tenant.
pub fn audit_of_tenant(tenant: &TenantId) -> RoomKey {
    RoomKey { tenant: tenant.clone(), room: RoomId::audit_of_tenant(tenant) }
}

/// The num of an audit room that is to begin; `None` where it has begun.
pub async fn num_to_begin(registry: Arc<Registry>, audit: RoomKey) -> Result<Option<Num>, Refusal> {
    if let Some(refusal) = registry.unready() {
        return Err(refusal);
    }
    match registry.store().head(&audit.stream()).await.map_err(|error| read_failed(&error))? {
        Some(_) => Ok(None),
        None => registry.reserve_beside(&audit).await.map(|reserved| Some(reserved.num)),
    }
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
    let audit = match kind {
        RoomKind::Channel | RoomKind::Group | RoomKind::Box | RoomKind::Canvas => audit_of(room),
        // Nobody answers for it but those who answer for all.
        RoomKind::Direct => audit_of_tenant(&room.tenant),
        RoomKind::Audit | RoomKind::Collection => return Err(Rejection::KindForbids.into()),
    };
    let before = store.get(&audit.stream(), &rows::report(message, &by.user)).await;
    let before = before.map_err(|error| read_failed(&error))?.is_some();
    let files: Vec<FileId> = reported.attachments.iter().map(|attachment| attachment.id).collect();
    let hold = match files.is_empty() {
        true => None,
        // It was deleted meanwhile, and what it had attached is gone.
        false => Some(registry.files()?.hold_all(files).await?.ok_or(Rejection::MessageDeleted)?),
    };
    if kind == RoomKind::Direct {
        begin_of_tenant(registry, &room.tenant).await?;
    } else {
        begin_of(registry, room, audited).await?;
    }
    let report = Command::Report(Report { reported, before });
    registry.submit_holding(&audit, by.clone(), report, None, hold).await?;
    Ok(Reply::Reported { room: room.clone(), message })
}

/// Writes what `by` has decided in a tenant, and that it was decided, in one commit: `puts` are on disk exactly where the
/// entry is. Returns as soon as they are, or it is known that they are not. The future is done when nothing of the audit
/// room reaches those any more who do not read it from then on.
pub async fn administer(
    registry: &Arc<Registry>,
    tenant: &TenantId,
    by: UserId,
    what: Administer,
    puts: Vec<Put>,
) -> Result<impl Future<Output = Result<(), Refusal>> + use<>, Refusal> {
    begin_of_tenant(registry, tenant).await?;
    let (audit, by) = (audit_of_tenant(tenant), asker(tenant, by, registry.now()));
    let (written, answer) = registry.submit_beside(&audit, by, Command::Administer(what), puts)?;
    if written.await.is_ok() {
        return Ok(answer.map_ok(drop));
    }
    let refusal = answer.await.err().unwrap_or_else(Refusal::unavailable);
    // A room that has died may have left a commit on its way to the disk.
    registry.store().settle(&audit.stream()).await.map_err(|error| read_failed(&error))?;
    Err(refusal)
}

/// The oldest of what `room` owes behind one record and up to another, as much of it as is handed over at once; and what
/// has been taken with that. What cannot be read is passed over: it is in the log of the room, and others are behind it.
pub async fn owed(
    registry: Arc<Registry>,
    room: RoomKey,
    (after, until): (Seq, Seq),
) -> Result<(Vec<Decision>, Taken), Refusal> {
    if let Some(refusal) = registry.unready() {
        return Err(refusal);
    }
    // What was taken lies there until the next commit.
    let after = (after > Seq::ZERO).then(|| rows::owed(&room, after));
    let found = registry.store().scan(&StreamId::Owed, &rows::owed_by(&room), after.as_deref(), ENTRIES_MAX).await;
    let (mut decisions, mut rows, mut through, mut bytes) = (Vec::new(), Vec::new(), None, 0);
    for (key, row) in found.map_err(|error| read_failed(&error))? {
        let seq = rows::owed_at(&key);
        bytes += row.len();
        if seq.as_ref().is_ok_and(|seq| *seq > until) || (bytes > ENTRIES_BYTES_MAX && !decisions.is_empty()) {
            break;
        }
        match seq.and_then(|seq| {
            through = Some(seq);
            Decision::decode(&row)
        }) {
            Ok(decision) => decisions.push(decision),
            Err(error) => {
                tracing::error!(room = %room.room, %error, "what a room has decided cannot be read, and is not written down");
                registry.metrics().decisions_lost.inc();
            }
        }
        rows.push(key);
    }
    Ok((decisions, Taken { through: through.unwrap_or(until), rows }))
}

/// Makes the audit room of a tenant where there is none.
pub async fn begin_of_tenant(registry: &Arc<Registry>, tenant: &TenantId) -> Result<(), Refusal> {
    let audit = audit_of_tenant(tenant);
    let Some(num) = num_to_begin(Arc::clone(registry), audit.clone()).await? else { return Ok(()) };
    // As they are on disk: whatever changes that meanwhile has to go through the audit room, too, and begins it first.
    let readers = administrators(&**registry.store(), tenant).await.map_err(|error| read_failed(&error))?;
    begin(registry, &audit, Begin { num, audits: None, readers }).await
}

/// Makes the audit room of `room` where there is none, which then is told who reads it, if it is not already.
async fn begin_of(registry: &Arc<Registry>, room: &RoomKey, audited: bool) -> Result<(), Refusal> {
    if !audited {
        let watched = registry.submit(room, server(&room.tenant, registry.now()), Command::Watch, None);
        watched.await?;
    }
    let audit = audit_of(room);
    let Some(num) = num_to_begin(Arc::clone(registry), audit.clone()).await? else { return Ok(()) };
    // As they are on disk: who comes and goes meanwhile is owed, too.
    let readers = readers(&**registry.store(), room).await.map_err(|error| read_failed(&error))?;
    begin(registry, &audit, Begin { num, audits: Some(room.room), readers }).await
}

async fn begin(registry: &Arc<Registry>, audit: &RoomKey, begin: Begin) -> Result<(), Refusal> {
    write_down(registry, audit, Audit { begin: Some(begin), ..Audit::default() }).await
}

/// Hands something to an audit room, which has it when this returns; the future is its answer.
pub fn write_down(
    registry: &Arc<Registry>,
    audit: &RoomKey,
    what: Audit,
) -> impl Future<Output = Result<(), Refusal>> + use<> {
    let by = server(&audit.tenant, registry.now());
    registry.submit(audit, by, Command::Audit(what), None).map_ok(drop)
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

/// Who decides in a tenant, and so reads what is decided there.
async fn administrators(store: &dyn Store, tenant: &TenantId) -> Result<Vec<UserId>, StoreError> {
    let (mut found, mut after) = (Vec::new(), None::<Bytes>);
    let stream = StreamId::Accounts(tenant.clone());
    loop {
        let accounts = store.scan(&stream, account_rows::ACCOUNTS, after.as_deref(), ROWS_PER_SCAN).await?;
        let Some((last, _)) = accounts.last() else { return Ok(found) };
        after = Some(last.clone());
        for (key, row) in &accounts {
            if Account::decode(row)?.administers() {
                found.push(account_rows::user_of(key)?);
            }
        }
    }
}

/// Whoever asks for what nobody asked for.
fn server(tenant: &TenantId, now: Timestamp) -> Principal {
    asker(tenant, UserId::server(), now)
}

/// Somebody who has shown already that he may ask.
fn asker(tenant: &TenantId, user: UserId, now: Timestamp) -> Principal {
    let (tenant, expires_at) = (tenant.clone(), Timestamp(i64::MAX));
    Principal { tenant, user, token: None, login: None, issued_at: now, expires_at }
}

/// Wakes every room that owes something: after a kill nobody else might, nor after it has died too often or could not be
/// read. From then on it looks again and again.
pub async fn wake_who_owes(registry: Arc<Registry>) {
    loop {
        if let Err(error) = wake_each(&registry).await {
            tracing::error!(%error, "what is owed to audit rooms could not be read; it is tried again");
        }
        tokio::time::sleep(WAKING_PAUSE).await;
    }
}

/// Some at a time, so that not all are in memory at once, and none while nothing could be committed.
async fn wake_each(registry: &Arc<Registry>) -> Result<(), StoreError> {
    let (mut after, mut woken) = (None::<Bytes>, Vec::new());
    while registry.unready().is_none() {
        let found = registry.store().scan(&StreamId::Owed, &[], after.as_deref(), 1).await?;
        let Some((key, _)) = found.first() else { break };
        after = Some(match rows::owing_room(key) {
            Ok(room) => {
                registry.wake(&room);
                let behind = rows::owed(&room, Seq(u64::MAX));
                woken.push(room);
                behind
            }
            Err(error) => {
                tracing::error!(%error, "a row says of no room what it owes");
                key.clone()
            }
        });
        if woken.len() == WAKING_MAX {
            handed_on(registry, &std::mem::take(&mut woken)).await?;
        }
    }
    Ok(())
}

/// Waits until none of these rooms owes anything, a while at most.
async fn handed_on(registry: &Arc<Registry>, rooms: &[RoomKey]) -> Result<(), StoreError> {
    let due = Instant::now() + WAKING_TIME;
    for room in rooms {
        while Instant::now() < due
            && !registry.store().scan(&StreamId::Owed, &rows::owed_by(room), None, 1).await?.is_empty()
        {
            tokio::time::sleep(WAKING_LOOK).await;
        }
    }
    Ok(())
}
