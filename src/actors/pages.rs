//! Pages of the log for followers that are behind: read once, framed once per dialect, shared by those of a thread.
//!
//! When a network comes back, the followers of a room come back together and miss the same records. A page is handed to
//! another follower only while the room's head is what it was before the page was read: then nothing has changed, and
//! nothing that it says has been erased. It holds frames and where removals are, no records; what of it somebody may
//! have is for `domain/session.rs` to say. Sessions and worlds ask.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, Shared, WeakShared};

use super::batch::{Frames, audiences, removal_of};
use super::registry::Registry;
use crate::domain::document::Reader;
use crate::domain::room::Header;
use crate::domain::{Alias, Position, RoomKey, Seq, UserId};
use crate::store::rows::{self, Row};
use crate::store::{Page, StoreError};
use crate::wire::{Dialect, Label};

/// How many records a follower that is behind is handed at once.
const PULL_RECORDS: usize = 256;

/// How much of frames a thread keeps: some sixty full pages. Beyond that the oldest goes.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long a page is kept: as long as it takes the clients of a server that has been started again to come back, most of
/// whom try within a second or two.
const KEPT: Duration = Duration::from_secs(5);

/// Consecutive records of a room as they go out in one dialect.
pub struct FramedPage {
    of: Of,
    after: Seq,
    /// The first of them; behind `after` where nothing has been trimmed.
    first: Seq,
    /// The room's head before it was read.
    head: Option<Position>,
    frames: Frames,
    positions: Box<[Position]>,
    complete: bool,
    removals: Vec<(UserId, Seq, bool)>,
    read: Instant,
}

/// A room, in one dialect.
type Of = (RoomKey, Dialect);

/// A page that is being read, for all who wait for it.
type Reading = Shared<LocalBoxFuture<'static, Result<Rc<FramedPage>, StoreError>>>;

type WeakReading = WeakShared<LocalBoxFuture<'static, Result<Rc<FramedPage>, StoreError>>>;

/// The pages of one thread.
pub struct Pages {
    registry: Arc<Registry>,
    kept: RefCell<Kept>,
    reading: RefCell<HashMap<(Of, Seq), WeakReading>>,
}

#[derive(Default)]
struct Kept {
    /// By where they begin.
    rooms: HashMap<Of, BTreeMap<Seq, Rc<FramedPage>>>,
    /// In the order in which they were read.
    order: VecDeque<Rc<FramedPage>>,
    bytes: usize,
}

impl FramedPage {
    fn new(of: Of, alias: Option<&Alias>, after: Seq, head: Option<Position>, page: &Page) -> Self {
        let removed = |(user, kicked): (&UserId, bool), seq| (user.clone(), seq, kicked);
        let removals = page.records.iter();
        let removals = removals.filter_map(|record| Some(removed(removal_of(record)?, record.position.seq))).collect();
        let first = page.records.first().map_or(after.next(), |record| record.position.seq);
        Self {
            first,
            frames: Frames::new(of.1, Label { key: &of.0, alias }, first, &page.records, audiences(&page.records)),
            positions: page.records.iter().map(|record| record.position).collect(),
            complete: page.complete,
            read: Instant::now(),
            of,
            after,
            head,
            removals,
        }
    }

    /// Nothing lies beyond it.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The place before its first record, where that is not what `after` stands before: what lies between has been trimmed.
    pub fn trimmed(&self, after: Seq) -> Option<Position> {
        let first = self.positions.first()?;
        (first.seq > after.next()).then(|| Position { seq: Seq(first.seq.0 - 1), ..*first })
    }

    /// The last of its records after `after`, up to `until`.
    pub fn last(&self, after: Seq, until: Option<Seq>) -> Option<Position> {
        let last = self.positions.last()?;
        let seq = until.map_or(last.seq, |until| until.min(last.seq));
        let index = usize::try_from(seq.0.checked_sub(self.first.0)?).ok()?;
        self.positions.get(index).filter(|position| position.seq > after).copied()
    }

    /// The frames of the records after `after`, up to and including `until`, that `reader` is told of, and how many these
    /// are.
    pub fn frames(&self, after: Seq, until: Seq, reader: Option<&Reader>) -> (Bytes, u64) {
        self.frames.between(after, until, reader)
    }

    /// Where its records after `after` end a membership of `user`, and whether by a kick.
    pub fn removals<'a>(&'a self, user: &'a UserId, after: Seq) -> impl Iterator<Item = (Seq, bool)> + Clone + 'a {
        let its = move |removal: &&(UserId, Seq, bool)| removal.0 == *user && removal.1 > after;
        self.removals.iter().filter(its).map(|(_, seq, kicked)| (*seq, *kicked))
    }

    fn bytes(&self) -> usize {
        self.frames.bytes() + self.positions.len() * size_of::<Position>() + size_of::<Self>()
    }
}

impl Pages {
    pub fn new(registry: Arc<Registry>) -> Rc<Self> {
        Rc::new(Self { registry, kept: RefCell::default(), reading: RefCell::default() })
    }

    /// A page of `room` for a follower that stands at `after` and has been registered: what has been published since
    /// then it either shows, or does not claim to be complete.
    pub async fn after(
        self: Rc<Self>,
        room: RoomKey,
        dialect: Dialect,
        after: Seq,
    ) -> Result<Rc<FramedPage>, StoreError> {
        let stream = room.stream();
        let of = (room, dialect);
        let mut head = self.registry.store().head(&stream).await?;
        if let Some(page) = self.kept(&of, after, head) {
            return Ok(page);
        }
        if let Some(reading) = self.reading(&of, after) {
            let page = reading.await?;
            // It began before this was asked for: it may lack what has been published since the follower was registered.
            head = self.registry.store().head(&stream).await?;
            if page.head == head {
                return Ok(page);
            }
        }
        // What is being read now, by whomever, has begun since.
        let reading = self.reading(&of, after).unwrap_or_else(|| self.read(of, after, head));
        reading.await
    }

    /// Lets go of the pages that are too old.
    pub fn forget_old(&self, now: Instant) {
        let mut kept = self.kept.borrow_mut();
        while kept.order.front().is_some_and(|page| now.saturating_duration_since(page.read) >= KEPT) {
            kept.forget_oldest();
        }
    }

    /// A page that shows what a read would show now, the room's head being `head`.
    fn kept(&self, of: &Of, after: Seq, head: Option<Position>) -> Option<Rc<FramedPage>> {
        let kept = self.kept.borrow();
        let (_, page) = kept.rooms.get(of)?.range(..=after).next_back()?;
        (page.head == head && page.last(after, None).is_some()).then(|| Rc::clone(page))
    }

    fn reading(&self, of: &Of, after: Seq) -> Option<Reading> {
        self.reading.borrow().get(&(of.clone(), after))?.upgrade()
    }

    fn read(self: &Rc<Self>, of: Of, after: Seq, head: Option<Position>) -> Reading {
        self.registry.metrics().page_reads.inc();
        let page = self.registry.store().read(&of.0.stream(), after, PULL_RECORDS);
        let under_way = UnderWay { pages: Rc::clone(self), of: of.clone(), after };
        let read = async move {
            let page = page.await;
            let UnderWay { pages, of, after } = &under_way;
            let alias = pages.alias(of).await?;
            let page = Rc::new(FramedPage::new(of.clone(), alias.as_ref(), *after, head, &page?));
            pages.keep(&page);
            Ok(page)
        };
        let reading = read.boxed_local().shared();
        if let Some(weak) = reading.downgrade() {
            self.reading.borrow_mut().insert((of, after), weak);
        }
        reading
    }

    /// The room's alias, where the dialect has a use for it.
    async fn alias(&self, (room, dialect): &Of) -> Result<Option<Alias>, StoreError> {
        if !dialect.names_rooms() {
            return Ok(None);
        }
        let header = self.registry.store().get(&room.stream(), rows::HEADER).await?;
        Ok(header.map(|header| Header::decode(&header)).transpose()?.and_then(|header| header.alias))
    }

    fn keep(&self, page: &Rc<FramedPage>) {
        let mut kept = self.kept.borrow_mut();
        let pages = kept.rooms.entry(page.of.clone()).or_default();
        pages.retain(|_, other| other.head == page.head);
        pages.insert(page.after, Rc::clone(page));
        kept.bytes += page.bytes();
        kept.order.push_back(Rc::clone(page));
        while kept.bytes > BYTES_MAX {
            kept.forget_oldest();
        }
    }
}

impl Kept {
    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.pop_front() else { return };
        self.bytes -= oldest.bytes();
        if let Entry::Occupied(mut pages) = self.rooms.entry(oldest.of.clone()) {
            pages.get_mut().retain(|_, page| !Rc::ptr_eq(page, &oldest));
            if pages.get().is_empty() {
                pages.remove();
            }
        }
    }
}

/// A read that others may join, until it has ended or nobody waits for it any more.
struct UnderWay {
    pages: Rc<Pages>,
    of: Of,
    after: Seq,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.pages.reading.borrow_mut().remove(&(self.of.clone(), self.after));
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::actors::Limits;
    use crate::clock::SystemClock;
    use crate::domain::{Content, Epoch, Event, Num, Record, RecordId, RoomEvent, RoomId, TenantId, Timestamp};
    use crate::store::memory::MemoryStore;

    #[test]
    fn a_page_says_from_anywhere_in_it_what_is_left_and_whose_membership_ends() {
        let kicked = RoomEvent::MemberKicked { user: user("bob"), joined: RecordId(Uuid::nil()), reason: None };
        let records = [posted(4, "four"), record(5, kicked), posted(6, "six")];
        let page = framed(Seq(3), &records);
        assert_eq!(page.last(Seq(3), None), Some(at(6)));
        assert_eq!(page.last(Seq(4), Some(Seq(5))), Some(at(5)));
        assert_eq!(page.last(Seq(5), Some(Seq(5))), None);
        assert_eq!(page.last(Seq(6), None), None);
        assert_eq!(page.last(Seq(3), Some(Seq(2))), None);
        assert!(page.removals(&user("bob"), Seq(4)).eq([(Seq(5), true)]));
        assert_eq!(page.removals(&user("bob"), Seq(5)).count() + page.removals(&user("ann"), Seq(3)).count(), 0);
        let mut alone = bytes::BytesMut::new();
        Dialect::NativeJson.put_record(&mut alone, Label::plain(&room()), &records[2]);
        assert_eq!(page.frames(Seq(5), Seq(6), None), (alone.clone().freeze(), 1));
        assert!(page.frames(Seq(3), Seq(6), None).0.ends_with(&alone));
    }

    #[test]
    fn what_a_thread_keeps_is_bounded_in_bytes_and_in_time() {
        let system = actix::System::new();
        system.block_on(async {
            let store = Arc::new(MemoryStore::new());
            let registry = Registry::new(store, Arc::new(SystemClock), Limits::default());
            let pages = Pages::new(registry);
            let text = "x".repeat(100_000);
            for after in 0..200 {
                pages.keep(&Rc::new(framed(Seq(after), &[posted(after + 1, &text)])));
            }
            let kept = || pages.kept.borrow().rooms.values().map(BTreeMap::len).sum::<usize>();
            let held: usize = pages.kept.borrow().order.iter().map(|page| page.bytes()).sum();
            assert!(pages.kept.borrow().bytes == held && held <= BYTES_MAX, "{held} bytes");
            assert_eq!(kept(), pages.kept.borrow().order.len());
            assert!(kept() > 50, "{} pages", kept());
            pages.forget_old(Instant::now() + KEPT);
            assert_eq!((kept(), pages.kept.borrow().rooms.len(), pages.kept.borrow().bytes), (0, 0, 0));
        });
    }

    fn framed(after: Seq, records: &[Record]) -> FramedPage {
        let page = Page { records: records.to_vec(), complete: true };
        FramedPage::new((room(), Dialect::NativeJson), None, after, Some(at(9)), &page)
    }

    fn posted(seq: u64, text: &str) -> Record {
        record(seq, RoomEvent::posted(Content::text(text)))
    }

    fn record(seq: u64, event: RoomEvent) -> Record {
        Record {
            position: at(seq),
            id: RecordId(Uuid::nil()),
            num: Num(seq),
            at: Timestamp(0),
            author: user("ann"),
            client_id: None,
            event: Event::Room(event),
        }
    }

    fn at(seq: u64) -> Position {
        Position { epoch: Epoch(1), seq: Seq(seq) }
    }

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn room() -> RoomKey {
        RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::nil()) }
    }
}
