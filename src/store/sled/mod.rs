//! The store that ships: a log in chunks and rows in one tree of sled, whose every write is synced before it is known.
//!
//! sled is used in one narrow way, because of what it does otherwise: one thread writes (`committer`), a group of
//! commits at a time, as a whole or not at all, with a sync of our own behind each; reads see only what is synced (`index`); every record, run,
//! chunk and row has a checksum; and a mark outside of sled says how far the log had come (`highwater`). What opening
//! does and refuses is in `open`.

mod ahead;
mod checkpoint;
mod chunk;
mod committer;
mod compact;
mod dir;
mod gather;
mod highwater;
mod index;
mod open;
mod read;
mod recent;
mod verify;

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use tokio::sync::watch;

pub use self::compact::{Compacted, Stage, compact};
pub use self::dir::check_owner;
pub use self::open::OpenError;
pub use self::verify::{Report, VerifyError, verify};

use self::checkpoint::Checkpoint;
use self::committer::{Committer, Counters, Queue};
use self::gather::Company;
use self::index::{Change, Durable, RecentChunks, Tail, row_key};
use self::open::Recovered;
use self::read::{Pool, Reader};
use self::recent::Recent;
use super::codec::stream_key;
use super::{At, Commit, CommitError, Figures, Health, Page, Store, StoreError, StoreFuture};
use crate::domain::{Epoch, Mark, Position, RoomKey, Seq, StreamId};

/// How a directory is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What sled may keep in memory, about; what the store keeps itself is less than as much again, and some 3 MB
    /// for the tails of rooms.
    pub cache_bytes: u64,
    /// Below so much free space commits are refused with [`CommitError::Full`].
    pub free_bytes_min: u64,
    /// Room kept in reserve, so that a full disk can be opened; 0 for none.
    pub ballast_bytes: u64,
    /// Go on without what is missing; a new epoch begins then.
    pub accept_data_loss: bool,
    /// How long opening may take.
    pub open_time_max: Duration,
    /// How often free space is looked at.
    pub space_check_every: Duration,
    /// The threads on which reads wait for the disk.
    pub read_threads: usize,
    pub hooks: Hooks,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 * 1024 * 1024,
            free_bytes_min: 256 * 1024 * 1024,
            ballast_bytes: 64 * 1024 * 1024,
            accept_data_loss: false,
            open_time_max: Duration::from_secs(60),
            space_check_every: Duration::from_millis(100),
            read_threads: 2,
            hooks: Hooks::default(),
        }
    }
}

/// Where tests take the place of the disk.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Says how many bytes are free.
    pub free_bytes: Option<Arc<dyn Fn() -> u64 + Send + Sync>>,
    /// Called by the writing thread between sled's flush and the sync; may wait, or fail in its place.
    pub before_sync: Option<Arc<dyn Fn() -> io::Result<()> + Send + Sync>>,
}

impl Hooks {
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.free_bytes.as_ref().map_or_else(|| dir::free_bytes(dir), |free| Ok(free()))
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// What the store has done since it was opened, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Syncs of the log; each made at least one commit durable.
    pub syncs: u64,
    pub commits: u64,
    /// Chunks that reads have fetched.
    pub chunk_reads: u64,
    /// Streams whose tails are in memory.
    pub tails: usize,
    /// Requests that wait for the writing thread.
    pub waiting: usize,
}

/// A log in a data directory.
///
/// When the queue is full, commits keep the place that they were called in and wait; what bounds them is that a caller
/// who waits for one commit does not call the next. When too many reads are under way, reads wait to begin. Dropping
/// the store closes it and waits for that.
pub struct SledStore {
    epoch: Epoch,
    queue: Arc<Queue>,
    pool: Arc<Pool>,
    durable: Arc<RwLock<Durable>>,
    recent: Arc<Recent>,
    health: watch::Receiver<Health>,
    counters: Arc<Counters>,
    chunk_reads: Arc<AtomicU64>,
    committer: Mutex<Option<JoinHandle<()>>>,
    dir: PathBuf,
    hooks: Hooks,
}

impl SledStore {
    /// Opens the directory, and makes it first where it is absent, empty or was never completed. Waits for the disk.
    pub fn open(path: &Path, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(path, &options)?;
        let Recovered { number, tails, checkpoint, chunks, bytes, .. } = opened.recovered;
        let checkpoint = Checkpoint::new(options.cache_bytes, checkpoint, chunks, bytes, &tails);
        let counters = Arc::new(Counters::default());
        counters.tails.store(tails.len(), Ordering::Relaxed);
        let chunk_reads = Arc::new(AtomicU64::new(0));
        let mark = Mark(number);
        let chunks = RecentChunks::new(options.cache_bytes, number + 1);
        let recent = Arc::new(Recent::new(options.cache_bytes));
        let durable = Arc::new(RwLock::new(Durable { at: Arc::new(Change::default()), mark, tails, chunks }));
        let reader = Reader {
            tree: opened.tree,
            durable: durable.clone(),
            recent: recent.clone(),
            chunk_reads: chunk_reads.clone(),
            lock: Arc::new(opened.lock),
        };
        let io = |error| OpenError::io(path, error);
        let pool = Pool::start(&reader, options.read_threads).map_err(io)?;
        let queue = Queue::new();
        let (health, watch) = watch::channel(Health::Good);
        let hooks = options.hooks.clone();
        let committer = Committer {
            queue: queue.clone(),
            company: Company::default(),
            reader,
            pool: pool.clone(),
            db: opened.db,
            file: opened.file,
            ahead: opened.ahead,
            water: opened.water,
            ballast: opened.ballast,
            health,
            counters: counters.clone(),
            dir: path.to_owned(),
            options,
            epoch: opened.epoch,
            number,
            checkpoint,
            space_checked: None,
        };
        let thread = thread::Builder::new().name("store-commit".into()).spawn(move || committer.run()).map_err(io)?;
        let committer = Mutex::new(Some(thread));
        Ok(Self {
            epoch: opened.epoch,
            queue,
            pool,
            durable,
            recent,
            health: watch,
            counters,
            chunk_reads,
            committer,
            dir: path.to_owned(),
            hooks,
        })
    }

    /// Follows the store's health. Whoever owns the process ends it when that is `Broken`.
    pub fn watch(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    pub fn stats(&self) -> Stats {
        Stats {
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            commits: self.counters.commits.load(Ordering::Relaxed),
            chunk_reads: self.chunk_reads.load(Ordering::Relaxed),
            tails: self.counters.tails.load(Ordering::Relaxed),
            waiting: self.queue.len(),
        }
    }

    /// The row whose key in the tree is `key`, where it is in memory. Nothing is, once the store is closed.
    fn row(&self, key: &[u8]) -> Option<Bytes> {
        self.recent.row(key).filter(|_| self.pool.is_open())
    }

    /// Where `stream` ends, as [`SledStore::row`].
    fn tail(&self, stream: &[u8]) -> Option<Tail> {
        if !self.pool.is_open() {
            return None;
        }
        let durable = self.durable.read().unwrap_or_else(PoisonError::into_inner);
        self.recent.tail(&durable, stream)
    }
}

impl Store for SledStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>> {
        let answer = self.queue.commit(commit, self.epoch);
        // The answer is lost only with the thread that was writing it.
        Box::pin(async move { answer.await.unwrap_or(Err(CommitError::Unknown)) })
    }

    fn settle(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        let answer = self.queue.settle(stream_key(stream));
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn head(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        let stream = stream_key(stream);
        match self.tail(&stream) {
            Some(tail) => Box::pin(ready(Ok(Some(tail.head)))),
            None => self.pool.run(move |reader| reader.head(&stream)),
        }
    }

    fn mark(&self) -> Mark {
        self.durable.read().unwrap_or_else(PoisonError::into_inner).mark
    }

    fn positions_at(&self, streams: Vec<StreamId>, mark: Mark) -> StoreFuture<Result<Vec<At>, StoreError>> {
        let streams: Vec<_> = streams.iter().map(stream_key).collect();
        let known = streams.iter().map(|stream| self.tail(stream)?.at_mark(mark)).collect();
        match known {
            Some(positions) => Box::pin(ready(Ok(positions))),
            None => self.pool.run(move |reader| streams.iter().map(|stream| reader.at_mark(stream, mark)).collect()),
        }
    }

    fn rooms(&self, after: Option<RoomKey>, limit: usize) -> StoreFuture<Result<Vec<RoomKey>, StoreError>> {
        let after = after.map(|room| stream_key(&room.stream()));
        self.pool.run(move |reader| reader.rooms(after.as_deref(), limit))
    }

    fn read(&self, stream: &StreamId, after: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        let stream = stream_key(stream);
        match self.tail(&stream) {
            Some(tail) if tail.head.seq <= after => Box::pin(ready(Ok(Page { records: Vec::new(), complete: true }))),
            Some(_) | None => self.pool.run(move |reader| reader.read(&stream, after, limit)),
        }
    }

    fn read_back(&self, stream: &StreamId, before: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        let stream = stream_key(stream);
        self.pool.run(move |reader| reader.read_back(&stream, before, limit))
    }

    fn records_at(&self, stream: &StreamId, seqs: &[Seq]) -> StoreFuture<Result<Page, StoreError>> {
        let (stream, seqs) = (stream_key(stream), seqs.to_vec());
        self.pool.run(move |reader| reader.records_at(&stream, &seqs))
    }

    fn get(&self, stream: &StreamId, key: &[u8]) -> StoreFuture<Result<Option<Bytes>, StoreError>> {
        let key = row_key(&stream_key(stream), key);
        match self.row(&key) {
            Some(row) => Box::pin(ready(Ok(Some(row)))),
            None => self.pool.run(move |reader| reader.get(key)),
        }
    }

    fn peek(&self, stream: &StreamId, key: &[u8]) -> Option<Bytes> {
        self.row(&row_key(&stream_key(stream), key))
    }

    fn get_all(&self, stream: &StreamId, keys: &[&[u8]]) -> StoreFuture<Result<Vec<Option<Bytes>>, StoreError>> {
        let stream = stream_key(stream);
        let keys: Vec<_> = keys.iter().map(|key| row_key(&stream, key)).collect();
        self.pool.run(move |reader| reader.get_all(&keys))
    }

    fn scan(
        &self,
        stream: &StreamId,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> StoreFuture<Result<Vec<(Bytes, Bytes)>, StoreError>> {
        let (stream, prefix, after) = (stream_key(stream), prefix.to_vec(), after.map(<[u8]>::to_vec));
        self.pool.run(move |reader| reader.scan(&stream, &prefix, after.as_deref(), limit))
    }

    fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    fn figures(&self) -> Figures {
        let Stats { syncs, commits, waiting, .. } = self.stats();
        Figures { commits, syncs, waiting, free_bytes: self.hooks.free_bytes(&self.dir).ok() }
    }

    fn close(&self) -> StoreFuture<()> {
        let closed = self.queue.close();
        let pool = self.pool.clone();
        Box::pin(async move {
            // An answer that is lost means that the committer is gone, which is closed, too.
            let _ = closed.await;
            pool.close();
        })
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        drop(self.queue.close());
        if let Some(thread) = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It catches panics itself.
            let _ = thread.join();
        }
        self.pool.close();
    }
}
