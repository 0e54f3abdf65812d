//! The one thread that writes. It takes what has gathered while the last write was being synced, joins it into one
//! write, syncs, and only then lets anybody know: many commits share one sync.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::sled::{Batch, Db, IVec, Tree};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::super::codec::{self, damage};
use super::super::{Commit, CommitError, Health, RECORD_BYTES_MAX, StoreError};
use super::ahead::{self, Ahead};
use super::checkpoint::{self, Checkpoint};
use super::chunk::{self, Builder, FRAME_HEADER, Spot};
use super::dir::Ballast;
use super::gather::Company;
use super::highwater::{HighWater, Mark};
use super::index::{BLANK, BLANKS, Change, Tail, chunk_key, place_key, row_key, seal, sealed_value};
use super::read::{Pool, Reader, failure, panic_text};
use super::{Hooks, Options};
use crate::domain::{self, Epoch, Position, Seq};

/// How much is encoded and waits to be written; what is called beyond that waits as it was called, in its place.
/// Many times what one sync takes with it, and little memory.
const QUEUE_REQUESTS: usize = 4096;
const QUEUE_BYTES: usize = 8 * 1024 * 1024;

/// How much is written and synced together. A single commit may be larger.
const GROUP_RECORDS: usize = 1024;
const GROUP_BYTES: usize = 1024 * 1024;

/// What a message of 150 bytes takes in a chunk, and a little more: guessing too low copies all that came before.
const RECORD_BYTES_USUAL: usize = 256;

type Answer = oneshot::Sender<Result<(), CommitError>>;
type HeadAnswer = oneshot::Sender<Result<Option<Position>, StoreError>>;

/// What has been called and not yet been taken up.
pub(super) struct Queue {
    line: Mutex<Line>,
    arrived: Condvar,
    /// As much is encoded as may be: known without waiting for the line.
    full: AtomicBool,
}

#[derive(Default)]
struct Line {
    requests: VecDeque<Request>,
    /// Requests that are encoded, their records and their bytes.
    encoded: usize,
    records: usize,
    bytes: usize,
    /// With so many requests the writing thread wants to be woken; with fewer it waits until its time is up.
    wanted: usize,
    /// The writing thread waits. While it writes there is nobody to wake, and to try costs a call of the kernel.
    awaited: bool,
    /// Requests for more than a commit.
    urgent: usize,
    /// Nothing is taken any more.
    stopped: bool,
}

enum Request {
    Commit(Body, Answer),
    Settle(Arc<[u8]>, HeadAnswer),
    Close(oneshot::Sender<()>),
}

enum Body {
    Encoded(Prepared),
    /// Called when the queue was full: encoded when there is room.
    Called(Box<Commit>),
}

/// A commit in the form it is written in.
struct Prepared {
    stream: Arc<[u8]>,
    expected: Option<Position>,
    epoch: Epoch,
    records: usize,
    frames: Vec<u8>,
    rows: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    erase: Vec<Seq>,
    trim: Option<Seq>,
    frees: bool,
}

impl Queue {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { line: Mutex::default(), arrived: Condvar::new(), full: AtomicBool::new(false) })
    }

    /// Puts a commit in line, at once and in the order of the calls.
    pub(super) fn commit(&self, commit: Commit, epoch: Epoch) -> oneshot::Receiver<Result<(), CommitError>> {
        let (done, answer) = oneshot::channel();
        let body = if self.full.load(Ordering::Relaxed) {
            Body::Called(Box::new(commit))
        } else {
            match prepare(commit, epoch) {
                Ok(prepared) => Body::Encoded(prepared),
                Err(error) => {
                    let _ = done.send(Err(error));
                    return answer;
                }
            }
        };
        self.push(Request::Commit(body, done));
        answer
    }

    pub(super) fn settle(&self, stream: Arc<[u8]>) -> oneshot::Receiver<Result<Option<Position>, StoreError>> {
        let (done, answer) = oneshot::channel();
        self.push(Request::Settle(stream, done));
        answer
    }

    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.push(Request::Close(done));
        answer
    }

    pub(super) fn len(&self) -> usize {
        self.line().requests.len()
    }

    fn push(&self, request: Request) {
        let mut line = self.line();
        if line.stopped {
            drop(line);
            request.refuse();
            return;
        }
        line.push(request);
        self.full.store(line.is_full(), Ordering::Relaxed);
        let wakes = line.awaited && line.suffices();
        line.awaited &= !wakes;
        drop(line);
        if wakes {
            self.arrived.notify_one();
        }
    }

    /// Takes what has gathered, at most a group; waits until something has, or until `deadline`. While several write,
    /// more than one is waited for, for a moment.
    fn take(&self, company: &Company, deadline: Option<Instant>) -> Vec<Request> {
        let mut line = self.line();
        let (wanted, until) = company.awaited(Instant::now());
        line.wanted = wanted;
        while !line.suffices() && !line.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            line = self.wait(line, Some(left));
        }
        line.wanted = 1;
        while line.requests.is_empty() {
            line = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => return Vec::new(),
                left => self.wait(line, left),
            };
        }
        let mut group = Vec::with_capacity(line.requests.len().min(GROUP_RECORDS));
        let (mut records, mut bytes) = (0, 0);
        while let Some(request) = line.requests.front() {
            let (more_records, more_bytes) = request.size();
            let fits = records + more_records <= GROUP_RECORDS && bytes + more_bytes <= GROUP_BYTES;
            if !(group.is_empty() || fits) {
                break;
            }
            (records, bytes) = (records + more_records, bytes + more_bytes);
            group.extend(line.pop());
        }
        self.full.store(line.is_full(), Ordering::Relaxed);
        group
    }

    /// Waits to be woken, or for so long.
    fn wait<'a>(&self, mut line: MutexGuard<'a, Line>, left: Option<Duration>) -> MutexGuard<'a, Line> {
        line.awaited = true;
        let mut line = match left {
            Some(left) => self.arrived.wait_timeout(line, left).unwrap_or_else(PoisonError::into_inner).0,
            None => self.arrived.wait(line).unwrap_or_else(PoisonError::into_inner),
        };
        line.awaited = false;
        line
    }

    /// Refuses everything in line, and whatever is called from now on.
    fn stop(&self) {
        let requests = {
            let mut line = self.line();
            line.stopped = true;
            std::mem::take(&mut line.requests)
        };
        requests.into_iter().for_each(Request::refuse);
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn push(&mut self, request: Request) {
        match &request {
            Request::Commit(Body::Encoded(prepared), _) => {
                self.encoded += 1;
                self.records += prepared.records;
                self.bytes += prepared.bytes();
            }
            Request::Commit(Body::Called(_), _) => {}
            Request::Settle(..) | Request::Close(_) => self.urgent += 1,
        }
        self.requests.push_back(request);
    }

    fn pop(&mut self) -> Option<Request> {
        let request = self.requests.pop_front()?;
        match &request {
            Request::Commit(Body::Encoded(prepared), _) => {
                self.encoded -= 1;
                self.records -= prepared.records;
                self.bytes -= prepared.bytes();
            }
            Request::Commit(Body::Called(_), _) => {}
            Request::Settle(..) | Request::Close(_) => self.urgent -= 1,
        }
        Some(request)
    }

    /// Whether the writing thread has what it waits for, or a whole group.
    fn suffices(&self) -> bool {
        let full = self.records >= GROUP_RECORDS || self.bytes >= GROUP_BYTES;
        self.urgent > 0 || full || self.requests.len() >= self.wanted
    }

    /// Whether what is called from now on waits as it was called.
    fn is_full(&self) -> bool {
        self.encoded >= QUEUE_REQUESTS || self.bytes >= QUEUE_BYTES
    }
}

impl Request {
    fn size(&self) -> (usize, usize) {
        match self {
            Self::Commit(Body::Encoded(prepared), _) => (prepared.records, prepared.bytes()),
            Self::Commit(Body::Called(commit), _) => (commit.records.len(), 0),
            Self::Settle(..) | Self::Close(_) => (0, 0),
        }
    }

    fn refuse(self) {
        match self {
            Self::Commit(_, done) => answer(done, Err(CommitError::Failed)),
            Self::Settle(_, done) => answer(done, Err(StoreError::Closed)),
            Self::Close(done) => answer(done, ()),
        }
    }
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.frames.len()
            + self.rows.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum::<usize>()
    }

    /// Where the stream ends behind it.
    fn last(&self) -> Option<Position> {
        if self.records == 0 {
            return self.expected;
        }
        let before = self.expected.map_or(0, |head| head.seq.0);
        Some(Position { epoch: self.epoch, seq: Seq(before + self.records as u64) })
    }
}

fn prepare(commit: Commit, epoch: Epoch) -> Result<Prepared, CommitError> {
    let stream = codec::stream_key(&commit.stream);
    let crc = crc32c::crc32c(&stream);
    let mut next = commit.expected.map_or(Seq::ZERO, |head| head.seq);
    let mut frames = Vec::with_capacity(commit.records.len() * RECORD_BYTES_USUAL);
    for record in &commit.records {
        next = next.next();
        if record.position != (Position { epoch, seq: next }) {
            return Err(CommitError::Conflict);
        }
        let start = frames.len();
        chunk::frame(record, crc, &mut frames);
        if frames.len() - start > RECORD_BYTES_MAX + FRAME_HEADER {
            return Err(CommitError::TooLarge);
        }
    }
    let frees = commit.frees(frames.len());
    let mut rows = Vec::with_capacity(commit.puts.len());
    for put in commit.puts {
        if put.value.as_ref().is_some_and(|value| value.len() > RECORD_BYTES_MAX) {
            return Err(CommitError::TooLarge);
        }
        let key = row_key(&codec::stream_key(&put.under), &put.key);
        let value = put.value.map(|value| seal(&key, &value));
        rows.push((key, value));
    }
    let (expected, records, erase, trim) = (commit.expected, commit.records.len(), commit.erase, commit.trim);
    Ok(Prepared { stream, expected, epoch, records, frames, rows, erase, trim, frees })
}

/// Tells who called, who may be gone.
fn answer<T>(done: oneshot::Sender<T>, answer: T) {
    let _ = done.send(answer);
}

/// What others may see of the committer at any time.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) syncs: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) tails: AtomicUsize,
}

/// Everything the writing thread owns.
pub(super) struct Committer {
    pub(super) queue: Arc<Queue>,
    pub(super) company: Company,
    pub(super) reader: Reader,
    pub(super) pool: Arc<Pool>,
    pub(super) db: Db,
    /// A second handle on sled's file: sled's own flush does not sync it.
    pub(super) file: File,
    pub(super) ahead: Ahead,
    pub(super) water: HighWater,
    pub(super) ballast: Ballast,
    pub(super) health: watch::Sender<Health>,
    pub(super) counters: Arc<Counters>,
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) epoch: Epoch,
    /// The last chunk that is on disk.
    pub(super) number: u64,
    pub(super) checkpoint: Checkpoint,
    /// When free space was looked at last, and what there was.
    pub(super) space_checked: Option<(Instant, Space)>,
}

/// How much of the disk is free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Space {
    /// As much as has to be, or more.
    Enough,
    /// At least half of that: what takes something away is let in.
    Little,
    None,
}

/// Why a write ended, and whether anything of it may have reached the disk.
struct Broken {
    reason: String,
    begun: bool,
}

impl Broken {
    fn before(error: impl ToString) -> Self {
        Self { reason: error.to_string(), begun: false }
    }

    fn within(error: impl ToString) -> Self {
        Self { reason: error.to_string(), begun: true }
    }
}

impl Committer {
    /// Writes until the store is closed or broken.
    pub(super) fn run(mut self) {
        let queue = self.queue.clone();
        let health = self.health.clone();
        let ended = catch_unwind(AssertUnwindSafe(move || {
            self.space();
            let done = self.work()?;
            self.close()?;
            Ok(done)
        }));
        let ended = ended.unwrap_or_else(|panic| Err(format!("the committer panicked: {}", panic_text(&*panic))));
        match ended {
            // Whoever closed it may be gone.
            Ok(done) => answer(done, ()),
            Err(reason) => {
                tracing::error!(reason, "the storage is broken");
                health.send_replace(Health::Broken { reason });
                queue.stop();
            }
        }
    }

    /// Returns who asked to close.
    fn work(&mut self) -> Result<oneshot::Sender<()>, String> {
        loop {
            let mut group = self.queue.take(&self.company, self.deadline());
            self.company.begin(Instant::now());
            let closing = group.iter().position(|request| matches!(request, Request::Close(_)));
            let rest = closing.map(|at| group.split_off(at)).unwrap_or_default();
            match self.space() {
                Space::Enough => self.write(group).map_err(|broken| broken.reason)?,
                Space::Little => {
                    let freeing = self.refuse_but_what_frees(group);
                    self.write(freeing).map_err(|broken| broken.reason)?;
                }
                Space::None => self.refuse_for_space(group),
            }
            if self.water.due().is_some_and(|due| due <= Instant::now()) {
                self.water.sync().map_err(|error| error.to_string())?;
            }
            let mut rest = rest.into_iter();
            if let Some(Request::Close(done)) = rest.next() {
                rest.for_each(Request::refuse);
                self.queue.stop();
                return Ok(done);
            }
        }
    }

    /// When there is something to do even if nobody calls.
    fn deadline(&self) -> Option<Instant> {
        let full = *self.health.borrow() == Health::Full;
        let space = full.then(|| Instant::now() + self.options.space_check_every.max(Duration::from_millis(1)));
        [space, self.water.due()].into_iter().flatten().min()
    }

    /// Looks at the free space now and then, and says so when that changes what is taken.
    fn space(&mut self) -> Space {
        let now = Instant::now();
        if let Some((at, space)) = self.space_checked
            && now < at + self.options.space_check_every
        {
            return space;
        }
        // Space that can not be told is not the reason to stop: the write itself will say.
        let free = self.options.hooks.free_bytes(&self.dir).unwrap_or(u64::MAX);
        let space = match free {
            free if free >= self.options.free_bytes_min => Space::Enough,
            free if free >= self.options.free_bytes_min / 2 => Space::Little,
            _ => Space::None,
        };
        self.space_checked = Some((now, space));
        let was_full = *self.health.borrow() == Health::Full;
        if space == Space::Enough {
            if was_full {
                self.health.send_replace(Health::Good);
            }
            self.ballast.restore(free, self.options.free_bytes_min);
        } else if !was_full {
            tracing::warn!(free, min = self.options.free_bytes_min, "free disk space is below the limit");
            self.health.send_replace(Health::Full);
        }
        space
    }

    /// The commits of a group that take away more than they bring, and whoever waits for those before them; the others
    /// are refused.
    fn refuse_but_what_frees(&self, group: Vec<Request>) -> Vec<Request> {
        let mut freeing = Vec::new();
        for request in group {
            match request {
                Request::Commit(body, done) => match self.prepared(body) {
                    Ok(prepared) if prepared.frees => {
                        freeing.push(Request::Commit(Body::Encoded(prepared), done));
                    }
                    Ok(_) => answer(done, Err(CommitError::Full)),
                    Err(error) => answer(done, Err(error)),
                },
                Request::Settle(..) | Request::Close(_) => freeing.push(request),
            }
        }
        freeing
    }

    fn prepared(&self, body: Body) -> Result<Prepared, CommitError> {
        match body {
            Body::Encoded(prepared) => Ok(prepared),
            Body::Called(commit) => prepare(*commit, self.epoch),
        }
    }

    fn refuse_for_space(&mut self, group: Vec<Request>) {
        for request in group {
            match request {
                Request::Commit(_, done) => answer(done, Err(CommitError::Full)),
                Request::Settle(stream, done) => answer(done, self.reader.head(&stream)),
                Request::Close(done) => answer(done, ()),
            }
        }
    }

    fn write(&mut self, group: Vec<Request>) -> Result<(), Broken> {
        let mut plan = Plan::of(group.len());
        let (mut accepted, mut settles) = (Vec::with_capacity(group.len()), Vec::new());
        let mut requests = group.into_iter();
        while let Some(request) = requests.next() {
            match request {
                Request::Commit(body, done) => match self.accept(&mut plan, body) {
                    Ok(Ok(())) => accepted.push(done),
                    Ok(Err(error)) => answer(done, Err(error)),
                    Err(error) => {
                        accepted.push(done);
                        accepted.into_iter().for_each(|done| answer(done, Err(CommitError::Failed)));
                        requests.for_each(Request::refuse);
                        return Err(Broken::before(error));
                    }
                },
                Request::Settle(stream, done) => settles.push((stream, done)),
                Request::Close(done) => answer(done, ()),
            }
        }
        if !accepted.is_empty() {
            let commits = accepted.len();
            // A panic in between drops the senders, which callers take for `Unknown`.
            let bytes = match self.put(plan) {
                Ok(bytes) => bytes,
                Err(broken) => {
                    let error = if broken.begun { CommitError::Unknown } else { CommitError::Failed };
                    accepted.into_iter().for_each(|done| answer(done, Err(error)));
                    return Err(broken);
                }
            };
            self.counters.commits.fetch_add(commits as u64, Ordering::Relaxed);
            self.company.written(commits, self.queue.len());
            accepted.into_iter().for_each(|done| answer(done, Ok(())));
            if bytes <= ahead::GROUP_BYTES_MAX {
                self.ahead.extend();
            }
        }
        settles.into_iter().for_each(|(stream, done)| answer(done, self.reader.head(&stream)));
        Ok(())
    }

    /// Adds a commit to the plan, or tells why it is refused; an outer error is one of the storage itself.
    fn accept(&self, plan: &mut Plan, body: Body) -> Result<Result<(), CommitError>, StoreError> {
        let prepared = match self.prepared(body) {
            Ok(prepared) => prepared,
            Err(error) => return Ok(Err(error)),
        };
        let pending = match plan.by_key.get(&prepared.stream) {
            Some(&at) => at,
            None => {
                let tail = match self.tail(&prepared.stream) {
                    Ok(tail) => tail,
                    Err(StoreError::Damaged(what)) => return Ok(Err(self.refuse_damaged(&what))),
                    Err(error @ (StoreError::Failed(_) | StoreError::Closed)) => return Err(error),
                };
                plan.add(prepared.stream.clone(), tail)
            }
        };
        if plan.streams[pending].head != prepared.expected {
            return Ok(Err(CommitError::Conflict));
        }
        match plan.take(&self.reader, pending, prepared) {
            Ok(()) => Ok(Ok(())),
            Err(StoreError::Damaged(what)) => Ok(Err(self.refuse_damaged(&what))),
            Err(error @ (StoreError::Failed(_) | StoreError::Closed)) => Err(error),
        }
    }

    /// One stream's damage does not stop the others.
    fn refuse_damaged(&self, what: &str) -> CommitError {
        tracing::error!(what, "a commit was refused because what it builds on is damaged");
        CommitError::Failed
    }

    fn tail(&self, stream: &[u8]) -> Result<Option<Tail>, StoreError> {
        let durable = self.reader.durable.read().unwrap_or_else(PoisonError::into_inner);
        let known = durable.tails.get(stream);
        drop(durable);
        if known.is_some() { Ok(known) } else { self.reader.tail_in_tree(stream) }
    }

    /// Writes a plan, syncs it, lets reads see it, and returns how many bytes of records it held.
    fn put(&mut self, plan: Plan) -> Result<usize, Broken> {
        let mut writes = Writes::default();
        let mut change = Change::default();
        let mut rows = Vec::with_capacity(plan.rows.len());
        for (key, value) in plan.rows {
            rows.push((key.clone(), value.as_deref().map(|sealed| Bytes::copy_from_slice(sealed_value(sealed)))));
            change.old.insert(key.clone(), self.reader.tree.get(&key).map_err(Broken::before)?);
            writes.together.push((key.into(), value.map(IVec::from)));
        }
        writes.together.extend(plan.places.into_iter().map(|place| (place, None)));
        let mut rewritten = Vec::with_capacity(plan.rewritten.len());
        for (number, (old, new)) in plan.rewritten {
            let key = chunk_key(number);
            let new = IVec::from(new);
            change.old.insert(key.into(), Some(old));
            writes.together.push((key[..].into(), Some(new.clone())));
            rewritten.push((number, new));
        }
        let durable = self.reader.durable.read().unwrap_or_else(PoisonError::into_inner);
        let payment = self.checkpoint.pay(&durable.tails, &mut writes.apart);
        let before = durable.at.clone();
        drop(durable);
        let LaidOut { last, bytes, chunks, tails } = lay_out(plan.streams, self.epoch, self.number, &mut writes);

        let change = Arc::new(change);
        before.next.set(change.clone()).map_err(|_| Broken::before("two writes at once"))?;
        drop(before);
        writes.apply(&self.reader.tree).map_err(Broken::within)?;
        self.sync().map_err(Broken::within)?;
        self.water.write(Mark { chunk: last, epoch: self.epoch, closed: None }).map_err(Broken::within)?;

        let mut durable = self.reader.durable.write().unwrap_or_else(PoisonError::into_inner);
        self.reader.recent.written(rows);
        durable.at = change;
        durable.mark = domain::Mark(last);
        for stream in self.checkpoint.paid_by(&payment) {
            self.reader.recent.forget_tail(stream);
        }
        self.checkpoint.paid(&payment, &mut durable.tails, self.number);
        self.checkpoint.add(last - self.number, bytes, tails, &mut durable.tails);
        durable.chunks.extend(chunks);
        rewritten.into_iter().for_each(|(number, new)| durable.chunks.replace(number, new));
        self.counters.tails.store(durable.tails.len(), Ordering::Relaxed);
        drop(durable);
        self.number = last;
        Ok(bytes)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(failure)?;
        self.options.hooks.sync(&self.file).map_err(|error| StoreError::Failed(error.to_string()))?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Brings the tails up to date, lets go of sled, and marks the directory as closed in order.
    fn close(self) -> Result<(), String> {
        let mut writes = Writes::default();
        let durable = self.reader.durable.read().unwrap_or_else(PoisonError::into_inner);
        if durable.tails.len() > 0 {
            checkpoint::settle(&durable.tails, self.number, &mut writes.apart);
            writes.apply(&self.reader.tree).map_err(|error| error.to_string())?;
        }
        drop(durable);
        self.sync().map_err(|error| error.to_string())?;
        self.pool.close();
        let Self { reader, db, file, mut water, .. } = self;
        let lock = reader.lock.clone();
        drop((reader, db));
        let closed = file.sync_all().and_then(|()| file.metadata()).and_then(|data| {
            water.write(Mark { closed: Some(data.len()), ..water.mark() })?;
            water.sync()
        });
        drop(lock);
        closed.map_err(|error| error.to_string())
    }
}

/// A group of commits, as it is going to be written.
struct Plan {
    streams: Vec<Pending>,
    by_key: HashMap<Arc<[u8]>, usize>,
    rows: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Those that lose content.
    rewritten: Rewritten,
    /// The keys of noted places that lead to what is not kept any longer.
    places: Vec<IVec>,
}

/// Chunks on disk, by their numbers: as they were, and as they will be.
type Rewritten = BTreeMap<u64, (IVec, Vec<u8>)>;

/// What a stream gets.
struct Pending {
    key: Arc<[u8]>,
    tail: Option<Tail>,
    head: Option<Position>,
    /// Its records behind the tail, of one commit mostly.
    frames: Vec<u8>,
    /// Up to where those on disk have been trimmed with what is going to be written.
    trimmed: Seq,
}

impl Pending {
    /// Nothing is left of it on disk.
    fn is_bare(&self) -> bool {
        self.tail.is_some_and(|tail| tail.head.seq <= self.trimmed)
    }

    /// The first of the records that it gets.
    fn first(&self) -> Seq {
        self.tail.map_or(Seq::ZERO, |tail| tail.head.seq).next()
    }
}

impl Plan {
    /// With room for so many streams.
    fn of(streams: usize) -> Self {
        let by_key = HashMap::with_capacity(streams);
        Self {
            streams: Vec::with_capacity(streams),
            by_key,
            rows: BTreeMap::new(),
            rewritten: BTreeMap::new(),
            places: Vec::new(),
        }
    }

    fn add(&mut self, key: Arc<[u8]>, tail: Option<Tail>) -> usize {
        let at = self.streams.len();
        self.by_key.insert(key.clone(), at);
        self.streams.push(Pending {
            key,
            tail,
            head: tail.map(|tail| tail.head),
            frames: Vec::new(),
            trimmed: Seq::ZERO,
        });
        at
    }

    /// Takes a commit over. Everything that can fail comes before anything is changed.
    fn take(&mut self, reader: &Reader, at: usize, prepared: Prepared) -> Result<(), StoreError> {
        let last = prepared.last();
        let Prepared { frames, rows, erase, trim, .. } = prepared;
        let mut rewritten = Rewritten::new();
        let erased = match &erase[..] {
            [] => None,
            erase => Some(self.erase(reader, at, &frames, last, erase, &mut rewritten)?),
        };
        let trimmed = match trim {
            Some(until) => self.trim(reader, at, !frames.is_empty(), until, &mut rewritten)?,
            None => Trimmed::default(),
        };
        self.rewritten.extend(rewritten);
        self.places.extend(trimmed.places);
        let pending = &mut self.streams[at];
        pending.trimmed = pending.trimmed.max(trimmed.until);
        match erased {
            Some(frames) => pending.frames = frames,
            None if pending.frames.is_empty() => pending.frames = frames,
            None => pending.frames.extend_from_slice(&frames),
        }
        pending.head = last;
        self.rows.extend(rows);
        Ok(())
    }

    /// What becomes of a stream's records when `more` has come, up to `last`, and those at `erase` lose their content.
    fn erase(
        &self,
        reader: &Reader,
        at: usize,
        more: &[u8],
        last: Option<Position>,
        erase: &[Seq],
        rewritten: &mut Rewritten,
    ) -> Result<Vec<u8>, StoreError> {
        let pending = &self.streams[at];
        let crc = crc32c::crc32c(&pending.key);
        let mut frames = [&pending.frames, more].concat();
        for &seq in erase {
            let Some(last) = last.filter(|last| (pending.trimmed.next()..=last.seq).contains(&seq)) else { continue };
            let Some(tail) = pending.tail.filter(|tail| seq <= tail.head.seq) else {
                chunk::erase_frame(&mut frames, crc, Position { seq: pending.first(), ..last }, seq)?;
                continue;
            };
            let Some(number) = reader.locate(&pending.key, seq, &tail)? else { continue };
            self.rewrite(reader, number, rewritten, |chunk| chunk::erase(chunk, number, &pending.key, seq))?;
        }
        Ok(frames)
    }

    /// Takes the records on disk up to `until` away from a stream, which gets `more` or not.
    fn trim(
        &self,
        reader: &Reader,
        at: usize,
        more: bool,
        until: Seq,
        rewritten: &mut Rewritten,
    ) -> Result<Trimmed, StoreError> {
        let pending = &self.streams[at];
        let Some(tail) = pending.tail else { return Ok(Trimmed::default()) };
        let followed = more || !pending.frames.is_empty();
        let keeps = if followed { tail.head.seq } else { Seq(tail.head.seq.0 - 1) };
        let until = until.min(keeps);
        let mut last = None;
        // The oldest first: each run tells where the last record before the next one lay.
        for run in reader.runs_up_to(&pending.key, until, &tail)?.into_iter().rev() {
            let number = run.spot.chunk;
            if run.last().seq <= pending.trimmed {
                last = Some(number);
                continue;
            }
            let previous = Spot::trimmed(if run.first <= until { number } else { last.unwrap_or(number) });
            if run.first <= until || run.first == until.next() && last.is_some() {
                self.rewrite(reader, number, rewritten, |chunk| {
                    chunk::trim(chunk, number, &pending.key, until, previous)
                })?;
                last = Some(number);
            }
        }
        let places = if last.is_some() { reader.places_up_to(&pending.key, until)? } else { Vec::new() };
        Ok(Trimmed { until, places })
    }

    /// Puts a chunk up as `change` makes it of what it is going to be so far.
    fn rewrite(
        &self,
        reader: &Reader,
        number: u64,
        rewritten: &mut Rewritten,
        change: impl FnOnce(&IVec) -> Result<Vec<u8>, StoreError>,
    ) -> Result<(), StoreError> {
        let (old, now) = match rewritten.remove(&number).or_else(|| self.rewritten.get(&number).cloned()) {
            Some(touched) => touched,
            None => {
                let chunk = reader.tree.get(chunk_key(number)).map_err(failure)?;
                let chunk = chunk.ok_or_else(|| damage(format!("chunk {number} is missing")))?;
                let now = chunk.to_vec();
                (chunk, now)
            }
        };
        let new = change(&IVec::from(now))?;
        rewritten.insert(number, (old, new));
        Ok(())
    }
}

/// What trimming leaves behind.
#[derive(Default)]
struct Trimmed {
    /// As [`Pending::trimmed`].
    until: Seq,
    /// As [`Plan::places`].
    places: Vec<IVec>,
}

/// How much goes with a chunk that is no batch: each takes some hundred bytes of a segment of 8 MiB, the chunk 64 KiB.
const APART_MAX: usize = 256;

/// What a group writes.
#[derive(Default)]
struct Writes {
    /// What says nothing but what is on disk already, or nothing at all: may be there without the rest, in this order.
    apart: Vec<(IVec, IVec)>,
    /// What is there as a whole or not at all; nothing under a key takes it away.
    together: Vec<(IVec, Option<IVec>)>,
}

impl Writes {
    /// A batch of sled's goes to disk in two steps, its manifest first, one waiting for the other. What is a whole by
    /// itself, as the one chunk of a group is, goes without. Little goes with it: sled looks for holes only in the
    /// segments since the last that it believes to be on disk, so what might take several of them has to be a batch.
    fn apply(self, tree: &Tree) -> ::sled::Result<()> {
        if let [(key, Some(value))] = &self.together[..]
            && self.apart.len() <= APART_MAX
        {
            for (key, value) in self.apart {
                tree.insert(key, value)?;
            }
            return tree.insert(key, value).map(|_| ());
        }
        let mut batch = Batch::default();
        self.apart.into_iter().for_each(|(key, value)| batch.insert(key, value));
        for (key, value) in self.together {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        tree.apply_batch(batch)
    }
}

/// What was put up to be written.
struct LaidOut {
    /// The number of the last chunk.
    last: u64,
    /// Of all the chunks.
    bytes: usize,
    chunks: Vec<IVec>,
    tails: Vec<(Arc<[u8]>, Tail)>,
}

/// Lays the records out in chunks after `number`.
/// A group of rows alone gets an empty chunk, so that its loss would be noticed too.
fn lay_out(streams: Vec<Pending>, epoch: Epoch, number: u64, writes: &mut Writes) -> LaidOut {
    let total: usize = streams.iter().map(|stream| stream.frames.len()).sum();
    let mut tails = Vec::with_capacity(streams.len());
    let mut chunks = Chunks {
        number: number + 1,
        left: total + streams.len() * 96,
        bytes: 0,
        written: Vec::new(),
        writes,
        builder: None,
    };
    for pending in streams {
        if pending.frames.is_empty() {
            continue;
        }
        let mut run = OpenRun { first: pending.first(), count: 0, bare: pending.is_bare() };
        let Pending { key, mut tail, frames, .. } = pending;
        let mut frames = &frames[..];
        while let Some(len) = chunk::frame_len(frames) {
            let (frame, rest) = frames.split_at(len);
            if !chunks.builder().fits(&key, frame.len()) {
                run = chunks.end(&key, epoch, run, &mut tail);
                chunks.turn();
            }
            if run.count == 0 {
                let before = tail.map_or(Spot::NONE, |tail| tail.run);
                let before = if run.bare { Spot::trimmed(before.chunk) } else { before };
                chunks.builder().begin(&key, epoch, run.first, before);
            }
            chunks.builder().push(frame);
            run.count += 1;
            frames = rest;
        }
        chunks.end(&key, epoch, run, &mut tail);
        tails.extend(tail.map(|tail| (key, tail)));
    }
    chunks.builder();
    let last = chunks.number;
    chunks.turn();
    LaidOut { last, bytes: chunks.bytes, chunks: chunks.written, tails }
}

struct OpenRun {
    first: Seq,
    count: u16,
    /// What was before it has been trimmed.
    bare: bool,
}

struct Chunks<'a> {
    number: u64,
    /// How many bytes are still to come, about.
    left: usize,
    bytes: usize,
    written: Vec<IVec>,
    writes: &'a mut Writes,
    builder: Option<Builder>,
}

impl Chunks<'_> {
    fn builder(&mut self) -> &mut Builder {
        let capacity = self.left.min(chunk::CHUNK_BYTES);
        self.builder.get_or_insert_with(|| Builder::new(self.number, capacity))
    }

    /// Ends the run, if one was begun, notes its place where that is due, and returns where the next one begins.
    fn end(&mut self, key: &[u8], epoch: Epoch, run: OpenRun, tail: &mut Option<Tail>) -> OpenRun {
        if run.count == 0 {
            return run;
        }
        let (at, bytes) = self.builder().end(key, run.count);
        let spot = Spot::new(self.number, at);
        let next = Seq(run.first.0 + u64::from(run.count));
        let head = Position { epoch, seq: Seq(next.0 - 1) };
        let previous = tail.map_or(Spot::NONE, |tail| tail.run);
        let (after, note) = Tail::after(*tail, head, spot, bytes);
        if note && !run.bare {
            let place = place_key(key, run.first);
            // It tells of the run before.
            let value = seal(&place, &previous.to_le_bytes());
            self.writes.apart.push((place.into(), value.into()));
        }
        *tail = Some(after);
        OpenRun { first: next, count: 0, bare: false }
    }

    /// Puts the chunk up and turns to the next one.
    fn turn(&mut self) {
        let Some(builder) = self.builder.take() else { return };
        let chunk = IVec::from(builder.finish());
        self.written.push(chunk.clone());
        self.bytes += chunk.len();
        self.left = self.left.saturating_sub(chunk.len());
        self.writes.together.push((chunk_key(self.number)[..].into(), Some(chunk)));
        self.writes.apart.push((chunk_key(self.number + BLANKS)[..].into(), BLANK.into()));
        self.number += 1;
    }
}

impl Hooks {
    fn sync(&self, file: &File) -> std::io::Result<()> {
        self.before_sync.as_ref().map_or(Ok(()), |hook| hook())?;
        file.sync_data()
    }
}
