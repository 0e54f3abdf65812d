//! What a session looks up before it answers: whether its user may follow, from where, and what was said before.
//!
//! Reads go to the store and wake no room. Each reader is registered as a follower first, so that a removal meanwhile is
//! noticed.

use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;

use super::beside::{LeaveOut, Shown, said_bytes, shown};
use super::blocking::is_shut;
use super::failure::read_failed;
use super::presences;
use super::registry::Registry;
use super::worker::Follower;
use crate::domain::command::Found;
use crate::domain::document as documents;
use crate::domain::policy::Standing;
use crate::domain::room::{Ban, Header, Member, Message, Mute, PINS_MAX, Pin};
use crate::domain::{
    Capabilities, Capability, Content, Emoji, Event, Name, Original, Position, Presence, Record, RecordId, Rejection,
    Reported, Rights, Role, RoomEvent, RoomId, RoomKey, RoomKind, Rules, Seq, StreamId, Timestamp, UserId,
};
use crate::store::rows::{self, Progress, Row};
use crate::store::{PAGE_BYTES, Store, StoreError};
use crate::wire::{
    About, Absence, Cursor, From as Since, Gap, ListedMember, Pinned, Presences, Present, Reader, Readers, Refusal,
    Reply, Version,
};

/// How many users that have reacted to a message in whatever way are looked at for one answer.
const REACTORS_PER_ANSWER: usize = 1000;

/// Admits a registered follower and lets it have what is published from now on, where it has nothing to read before.
pub async fn open(registry: &Registry, follower: &Rc<Follower>, since: Since) -> Result<Admitted, Refusal> {
    let admitted = admit(registry, follower, since).await?;
    let mut follow = follower.follow().borrow_mut();
    let generation = follow.generation();
    // A follower that stands at the head has nothing to read, unless something came meanwhile.
    follow.page(generation, admitted.at.seq, None, admitted.at.seq == admitted.head, []);
    Ok(admitted)
}

/// Where a follower begins.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// Records after this place are for it.
    pub at: Position,
    /// The room's newest record.
    pub head: Seq,
    /// What it has asked for and may not read.
    pub gap: Option<Gap>,
}

/// Admits a registered follower: its membership, then the head, then where it wants to begin. It is behind from then
/// on.
pub async fn admit(registry: &Registry, follower: &Rc<Follower>, since: Since) -> Result<Admitted, Refusal> {
    let store = &**registry.store();
    if let Some(reader) = follower.reader() {
        return admit_reader(store, follower, reader, since).await;
    }
    let visit = Visit::begin(store, follower).await?;
    let head = visit.head().await?;
    let wanted = match since {
        Since::Start => Position::start(store.epoch()),
        Since::Now => head,
        Since::Cursor(text) => visit.position(&text, head).await?,
    };
    let (at, gap) = match visit.shown_from() {
        first if wanted.seq.next() < first => {
            let trimmed = visit.insider.header.trimmed;
            let (hidden, reason) = if first == trimmed.seq.next() {
                (trimmed, Absence::Retention)
            } else {
                let hidden = visit.record(Seq(first.0 - 1)).await?.ok_or_else(Refusal::unavailable)?;
                (hidden.position, Absence::NotMember)
            };
            (hidden, Some(Gap { from: wanted.seq.next(), to: hidden.seq, reason }))
        }
        _ => (wanted, None),
    };
    let mut follow = follower.follow().borrow_mut();
    if !follow.admit(at, visit.insider.member.joined.seq()) {
        return Err(Rejection::NotMember.into());
    }
    Ok(Admitted { at, head: head.seq, gap })
}

/// Admits whoever follows a collection: any user of the tenant, who is told of what he may read. There need be no such
/// collection yet: then it begins before the first document.
async fn admit_reader(
    store: &dyn Store,
    follower: &Follower,
    reader: &documents::Reader,
    since: Since,
) -> Result<Admitted, Refusal> {
    let (key, failed) = (follower.room(), |error: StoreError| read_failed(&error));
    if reader.identity().is_none() {
        return Err(Refusal::unauthenticated());
    }
    let header = store.get(&key.stream(), rows::HEADER).await.map_err(failed)?;
    let header = header.map(|header| Header::decode(&header)).transpose().map_err(failed)?;
    if header.as_ref().is_some_and(|header| header.kind != RoomKind::Collection) {
        return Err(Rejection::RoomNotFound.into());
    }
    let start = Position::start(store.epoch());
    let head = store.head(&key.stream()).await.map_err(failed)?.unwrap_or(start);
    let at = match since {
        Since::Start => start,
        Since::Now => head,
        Since::Cursor(text) => {
            let trimmed = header.map_or(start, |header| header.trimmed);
            position(store, key, &text, head, trimmed).await?
        }
    };
    // Nobody is removed from a collection: it stands before every record.
    follower.follow().borrow_mut().admit(at, Seq::ZERO);
    Ok(Admitted { at, head: head.seq, gap: None })
}

/// What a member is in a room, and what the room is.
pub struct Insider {
    pub member: Member,
    pub header: Header,
}

impl Insider {
    /// Of `user`, or why there is none; without waking the room. Of members it is in memory for the most part.
    pub async fn of(store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<Self, Refusal> {
        let (stream, failed) = (key.stream(), |error: StoreError| read_failed(&error));
        let Some(member) = store.get(&stream, &rows::member(user)).await.map_err(failed)? else {
            acquaintance(store, key, user).await?;
            return Err(Rejection::NotMember.into());
        };
        let header = store.get(&stream, rows::HEADER).await.map_err(failed)?.ok_or(Rejection::RoomNotFound)?;
        Ok(Self { member: Member::decode(&member).map_err(failed)?, header: Header::decode(&header).map_err(failed)? })
    }

    /// The first record that the member may read.
    pub fn shown_from(&self) -> Seq {
        self.header.shown_from(&self.member)
    }

    /// What the member, who is `user`, may do, were the room not archived.
    async fn allowed(&self, store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<Capabilities, Refusal> {
        Ok(self.header.allows(self.member.role, rights(store, key, user).await?))
    }

    /// What the member, who is `user`, may do now.
    pub async fn may(&self, store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<Capabilities, Refusal> {
        Ok(self.header.may(self.member.role, rights(store, key, user).await?))
    }
}

/// What was decided about a user in a room.
async fn rights(store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<Rights, Refusal> {
    let row = store.get(&key.stream(), &rows::rights(user)).await.map_err(|error| read_failed(&error))?;
    let rights = row.map(|row| Rights::decode(&row)).transpose().map_err(|error| read_failed(&error))?;
    Ok(rights.unwrap_or_default())
}

/// A member who reads something of a room, registered as a follower, so that a removal meanwhile is noticed.
struct Visit<'a> {
    store: &'a dyn Store,
    reader: &'a Follower,
    stream: StreamId,
    insider: Insider,
}

impl<'a> Visit<'a> {
    async fn begin(store: &'a dyn Store, reader: &'a Rc<Follower>) -> Result<Self, Refusal> {
        let insider = Insider::of(store, reader.room(), reader.user()).await?;
        Ok(Self { store, reader, stream: reader.room().stream(), insider })
    }

    fn key(&self) -> &'a RoomKey {
        self.reader.room()
    }

    /// The first record that the member may read.
    fn shown_from(&self) -> Seq {
        self.insider.shown_from()
    }

    /// Refuses a member who does not have `capability`, were the room not archived.
    async fn check(&self, capability: Capability) -> Result<(), Refusal> {
        let allowed = self.insider.allowed(self.store, self.key(), self.reader.user()).await?;
        Ok(self.insider.header.check(allowed, capability)?)
    }

    /// What the member may do now.
    async fn may(&self) -> Result<Capabilities, Refusal> {
        self.insider.may(self.store, self.key(), self.reader.user()).await
    }

    async fn head(&self) -> Result<Position, Refusal> {
        let head = self.store.head(&self.stream).await.map_err(|error| read_failed(&error))?;
        head.ok_or_else(|| Rejection::RoomNotFound.into())
    }

    /// What a cursor means here.
    async fn position(&self, cursor: &str, head: Position) -> Result<Position, Refusal> {
        position(self.store, self.key(), cursor, head, self.insider.header.trimmed).await
    }

    /// What is known of a message that the member may know of.
    async fn message(&self, id: RecordId) -> Result<Message, Refusal> {
        let found = message_at(self.store, &self.stream, id).await.map_err(|error| read_failed(&error))?;
        let found = found.filter(|message| message.is_shown(self.reader.user(), Some(self.shown_from())));
        found.ok_or_else(|| Rejection::MessageNotFound.into())
    }

    /// The same of one that has not been deleted.
    async fn standing(&self, id: RecordId) -> Result<Message, Refusal> {
        let message = self.message(id).await?;
        if message.deleted { Err(Rejection::MessageDeleted.into()) } else { Ok(message) }
    }

    async fn record(&self, seq: Seq) -> Result<Option<Record>, Refusal> {
        record_at(self.store, &self.stream, seq).await.map_err(|error| read_failed(&error))
    }

    /// `records`, and what goes beside them.
    async fn shown(&self, records: Vec<Record>, leave_out: LeaveOut) -> Result<Shown, Refusal> {
        let shown = shown(self.store, &self.stream, self.reader.user(), records, leave_out).await;
        shown.map_err(|error| read_failed(&error))
    }

    /// The rows of users behind `after` that hold, at most `limit`, and where the next page starts.
    async fn holding<T: Row>(
        &self,
        prefix: &[u8],
        after: Option<Bytes>,
        limit: usize,
        holds: impl Fn(&T) -> bool,
    ) -> Result<(Vec<(UserId, T)>, Option<UserId>), Refusal> {
        let failed = |error: StoreError| read_failed(&error);
        let found = self.store.scan(&self.stream, prefix, after.as_deref(), ENDING_PER_ANSWER).await.map_err(failed)?;
        let (mut page, mut last, mut more) = (Vec::new(), None, found.len() == ENDING_PER_ANSWER);
        for (key, row) in &found {
            let row = T::decode(row).map_err(failed)?;
            if holds(&row) {
                if page.len() == limit {
                    more = true;
                    break;
                }
                page.push((rows::user_of(key).map_err(failed)?, row));
            }
            last = Some(key);
        }
        self.still()?;
        let after = last.filter(|_| more).map(|key| rows::user_of(key)).transpose().map_err(failed)?;
        Ok((page, after))
    }

    /// Refuses who is not a member any more.
    fn still(&self) -> Result<(), Refusal> {
        let stands = self.reader.follow().borrow().stands(self.insider.member.joined.seq());
        if stands { Ok(()) } else { Err(Rejection::NotMember.into()) }
    }
}

/// Refuses who may not know that there is such a room.
pub async fn known(store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<(), Refusal> {
    let member = store.get(&key.stream(), &rows::member(user)).await.map_err(|error| read_failed(&error))?;
    if member.is_none() {
        acquaintance(store, key, user).await?;
    }
    Ok(())
}

/// What somebody who is no member may know of a room: what it is, and as what he is invited. The same is read whether
/// there is no such room or it is not to be known, so that the time tells nothing.
async fn acquaintance(store: &dyn Store, key: &RoomKey, user: &UserId) -> Result<(Header, Option<Role>), Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let invitation = rows::invitation(user);
    let mut found = store.get_all(&key.stream(), &[rows::HEADER, &invitation]).await.map_err(failed)?.into_iter();
    let (header, invitation) = (found.next().flatten(), found.next().flatten());
    let header = header.ok_or_else(|| Refusal::from(Rejection::RoomNotFound))?;
    let header = Header::decode(&header).map_err(failed)?;
    let invited = invitation.map(|row| Role::decode(&row)).transpose().map_err(failed)?;
    if !header.kind.policy().is_known_to(invited.is_some()) {
        return Err(Rejection::RoomNotFound.into());
    }
    Ok((header, invited))
}

/// Reads a cursor and makes sure that it still means what it meant when it was given out.
async fn position(
    store: &dyn Store,
    key: &RoomKey,
    text: &str,
    head: Position,
    trimmed: Position,
) -> Result<Position, Refusal> {
    let at = Cursor::parse(text, key)?;
    if at.seq > head.seq {
        return Err(if at.epoch == store.epoch() { Refusal::cursor_invalid() } else { Refusal::epoch_changed() });
    }
    // What lay before it and is not kept any more is what it was for everybody.
    if at.seq == Seq::ZERO || at.epoch == store.epoch() || at.seq < trimmed.seq || at == trimmed {
        return Ok(at);
    }
    let page = store.read(&key.stream(), Seq(at.seq.0 - 1), 1).await.map_err(|error| read_failed(&error))?;
    match page.records.first() {
        Some(record) if record.position == at => Ok(at),
        Some(_) | None => Err(Refusal::epoch_changed()),
    }
}

/// A page of what was before. As with everything that is read here, `reader` has been registered as a follower, so that a
/// removal meanwhile is noticed, and nothing is shown to who was removed.
pub async fn history(
    store: &dyn Store,
    reader: &Rc<Follower>,
    before: Option<String>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let visit = Visit::begin(store, reader).await?;
    let head = visit.head().await?;
    let before = match before {
        Some(text) => visit.position(&text, head).await?.seq,
        None => head.seq.next(),
    };
    let mut page = store.read_back(&visit.stream, before, limit).await.map_err(|error| read_failed(&error))?;
    let first = visit.shown_from();
    let ends = page.complete || page.records.first().is_some_and(|record| record.position.seq <= first);
    page.records.retain(|record| record.position.seq >= first);
    let Shown { records, beside, complete } = visit.shown(page.records, LeaveOut::First).await?;
    visit.still()?;
    let before = records.first().filter(|_| !ends || !complete).map(|record| record.position);
    let trimmed = visit.insider.header.trimmed.seq;
    let gone = Gap { from: Seq(1), to: trimmed, reason: Absence::Retention };
    let gap = (before.is_none() && trimmed > Seq::ZERO && first == trimmed.next()).then_some(gone);
    Ok(Reply::History { room: visit.key().clone(), records, beside, before, gap })
}

/// The replies of a thread, by its index.
pub async fn thread(
    store: &dyn Store,
    reader: &Rc<Follower>,
    thread: RecordId,
    after: Option<String>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let (head, stream) = (visit.head().await?, &visit.stream);
    let root = visit.record(thread.seq()).await?;
    let is_trimmed = root.is_none() && thread.seq() < visit.insider.header.kept_from();
    if !is_trimmed && root.is_none_or(|root| root.id != thread) {
        return Err(Rejection::MessageNotFound.into());
    }
    let hidden = Seq(visit.shown_from().0 - 1);
    let after = match after {
        Some(text) => visit.position(&text, head).await?.seq.max(hidden),
        None => hidden,
    };
    let from = Some(rows::threaded(thread.seq(), after));
    let index = store.scan(stream, &rows::thread(thread.seq()), from.as_deref(), limit + 1).await.map_err(failed)?;
    let seqs: Result<Vec<Seq>, _> = index.iter().take(limit).map(|(row, _)| rows::seq_of(row)).collect();
    let page = store.records_at(stream, &seqs.map_err(failed)?).await.map_err(failed)?;
    let more = index.len() > limit || !page.complete;
    if index.is_empty() && thread.seq() <= hidden {
        return Err(Rejection::MessageNotFound.into());
    }
    let read = page.records.last().filter(|_| more).map(|record| record.position);
    let records: Vec<_> = page.records.into_iter().filter(|record| belongs(record, thread)).collect();
    let Shown { records, beside, complete } = visit.shown(records, LeaveOut::Last).await?;
    visit.still()?;
    let after = if complete { read } else { records.last().map(|record| record.position) };
    Ok(Reply::Thread { room: visit.key().clone(), thread, records, beside, after })
}

/// Who has reacted to a message in one way.
pub async fn reactions(
    store: &dyn Store,
    reader: &Rc<Follower>,
    (message, emoji): (RecordId, Emoji),
    after: Option<UserId>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let known = visit.standing(message).await?;
    let (prefix, first) = (rows::reactions(message.seq()), after.is_none());
    let after = after.map(|user| rows::reactions_of(message.seq(), &user));
    // Filed by user, because that is how the rules ask; those who feel otherwise are passed over.
    let found = store.scan(&visit.stream, &prefix, after.as_deref(), REACTORS_PER_ANSWER).await.map_err(failed)?;
    let (mut users, mut last, mut more) = (Vec::new(), None, found.len() == REACTORS_PER_ANSWER);
    for (key, row) in &found {
        let own: BTreeSet<Emoji> = Row::decode(row).map_err(failed)?;
        if own.contains(&emoji) {
            if users.len() == limit {
                more = true;
                break;
            }
            users.push(rows::reactor_of(key).map_err(failed)?);
        }
        last = Some(key);
    }
    let count = known.count(&emoji);
    if first && u32::try_from(users.len()).is_ok_and(|found| found >= count) {
        more = false;
    }
    visit.still()?;
    let after = last.filter(|_| more).map(|key| rows::reactor_of(key)).transpose().map_err(failed)?;
    Ok(Reply::Reactions { room: visit.key().clone(), message, emoji, count, users, after })
}

/// The messages that are pinned, the one that was pinned last first.
pub async fn pins(
    store: &dyn Store,
    reader: &Rc<Follower>,
    before: Option<String>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let head = visit.head().await?;
    let before = match before {
        Some(text) => visit.position(&text, head).await?.seq,
        None => head.seq.next(),
    };
    let found = store.scan(&visit.stream, rows::PINS, None, PINS_MAX).await.map_err(failed)?;
    let pins = found.iter().map(|(_, row)| Pin::decode(row)).collect::<Result<Vec<_>, _>>();
    let mut left: Vec<Pin> = pins.map_err(failed)?.into_iter().filter(|pin| pin.position.seq < before).collect();
    left.retain(|pin| pin.message.seq() >= visit.shown_from());
    left.sort_unstable_by_key(|pin| std::cmp::Reverse(pin.position.seq));
    let (mut pins, mut records, mut bytes, mut more) = (Vec::new(), Vec::new(), 0, false);
    for pin in left {
        let record = visit.record(pin.message.seq()).await?;
        // It may have been deleted meanwhile.
        let Some(record) = record.filter(|record| record.id == pin.message && Message::of(record).is_some()) else {
            continue;
        };
        bytes += said_bytes(&record);
        if records.len() == limit || (bytes > PAGE_BYTES && !records.is_empty()) {
            more = true;
            break;
        }
        pins.push(pin);
        records.push(record);
    }
    let Shown { records, beside, complete } = visit.shown(records, LeaveOut::Last).await?;
    pins.truncate(records.len());
    visit.still()?;
    let before = pins.last().filter(|_| more || !complete).map(|pin| pin.position);
    let pins = pins.into_iter().map(|Pin { message, by, at, .. }| Pinned { message, by, at }).collect();
    Ok(Reply::Pins { room: visit.key().clone(), pins, records, beside, before })
}

/// What a message has said, one edit after the other, where the room shows that.
pub async fn edits(
    store: &dyn Store,
    reader: &Rc<Follower>,
    message: RecordId,
    after: Option<String>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let visit = Visit::begin(store, reader).await?;
    let head = visit.head().await?;
    if !visit.insider.header.settings.edit_history {
        return Err(Rejection::EditsHidden.into());
    }
    let after = match after {
        Some(text) => visit.position(&text, head).await?.seq,
        None => Seq::ZERO,
    };
    let known = visit.standing(message).await?;
    let left = std::iter::once(message.seq()).chain(known.edits).filter(|seq| *seq > after);
    let (mut versions, mut last, mut bytes, mut more) = (Vec::new(), None, 0, false);
    for seq in left {
        // It may have been deleted meanwhile.
        let record = visit.record(seq).await?.ok_or(Rejection::MessageDeleted)?;
        let version = Version::of(&record).ok_or(Rejection::MessageDeleted)?;
        bytes += said_bytes(&record);
        more = versions.len() == limit || (bytes > PAGE_BYTES && !versions.is_empty());
        if more {
            break;
        }
        last = Some(record.position);
        versions.push(version);
    }
    visit.still()?;
    Ok(Reply::Edits { room: visit.key().clone(), message, versions, after: last.filter(|_| more) })
}

/// What a message says now, for `user` to forward it; of one that was forwarded itself, who said it first.
pub async fn original(store: &dyn Store, key: &RoomKey, user: &UserId, message: RecordId) -> Result<Original, Refusal> {
    let (stream, failed) = (key.stream(), |error: StoreError| read_failed(&error));
    let insider = Insider::of(store, key, user).await?;
    let known = message_at(store, &stream, message).await.map_err(failed)?;
    let known = known.filter(|known| known.is_shown(user, Some(insider.shown_from())));
    let known = known.ok_or(Rejection::MessageNotFound)?;
    if known.deleted {
        return Err(Rejection::MessageDeleted.into());
    }
    let now = as_it_is(store, &stream, &known).await;
    // Nobody shows anything of this room: it is enough that the membership outlasted the reading.
    if Insider::of(store, key, user).await?.member.joined != insider.member.joined {
        return Err(Rejection::NotMember.into());
    }
    let (posted, content) = now?;
    let Event::Room(RoomEvent::MessagePosted { forwarded, attachments, .. }) = posted.event else {
        return Err(Rejection::MessageDeleted.into());
    };
    let (by, at) = forwarded.map_or((posted.author, posted.at), |before| (before.by, before.at));
    Ok(Original { content, attachments, by, at })
}

/// The record by which a message was posted, and what it says now.
async fn as_it_is(store: &dyn Store, stream: &StreamId, known: &Message) -> Result<(Record, Content), Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let posted = record_at(store, stream, known.id.seq()).await.map_err(failed)?;
    let edited = match known.edits.last() {
        Some(edit) => record_at(store, stream, *edit).await.map_err(failed)?,
        None => None,
    };
    // It may have been deleted or trimmed meanwhile, and its edits with it: then it does not say again what it said before.
    let said = if known.edits.is_empty() { posted.as_ref() } else { edited.as_ref() };
    let content = match &said.ok_or(Rejection::MessageNotFound)?.event {
        Event::Room(event) => event.said().map(|(content, _)| content.clone()),
        Event::Directory(_) | Event::Inbox(_) => None,
    };
    Ok((posted.ok_or(Rejection::MessageNotFound)?, content.ok_or(Rejection::MessageDeleted)?))
}

/// A message that a member reports, as it is now.
pub struct Evidence {
    pub kind: RoomKind,
    /// The audit room is told already of who reads it.
    pub audited: bool,
    pub reported: Reported,
}

/// A copy of a message that the reader may read and has not been deleted.
pub async fn evidence(
    store: &dyn Store,
    reader: &Rc<Follower>,
    message: RecordId,
    reason: Option<Name>,
) -> Result<Evidence, Refusal> {
    let visit = Visit::begin(store, reader).await?;
    let known = visit.standing(message).await?;
    let now = as_it_is(store, &visit.stream, &known).await;
    visit.still()?;
    let (posted, content) = now?;
    let Event::Room(RoomEvent::MessagePosted { attachments, .. }) = posted.event else {
        return Err(Rejection::MessageDeleted.into());
    };
    let (room, by, at) = (visit.key().room, posted.author, posted.at);
    let Header { kind, audited, .. } = visit.insider.header;
    Ok(Evidence { kind, audited, reported: Reported { room, message, by, at, content, attachments, reason } })
}

/// The report of this id in an audit room, if there is one.
pub async fn report(store: &dyn Store, key: &RoomKey, report: RecordId) -> Result<Option<Found>, Refusal> {
    let (stream, failed) = (key.stream(), |error: StoreError| read_failed(&error));
    if report.seq() == Seq::ZERO {
        return Ok(None);
    }
    let record = record_at(store, &stream, report.seq()).await.map_err(failed)?;
    let is_one =
        record.is_some_and(|record| record.id == report && matches!(record.event, Event::Room(RoomEvent::Reported(_))));
    let resolved = store.get(&stream, &rows::resolved(report.seq())).await.map_err(failed)?.is_some();
    Ok(is_one.then_some(Found { resolved }))
}

/// What is known of the message of this id; `None` when there is none.
pub async fn message_at(store: &dyn Store, stream: &StreamId, id: RecordId) -> Result<Option<Message>, StoreError> {
    if id.seq() == Seq::ZERO {
        return Ok(None);
    }
    if let Some(row) = store.get(stream, &rows::message(id.seq())).await? {
        let message = Message::decode(&row)?;
        // After a loss that the operator accepted the row may be that of a message that is gone.
        if message.id == id {
            return Ok(Some(message));
        }
    }
    let found = record_at(store, stream, id.seq()).await?.filter(|record| record.id == id);
    Ok(found.as_ref().and_then(Message::of))
}

/// Whether a record that the index of a thread names is one of it, or was. After a loss that the operator accepted there
/// may be another in its place, or none.
fn belongs(record: &Record, thread: RecordId) -> bool {
    match &record.event {
        Event::Room(RoomEvent::MessagePosted { reply, .. }) => {
            reply.as_ref().is_some_and(|reply| reply.thread == thread)
        }
        Event::Room(RoomEvent::MessageErased) => true,
        Event::Room(_) | Event::Directory(_) | Event::Inbox(_) => false,
    }
}

/// The rows of `keys`, in their order.
pub async fn all(store: &dyn Store, stream: &StreamId, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
    store.get_all(stream, &keys).await
}

pub async fn record_at(store: &dyn Store, stream: &StreamId, seq: Seq) -> Result<Option<Record>, StoreError> {
    Ok(store.records_at(stream, &[seq]).await?.records.pop())
}

/// What a room is. Where it stands is for its members.
pub async fn room(store: &dyn Store, reader: &Rc<Follower>) -> Result<Reply, Refusal> {
    let (key, user) = (reader.room(), reader.user());
    let visit = match Visit::begin(store, reader).await {
        Ok(visit) => visit,
        Err(refusal) if refusal.code() == Rejection::NotMember.code() => {
            let (header, invited) = acquaintance(store, key, user).await?;
            let about = about(header, invited.map(|role| (role, Standing::Invited)), None, Capabilities::NONE, None);
            return Ok(Reply::Room { room: key.clone(), about });
        }
        Err(refusal) => return Err(refusal),
    };
    let (head, rights) = (visit.head().await?, rights(store, key, user).await?);
    visit.still()?;
    let Insider { member, header } = &visit.insider;
    let (place, may) = ((member.role, Standing::Member), header.may(member.role, rights));
    let audits = header.allows(member.role, rights).has(Capability::Audit);
    let audit = audits.then(|| RoomId::audit(&key.tenant, key.room));
    let about = about(visit.insider.header, Some(place), Some(head), may, audit);
    Ok(Reply::Room { room: key.clone(), about })
}

fn about(
    header: Header,
    place: Option<(Role, Standing)>,
    head: Option<Position>,
    may: Capabilities,
    audit: Option<RoomId>,
) -> About {
    let Header { kind, num, alias, created_at, archived, trimmed: _, settings, audits, audited: _ } = header;
    About { kind, num, alias, created_at, archived, settings, place, may, head, audits, audit }
}

/// Refuses who may not post in a room.
pub async fn may_post(store: &dyn Store, reader: &Rc<Follower>, now: Timestamp) -> Result<(), Refusal> {
    let visit = Visit::begin(store, reader).await?;
    let Insider { header, .. } = &visit.insider;
    if header.archived {
        return Err(Rejection::RoomArchived.into());
    }
    header.check(visit.may().await?, Capability::Post)?;
    if header.kind == RoomKind::Direct && is_shut(store, visit.key()).await.map_err(|error| read_failed(&error))? {
        return Err(Rejection::Blocked.into());
    }
    let mute = store.get(&visit.stream, &rows::mute(reader.user())).await.map_err(|error| read_failed(&error))?;
    if let Some(mute) = mute {
        Mute::decode(&mute).map_err(|error| read_failed(&error))?.check(now)?;
    }
    visit.still()
}

/// Who is in a room, in the order of the users' ids. For members.
pub async fn members(
    store: &dyn Store,
    reader: &Rc<Follower>,
    after: Option<UserId>,
    limit: usize,
    now: Timestamp,
) -> Result<Reply, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let after = after.map(|user| rows::member(&user));
    let found = store.scan(&visit.stream, rows::MEMBERS, after.as_deref(), limit + 1).await.map_err(failed)?;
    let users = found.iter().take(limit).map(|(key, _)| rows::user_of(key)).collect::<Result<Vec<_>, _>>();
    let users = users.map_err(failed)?;
    let keys = users.iter().flat_map(|user| [rows::rights(user), rows::mute(user)]).collect::<Vec<_>>();
    let decided = all(store, &visit.stream, &keys).await.map_err(failed)?;
    visit.still()?;
    let members = users.into_iter().zip(&found).zip(decided.chunks(2)).map(|((user, (_, row)), decided)| {
        let Member { role, joined } = Member::decode(row)?;
        let rights = decided[0].as_deref().map(Rights::decode).transpose()?.unwrap_or_default();
        let muted = decided[1].as_deref().map(Mute::decode).transpose()?.filter(|mute| mute.holds(now));
        Ok(ListedMember { user, role, rights, muted, joined })
    });
    let members = members.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let after = members.last().filter(|_| found.len() > limit).map(|member| member.user.clone());
    Ok(Reply::Members { room: visit.key().clone(), members, after })
}

/// How many bans or mutes are looked at for one answer, those that have ended among them.
const ENDING_PER_ANSWER: usize = 1000;

/// Who is banned from a room at `now`, in the order of the users' ids. For who may ban.
pub async fn bans(
    store: &dyn Store,
    reader: &Rc<Follower>,
    after: Option<UserId>,
    limit: usize,
    now: Timestamp,
) -> Result<Reply, Refusal> {
    let visit = Visit::begin(store, reader).await?;
    visit.check(Capability::Ban).await?;
    let after = after.map(|user| rows::ban(&user));
    let (bans, after) = visit.holding(rows::BANS, after, limit, |ban: &Ban| ban.holds(now)).await?;
    Ok(Reply::Bans { room: visit.key().clone(), bans, after })
}

/// Who is muted in a room at `now`, in the order of the users' ids. For who may mute.
pub async fn mutes(
    store: &dyn Store,
    reader: &Rc<Follower>,
    after: Option<UserId>,
    limit: usize,
    now: Timestamp,
) -> Result<Reply, Refusal> {
    let visit = Visit::begin(store, reader).await?;
    visit.check(Capability::Mute).await?;
    let after = after.map(|user| rows::mute(&user));
    let (mutes, after) = visit.holding(rows::MUTES, after, limit, |mute: &Mute| mute.holds(now)).await?;
    Ok(Reply::Mutes { room: visit.key().clone(), mutes, after })
}

/// What may not be said in a room. For who may change it: who reads of a word that it is not allowed finds another.
pub async fn rules(store: &dyn Store, reader: &Rc<Follower>) -> Result<Reply, Refusal> {
    let visit = Visit::begin(store, reader).await?;
    visit.check(Capability::Update).await?;
    let rules = rules_of(store, &visit.stream).await.map_err(|error| read_failed(&error))?;
    visit.still()?;
    Ok(Reply::Rules { room: visit.key().clone(), rules })
}

/// What may not be said in the room of a stream.
pub async fn rules_of(store: &dyn Store, stream: &StreamId) -> Result<Rules, StoreError> {
    let row = store.get(stream, rows::RULES).await?;
    Ok(row.map(|row| Rules::decode(&row)).transpose()?.unwrap_or_default())
}

/// How many rows of members are read at once.
const MEMBERS_PER_SCAN: usize = 1000;

/// How far the members of a room have got, seen from one message. Looks at each member once, however many messages
/// there are.
pub async fn readers(
    store: &dyn Store,
    reader: &Rc<Follower>,
    message: RecordId,
    after: Option<UserId>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let (known, stream) = (visit.standing(message).await?, &visit.stream);
    let posted = visit.record(message.seq()).await?.ok_or(Rejection::MessageNotFound)?;
    let mut readers = Readers::default();
    let (mut more, mut last) = (false, None);
    loop {
        let members = store.scan(stream, rows::MEMBERS, last.as_deref(), MEMBERS_PER_SCAN).await.map_err(failed)?;
        let users = members.iter().map(|(key, _)| rows::user_of(key));
        let users = users.filter(|user| user.as_ref().is_ok_and(|user| *user != known.author) || user.is_err());
        let users = users.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let keys: Vec<_> = users.iter().map(rows::progress).collect();
        for (user, row) in users.into_iter().zip(all(store, stream, &keys).await.map_err(failed)?) {
            let progress = row.map(|row| Progress::decode(&row)).transpose().map_err(failed)?.unwrap_or_default();
            readers.members += 1;
            readers.delivered += u32::from(progress.delivered.covers(posted.position));
            readers.read += u32::from(progress.read.covers(posted.position));
            if after.as_ref().is_some_and(|after| user <= *after) {
                continue;
            }
            if readers.users.len() == limit {
                more = true;
                continue;
            }
            let (delivered_to, read_to) = (progress.delivered.0.seq, progress.read.0.seq);
            readers.users.push(Reader { user, delivered_to, read_to });
        }
        if members.len() < MEMBERS_PER_SCAN {
            break;
        }
        last = members.into_iter().last().map(|(key, _)| key);
    }
    visit.still()?;
    let after = readers.users.last().filter(|_| more).map(|reader| reader.user.clone());
    Ok(Reply::Readers { room: visit.key().clone(), message, readers, after })
}

/// Who of a room is there.
pub async fn presences(
    registry: &Registry,
    reader: &Rc<Follower>,
    after: Option<UserId>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let (store, key) = (&**registry.store(), reader.room());
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let direct = visit.insider.header.kind == RoomKind::Direct;
    // Who has blocked somebody, or was blocked, is not there for the other, and nobody says since when.
    let shut = direct && is_shut(store, key).await.map_err(failed)?;
    let (mut found, mut page, mut more, mut last) = (Presences::default(), Vec::new(), false, None);
    loop {
        let members =
            store.scan(&visit.stream, rows::MEMBERS, last.as_deref(), MEMBERS_PER_SCAN).await.map_err(failed)?;
        for (row, _) in &members {
            let who = (key.tenant.clone(), rows::user_of(row).map_err(failed)?);
            let hidden = shut && who.1 != *reader.user();
            let presence = if hidden { None } else { registry.presences().of(&who) };
            found.members += 1;
            found.online += u32::from(presence == Some(Presence::Online));
            found.away += u32::from(presence == Some(Presence::Away));
            if after.as_ref().is_some_and(|after| who.1 <= *after) {
                continue;
            }
            if page.len() == limit {
                more = true;
            } else {
                page.push(Present { user: who.1, presence, last_seen: None });
            }
        }
        if members.len() < MEMBERS_PER_SCAN {
            break;
        }
        last = members.into_iter().last().map(|(key, _)| key);
    }
    if usize::try_from(found.members).is_ok_and(|members| members <= presences::MEMBERS_MAX) {
        let told = |user: &UserId| !shut || user == reader.user();
        for present in page.iter_mut().filter(|present| present.presence.is_none() && told(&present.user)) {
            let stream = StreamId::User(key.tenant.clone(), present.user.clone());
            let row = store.get(&stream, rows::LAST_SEEN).await.map_err(failed)?;
            present.last_seen = row.map(|row| Row::decode(&row)).transpose().map_err(failed)?;
        }
        found.users = Some(page);
    }
    visit.still()?;
    let users = found.users.as_ref().and_then(|users| users.last());
    let after = users.filter(|_| more).map(|present| present.user.clone());
    Ok(Reply::Presences { room: key.clone(), presences: found, after })
}

/// Refuses who may not read a message, and one that is not there.
pub async fn message(store: &dyn Store, reader: &Rc<Follower>, message: RecordId) -> Result<(), Refusal> {
    let visit = Visit::begin(store, reader).await?;
    visit.message(message).await?;
    visit.still()
}

/// Whether the user does not want to see a message, or did not while there was one.
pub async fn is_hidden(store: &dyn Store, reader: &Rc<Follower>, message: RecordId) -> Result<bool, Refusal> {
    let own = StreamId::User(reader.room().tenant.clone(), reader.user().clone());
    let row = store.get(&own, &rows::hidden(reader.room().room, message.seq())).await;
    if row.map_err(|error| read_failed(&error))?.is_some() {
        return Ok(true);
    }
    // Of what has been trimmed it may have been forgotten.
    let visit = Visit::begin(store, reader).await?;
    Ok(message.seq() < visit.insider.header.kept_from())
}

/// Which messages of a room the user does not want to see, in their order.
pub async fn hidden(
    store: &dyn Store,
    reader: &Rc<Follower>,
    after: Option<RecordId>,
    limit: usize,
) -> Result<Reply, Refusal> {
    let key = reader.room();
    let failed = |error: StoreError| read_failed(&error);
    let visit = Visit::begin(store, reader).await?;
    let own = StreamId::User(key.tenant.clone(), reader.user().clone());
    // What has been trimmed since is not there to be hidden.
    let after = after.map_or(Seq::ZERO, RecordId::seq).max(visit.insider.header.trimmed.seq);
    let after = Some(rows::hidden(key.room, after));
    let found = store.scan(&own, &rows::hidden_in(key.room), after.as_deref(), limit + 1).await.map_err(failed)?;
    let messages = found.iter().take(limit).map(|(_, row)| RecordId::decode(row));
    let messages = messages.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    visit.still()?;
    let after = messages.last().filter(|_| found.len() > limit).copied();
    Ok(Reply::Hidden { room: key.clone(), messages, after })
}
