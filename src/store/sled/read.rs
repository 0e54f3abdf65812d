//! Reading: pages of records, and rows. Everything here may wait for a disk and runs on the store's own threads; what
//! is in memory is answered before it comes here.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, mpsc};
use std::thread::{self, JoinHandle};

use ::sled::{IVec, Tree};
use bytes::Bytes;
use tokio::sync::{Semaphore, oneshot};

use super::super::codec::{ROOM_STREAM, damage, split_stream};
use super::super::{At, PAGE_BYTES, Page, StoreError, StoreFuture};
use super::chunk::{Frame, Run, Runs, Spot};
use super::dir::Lock;
use super::index::{BLANK, Change, Durable, PLACES, ROWS, Tail, chunk_key, place_key, row_key, tail_key, unseal};
use super::recent::Recent;
use crate::domain::{Mark, Position, Record, RoomKey, Seq, StreamId};

/// How many reads may be under way or waiting for a thread; further callers wait.
const READS_MAX: usize = 1024;

/// Rows taken from the tree at a time, beyond what is asked for: some may turn out not to be on disk yet.
const SCAN_SLACK: usize = 64;

/// The tree as it is on disk.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) tree: Tree,
    pub(super) durable: Arc<RwLock<Durable>>,
    pub(super) recent: Arc<Recent>,
    pub(super) chunk_reads: Arc<AtomicU64>,
    /// Held for as long as anything of the directory is open.
    pub(super) lock: Arc<Lock>,
}

/// A stretch of a stream between two noted places.
pub(super) struct Stretch {
    /// Its last run.
    pub(super) run: Spot,
    pub(super) last: Seq,
}

impl Reader {
    pub(super) fn head(&self, stream: &[u8]) -> Result<Option<Position>, StoreError> {
        Ok(self.view(stream)?.1.map(|tail| tail.head))
    }

    /// Where the stream ends, and where it ended when `mark` was the last chunk. Reads the tree only where a tail is not
    /// in memory or lies beyond the mark.
    pub(super) fn at_mark(&self, stream: &[u8], mark: Mark) -> Result<At, StoreError> {
        let (at, tail) = self.view(stream)?;
        let Some(tail) = tail else { return Ok(At::default()) };
        if let Some(known) = tail.at_mark(mark) {
            return Ok(known);
        }
        let mut seq = tail.head.seq;
        self.runs_back_while(&at, stream, self.stretch_beyond(stream, mark, &tail)?, |run| {
            seq = Seq(run.first.0.saturating_sub(1));
            if run.is_floor() && run.previous.chunk > mark.0 {
                seq = Seq::ZERO;
            }
            run.previous.chunk > mark.0
        })?;
        Ok(At { head: Some(tail.head), seq })
    }

    pub(super) fn read(&self, stream: &[u8], after: Seq, limit: usize) -> Result<Page, StoreError> {
        let (at, tail) = self.view(stream)?;
        let Some(tail) = tail.filter(|tail| tail.head.seq > after) else {
            return Ok(Page { records: Vec::new(), complete: true });
        };
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut next = after.next();
        while next <= tail.head.seq && records.len() < limit && bytes < PAGE_BYTES {
            let stretch = self.stretch(stream, next, &tail)?;
            let runs = self.runs_back(&at, stream, stretch, |first| first <= next)?;
            for run in runs.iter().rev() {
                for frame in run.frames()? {
                    if frame.position.seq < next {
                        continue;
                    }
                    if records.len() == limit || bytes >= PAGE_BYTES {
                        break;
                    }
                    records.push(run.decode(&frame)?);
                    bytes += frame.bytes();
                    next = frame.position.seq.next();
                }
            }
        }
        let complete = next > tail.head.seq;
        Ok(Page { records, complete })
    }

    pub(super) fn read_back(&self, stream: &[u8], before: Seq, limit: usize) -> Result<Page, StoreError> {
        let (at, tail) = self.view(stream)?;
        let tail = tail.filter(|_| before > Seq(1));
        let Some(tail) = tail else { return Ok(Page { records: Vec::new(), complete: true }) };
        let top = Seq(tail.head.seq.0.min(before.0 - 1));
        if limit == 0 {
            return Ok(Page { records: Vec::new(), complete: false });
        }
        let stretch = self.stretch(stream, top, &tail)?;
        let mut records: Vec<Record> = Vec::new();
        let mut bytes = 0;
        // Runs are taken until the page is full; the last one lies before the page when its records did not fit.
        let mut failure = None;
        let mut bottom = None;
        self.runs_back_while(&at, stream, stretch, |run| {
            bottom = Some(run.first).filter(|_| run.is_first());
            let wanted = |frame: &&Frame| frame.position.seq <= top;
            let taken = run.frames().and_then(|frames| {
                for frame in frames.iter().rev().filter(wanted) {
                    if records.len() == limit || bytes >= PAGE_BYTES {
                        break;
                    }
                    records.push(run.decode(frame)?);
                    bytes += frame.bytes();
                }
                Ok(())
            });
            failure = taken.err();
            failure.is_none() && records.len() < limit && bytes < PAGE_BYTES
        })?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        records.reverse();
        let complete = bottom.is_some_and(|first| records.first().is_none_or(|record| record.position.seq == first));
        Ok(Page { records, complete })
    }

    pub(super) fn records_at(&self, stream: &[u8], seqs: &[Seq]) -> Result<Page, StoreError> {
        let (at, tail) = self.view(stream)?;
        let mut page = Page { records: Vec::new(), complete: true };
        let Some(tail) = tail else { return Ok(page) };
        // The stretch that was walked last: what is asked for next lies there, too, more often than not.
        let mut runs: Vec<Run> = Vec::new();
        let mut bytes = 0;
        for &seq in seqs.iter().filter(|seq| (1..=tail.head.seq.0).contains(&seq.0)) {
            if bytes >= PAGE_BYTES {
                page.complete = false;
                break;
            }
            if !runs.iter().any(|run| run.holds(seq)) {
                let stretch = self.stretch(stream, seq, &tail)?;
                runs = self.runs_back(&at, stream, stretch, |first| first <= seq)?;
            }
            let Some(run) = runs.iter().find(|run| run.holds(seq)) else {
                if runs.last().is_some_and(|run| run.is_floor() && seq < run.first) {
                    continue;
                }
                return Err(damage(format!("the record at {seq} is missing")));
            };
            let frame = run.frame(seq)?;
            page.records.push(run.decode(&frame)?);
            bytes += frame.bytes();
        }
        Ok(page)
    }

    /// The row whose key in the tree is `key`.
    pub(super) fn get(&self, key: Vec<u8>) -> Result<Option<Bytes>, StoreError> {
        let at = self.at();
        let row = self.row(&at, &key)?;
        if let Some(row) = &row {
            self.recent.keep_row(&self.durable, &at, key, row.clone());
        }
        Ok(row)
    }

    /// As [`Reader::get`], of several as they were together.
    pub(super) fn get_all(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let at = self.at();
        keys.iter().map(|key| self.row(&at, key)).collect()
    }

    fn row(&self, at: &Change, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found = self.tree.get(key).map_err(failure)?;
        let row = at.before(key).unwrap_or(found);
        row.map(|row| unseal(key, &row).map(Bytes::copy_from_slice)).transpose()
    }

    pub(super) fn scan(
        &self,
        stream: &[u8],
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, StoreError> {
        let at = self.at();
        let all = row_key(stream, prefix);
        let strip = 1 + stream.len();
        let mut from = match after {
            // The smallest key after another one is that key and a zero byte.
            Some(after) => row_key(stream, &[after, &[0]].concat()).max(all.clone()),
            None => all.clone(),
        };
        let mut rows = Vec::new();
        while rows.len() < limit {
            let part = limit - rows.len() + SCAN_SLACK;
            let mut found = BTreeMap::new();
            for row in self.tree.range(from.clone()..).take(part) {
                let (key, value) = row.map_err(failure)?;
                if !key.starts_with(&all) {
                    break;
                }
                found.insert(key.to_vec(), Some(value));
            }
            let exhausted = found.len() < part;
            let until = found.last_key_value().map(|(key, _)| key.clone());
            let mut replaced = BTreeMap::new();
            for change in at.later() {
                for (key, old) in change.old.range(from.clone()..) {
                    let within = exhausted || until.as_ref().is_some_and(|until| key <= until);
                    if key.starts_with(&all) && within {
                        replaced.entry(key.clone()).or_insert_with(|| old.clone());
                    }
                }
            }
            found.extend(replaced);
            for (key, value) in found {
                let Some(value) = value else { continue };
                let value = Bytes::copy_from_slice(unseal(&key, &value)?);
                rows.push((Bytes::copy_from_slice(&key[strip..]), value));
            }
            match until {
                Some(mut until) if !exhausted => {
                    until.push(0);
                    from = until;
                }
                Some(_) | None => break,
            }
        }
        rows.truncate(limit);
        Ok(rows)
    }

    /// The chunk that holds the record of `stream` at `seq`, up to where it is on disk; `None` where that has been
    /// trimmed.
    pub(super) fn locate(&self, stream: &[u8], seq: Seq, tail: &Tail) -> Result<Option<u64>, StoreError> {
        let stretch = self.stretch(stream, seq, tail)?;
        let mut found = None;
        self.runs_back_while(&Arc::new(Change::default()), stream, stretch, |run| {
            found = run.holds(seq).then_some(run.spot.chunk);
            run.first > seq
        })?;
        Ok(found)
    }

    /// The runs of `stream` that are on disk and have records up to `until`, and the first of those behind them, latest
    /// first.
    pub(super) fn runs_up_to(&self, stream: &[u8], until: Seq, tail: &Tail) -> Result<Vec<Run>, StoreError> {
        let stretch = self.stretch(stream, until.next().min(tail.head.seq), tail)?;
        let mut runs: Vec<Run> = Vec::new();
        self.runs_back_while(&Arc::new(Change::default()), stream, stretch, |run| {
            if run.first > until {
                runs.clear();
            }
            runs.push(run.clone());
            true
        })?;
        Ok(runs)
    }

    /// The keys of the noted places of `stream` that tell of records up to `until` alone.
    pub(super) fn places_up_to(&self, stream: &[u8], until: Seq) -> Result<Vec<IVec>, StoreError> {
        let places = self.tree.range(place_key(stream, Seq::ZERO)..=place_key(stream, until.next()));
        places.map(|place| place.map(|(key, _)| key).map_err(failure)).collect()
    }

    /// The rooms behind `after` that have a tail, in the order of their keys.
    pub(super) fn rooms(&self, after: Option<&[u8]>, limit: usize) -> Result<Vec<RoomKey>, StoreError> {
        let is_behind = |stream: &[u8]| after.is_none_or(|after| stream > after);
        // Those of late are in no tree yet, or not as they are.
        let mut streams: BTreeSet<Arc<[u8]>> = {
            let durable = self.durable.read().unwrap_or_else(PoisonError::into_inner);
            let known = durable.tails.iter().map(|(stream, _)| stream);
            known.filter(|stream| stream.first() == Some(&ROOM_STREAM) && is_behind(stream)).cloned().collect()
        };
        let from = tail_key(after.unwrap_or(&[ROOM_STREAM]));
        let keys = self.tree.range(from..tail_key(&[ROOM_STREAM + 1])).keys();
        for key in keys.filter(|key| key.as_ref().map_or(true, |key| is_behind(&key[1..]))).take(limit) {
            streams.insert(key.map_err(failure)?[1..].into());
        }
        let rooms = streams.iter().take(limit).map(|stream| match split_stream(stream) {
            Some((StreamId::Room(room), [])) => Ok(room),
            _ => Err(damage("a tail of a room that has no name")),
        });
        rooms.collect()
    }

    pub(super) fn tail_in_tree(&self, stream: &[u8]) -> Result<Option<Tail>, StoreError> {
        let key = tail_key(stream);
        let row = self.tree.get(&key).map_err(failure)?;
        row.map(|row| Tail::decode(unseal(&key, &row)?)).transpose()
    }

    fn at(&self) -> Arc<Change> {
        self.durable.read().unwrap_or_else(PoisonError::into_inner).at.clone()
    }

    /// What was last on disk, and the tail of `stream` there.
    fn view(&self, stream: &[u8]) -> Result<(Arc<Change>, Option<Tail>), StoreError> {
        let (at, tail, turns) = {
            let durable = self.durable.read().unwrap_or_else(PoisonError::into_inner);
            (durable.at.clone(), self.recent.tail(&durable, stream), durable.tails.turns())
        };
        if tail.is_some() {
            return Ok((at, tail));
        }
        // A tail in the tree is always of what was on disk before it was written.
        let tail = self.tail_in_tree(stream)?;
        if let Some(tail) = tail {
            self.recent.keep_tail(&self.durable, turns, stream, tail);
        }
        Ok((at, tail))
    }

    /// The stretch in which the record at `seq` lies: it ends before the next noted place, or at the tail.
    fn stretch(&self, stream: &[u8], seq: Seq, tail: &Tail) -> Result<Stretch, StoreError> {
        if seq == tail.head.seq {
            return Ok(Stretch { run: tail.run, last: seq });
        }
        let from = place_key(stream, seq.next());
        let to = place_key(stream, tail.head.seq);
        let Some(place) = self.tree.range(from..=to).next() else {
            return Ok(Stretch { run: tail.run, last: tail.head.seq });
        };
        let (key, value) = place.map_err(failure)?;
        stretch_before(&key, &value)
    }

    /// The first stretch that ends beyond `mark`, as the tail does. Chunks grow along a stream, so the noted places are
    /// searched by halves.
    fn stretch_beyond(&self, stream: &[u8], mark: Mark, tail: &Tail) -> Result<Stretch, StoreError> {
        let mut found = Stretch { run: tail.run, last: tail.head.seq };
        // What ends before the places up to `low` lies at or below the mark; places beyond `high` come after the one found.
        let (mut low, mut high) = (0, tail.head.seq.0);
        while low < high {
            // Nearer to the end, because what is looked for is mostly of late.
            let middle = high - (high - low) / 4;
            let mut places = self.tree.range(place_key(stream, Seq(middle))..=place_key(stream, Seq(high)));
            let Some(place) = places.next() else {
                high = middle - 1;
                continue;
            };
            let (key, value) = place.map_err(failure)?;
            let stretch = stretch_before(&key, &value)?;
            if stretch.run.chunk <= mark.0 {
                low = stretch.last.next().0;
            } else {
                (high, found) = (middle - 1, stretch);
            }
        }
        Ok(found)
    }

    /// The runs of a stretch, latest first, to the one whose first seq satisfies `enough`.
    fn runs_back(
        &self,
        at: &Arc<Change>,
        stream: &[u8],
        stretch: Stretch,
        enough: impl Fn(Seq) -> bool,
    ) -> Result<Vec<Run>, StoreError> {
        let mut runs = Vec::new();
        self.runs_back_while(at, stream, stretch, |run| {
            runs.push(run.clone());
            !enough(run.first)
        })?;
        Ok(runs)
    }

    /// Walks back from the end of a stretch while `more` says so and there are runs. A gap is damage.
    fn runs_back_while(
        &self,
        at: &Arc<Change>,
        stream: &[u8],
        stretch: Stretch,
        mut more: impl FnMut(&Run) -> bool,
    ) -> Result<(), StoreError> {
        let Stretch { run: mut spot, mut last } = stretch;
        loop {
            let run = self.run(at, stream, spot)?;
            if run.last().seq != last {
                return Err(damage(format!("the records before {} are missing", last.next())));
            }
            if !more(&run) {
                return Ok(());
            }
            if run.is_first() {
                return Ok(());
            }
            match (run.first, run.previous) {
                (Seq(0 | 1), _) | (_, Spot::NONE) => {
                    return Err(damage(format!("the records before {} are missing", run.first)));
                }
                (first, previous) if previous.chunk < spot.chunk => (spot, last) = (previous, Seq(first.0 - 1)),
                (..) => return Err(damage("a run names a later one as the one before")),
            }
        }
    }

    fn run(&self, at: &Change, stream: &[u8], spot: Spot) -> Result<Run, StoreError> {
        let run = Runs::of(&self.chunk(at, spot.chunk)?, spot.chunk)?.at(spot, stream)?;
        run.ok_or_else(|| damage(format!("chunk {} does not hold the run it should", spot.chunk)))
    }

    fn chunk(&self, at: &Change, number: u64) -> Result<IVec, StoreError> {
        self.chunk_reads.fetch_add(1, Ordering::Relaxed);
        let key = chunk_key(number);
        let recent = self.durable.read().unwrap_or_else(PoisonError::into_inner).chunks.get(number);
        let found = if recent.is_some() { recent } else { self.tree.get(key).map_err(failure)? };
        let chunk = at.before(&key).unwrap_or(found).filter(|chunk| chunk != BLANK);
        chunk.ok_or_else(|| damage(format!("chunk {number} is missing")))
    }
}

/// The stretch that ends before a noted place.
pub(super) fn stretch_before(key: &[u8], value: &[u8]) -> Result<Stretch, StoreError> {
    let previous = unseal(key, value)?.try_into().map(Spot::from_le_bytes);
    let first = key[key.len() - 8..].try_into().map(u64::from_be_bytes);
    match (previous, first) {
        (Ok(run), Ok(first @ 1..)) => Ok(Stretch { run, last: Seq(first - 1) }),
        _ => Err(damage("a noted place has another length")),
    }
}

/// Whether a key is one of those that the rules of rows and places are about, for who scans everything.
pub(super) fn is_row(key: &[u8]) -> bool {
    key.first() == Some(&ROWS)
}

/// As [`is_row`], for noted places.
pub(super) fn is_place(key: &[u8]) -> bool {
    key.first() == Some(&PLACES)
}

/// What an error of sled is to who reads.
pub(super) fn failure(error: ::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Corruption { .. } => damage("sled found a page that does not match its checksum"),
        ::sled::Error::CollectionNotFound(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_)
        | ::sled::Error::Io(_) => StoreError::Failed(error.to_string()),
    }
}

type Job = Box<dyn FnOnce(&Reader) + Send>;

/// The threads that reads wait on, so that nobody else has to.
pub(super) struct Pool {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    places: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    pub(super) fn start(reader: &Reader, threads: usize) -> std::io::Result<Arc<Self>> {
        // The channel is bounded by `places`.
        let (jobs, queue) = mpsc::channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let threads = (0..threads.max(1))
            .map(|_| {
                let (queue, reader) = (queue.clone(), reader.clone());
                thread::Builder::new().name("store-read".into()).spawn(move || work(&queue, &reader))
            })
            .collect::<Result<_, _>>()?;
        let places = Arc::new(Semaphore::new(READS_MAX));
        Ok(Arc::new(Self { jobs: Mutex::new(Some(jobs)), places, threads: Mutex::new(threads) }))
    }

    /// Runs `read` on one of the threads; waits for a place when all are taken.
    pub(super) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<Result<T, StoreError>> {
        let pool = self.clone();
        Box::pin(async move {
            let Ok(place) = pool.places.clone().acquire_owned().await else { return Err(StoreError::Closed) };
            let (done, answer) = oneshot::channel();
            let job: Job = Box::new(move |reader| {
                let result = catch_unwind(AssertUnwindSafe(|| read(reader)));
                // Whoever asked may be gone.
                let _ = done.send(result.unwrap_or_else(|panic| Err(damage(panic_text(&*panic)))));
                drop(place);
            });
            let sent = match &*pool.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(jobs) => jobs.send(job).is_ok(),
                None => false,
            };
            drop(pool);
            if !sent {
                return Err(StoreError::Closed);
            }
            answer.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    /// Whether reads are answered.
    pub(super) fn is_open(&self) -> bool {
        !self.places.is_closed()
    }

    /// Lets the reads under way end and the threads with them.
    pub(super) fn close(&self) {
        self.places.close();
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in self.threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It catches panics itself.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<mpsc::Receiver<Job>>, reader: &Reader) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match job {
            Ok(job) => job(reader),
            Err(mpsc::RecvError) => return,
        }
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
