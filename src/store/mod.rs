//! The log: records in streams, and small rows beside them, durable before anyone hears of them.
//!
//! Knows the domain's values and how to keep them; knows no wire format, no HTTP and no actor. Everything above talks
//! to [`Store`]; [`sled`] is the one that ships, [`memory`] the one for tests, which fails on demand. What is too large
//! for a log lies in plain files beside it: [`files`].

mod codec;
pub mod files;
pub mod memory;
pub mod rows;
pub mod sled;

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

pub use self::codec::encode;

use crate::domain::{DirectoryEvent, Epoch, Event, Mark, Position, Record, RoomKey, Seq, StreamId};

/// An answer of the store; it may arrive on any thread.
pub type StoreFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Where records and rows are kept.
///
/// Order: commits of one stream are carried out in the order of their calls, and each future resolves only after its
/// commit has settled. Durability: what a future of [`Store::commit`] resolved with `Ok` survives a power cut, and
/// nothing that is not on disk yet is ever shown by a read. When the store is full of requests, calls wait.
pub trait Store: Send + Sync + 'static {
    /// The epoch in which new records have to be written.
    fn epoch(&self) -> Epoch;

    /// Appends and puts, all or nothing; resolves with `Ok` once that is on disk.
    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>>;

    /// Waits until every commit of `stream` that was called before has settled, and returns the stream's head: how a
    /// successor learns what became of a commit whose caller died.
    fn settle(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>>;

    /// The last record's position; `None` for a stream without any.
    fn head(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>>;

    /// How far the log has come: what any commit resolved before this call has written lies at or below the mark, and
    /// so does nothing that reads do not show yet.
    fn mark(&self) -> Mark;

    /// For each of `streams`, in their order, where it ends now, and where it ended when the log had come as far as
    /// `mark`. One read for all of them.
    fn positions_at(&self, streams: Vec<StreamId>, mark: Mark) -> StoreFuture<Result<Vec<At>, StoreError>>;

    /// The rooms that have records, behind `after`, in an order that stays: at most `limit`. One that got its first
    /// record meanwhile may be left out.
    fn rooms(&self, after: Option<RoomKey>, limit: usize) -> StoreFuture<Result<Vec<RoomKey>, StoreError>>;

    /// Records after `after`, oldest first: at most `limit`, fewer where a page would pass [`PAGE_BYTES`], none only
    /// where there are none. What has been trimmed is passed over: the first may lie further on.
    fn read(&self, stream: &StreamId, after: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>>;

    /// Records before `before`, oldest first: the `limit` latest of them, fewer where a page would pass
    /// [`PAGE_BYTES`], none only where there are none.
    fn read_back(&self, stream: &StreamId, before: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>>;

    /// The records at `seqs`, in the order asked, without those that there are none of. A page ends with the record that
    /// passes [`PAGE_BYTES`], and is complete where that was the last. One read for all of them.
    fn records_at(&self, stream: &StreamId, seqs: &[Seq]) -> StoreFuture<Result<Page, StoreError>>;

    /// The row filed under `stream` as `key`. One that exists and was read of late may be answered at once.
    fn get(&self, stream: &StreamId, key: &[u8]) -> StoreFuture<Result<Option<Bytes>, StoreError>>;

    /// The row filed under `stream` as `key`, where that is known without a read. `None` says nothing.
    fn peek(&self, _stream: &StreamId, _key: &[u8]) -> Option<Bytes> {
        None
    }

    /// The rows filed under `stream` as `keys`, in their order. One read for all of them, each time: how long it takes
    /// does not tell what others have read.
    fn get_all(&self, stream: &StreamId, keys: &[&[u8]]) -> StoreFuture<Result<Vec<Option<Bytes>>, StoreError>>;

    /// Rows filed under `stream` whose keys begin with `prefix` and come after `after`, in the order of their keys, at
    /// most `limit`.
    fn scan(
        &self,
        stream: &StreamId,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> StoreFuture<Result<Vec<(Bytes, Bytes)>, StoreError>>;

    /// Whether the store takes commits now.
    fn health(&self) -> Health;

    /// What it has done and holds, for who watches it.
    fn figures(&self) -> Figures {
        Figures::default()
    }

    /// Settles what was called, syncs, and lets go of the files. Calls afterwards fail with `Closed`.
    fn close(&self) -> StoreFuture<()>;
}

/// What a store has done since it was opened, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    pub commits: u64,
    pub syncs: u64,
    /// Requests that wait to be written.
    pub waiting: usize,
    /// `None` where that cannot be told.
    pub free_bytes: Option<u64>,
}

/// Records of one stream: consecutive ones, oldest first, or those that were asked for by their seqs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    pub records: Vec<Record>,
    /// Nothing durable lay beyond the page, in the direction it was read or of what was asked for, when it was read.
    pub complete: bool,
}

/// Where a stream ends, and where it ended at a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct At {
    /// As [`Store::head`] says.
    pub head: Option<Position>,
    /// The seq of the last record up to the mark; 0 where there was none yet, or where that one has been trimmed and
    /// later ones with it.
    pub seq: Seq,
}

/// A page of records ends with the one that passes this.
pub const PAGE_BYTES: usize = 128 * 1024;

/// The largest record, encoded; larger ones are refused with [`CommitError::TooLarge`].
pub const RECORD_BYTES_MAX: usize = 64 * 1024;

/// What is to be written at once, all or nothing.
#[derive(Clone, Debug)]
pub struct Commit {
    pub stream: StreamId,
    /// The head that `records` follow; anything else is a `Conflict`. `None` for an empty stream.
    pub expected: Option<Position>,
    /// May be empty, for rows alone.
    pub records: Vec<Record>,
    pub puts: Vec<Put>,
    /// Records of this stream, those of this commit included, whose content is to be erased where it lies: each reads
    /// as `MessageErased` afterwards, in its old place, with its ids and times. What has no content, or is not there,
    /// is passed over.
    pub erase: Vec<Seq>,
    /// Records of this stream up to here, which lie before those of this commit, are not kept any longer: the first of
    /// those that are is the one that the stream begins with from then on. A stream that has had records keeps one, so
    /// without `records` its last one stays. Of commits that are written together with this one nothing goes.
    pub trim: Option<Seq>,
}

impl Commit {
    /// Whether it takes something away, and where it does bring hardly anything: its records have so many bytes. Such a
    /// commit is let in when free space is below the limit, for as long as half of that is left.
    fn frees(&self, record_bytes: usize) -> bool {
        let brought: usize = self.puts.iter().filter_map(|put| Some(put.key.len() + put.value.as_ref()?.len())).sum();
        let removed = self.puts.iter().filter(|put| put.value.is_none()).count();
        // Of rows alone more have to go than come; those that go with records are no reason to let these in.
        let less = removed.saturating_sub(self.puts.len() - removed);
        let removed = if self.records.is_empty() { less } else { 0 };
        let taken = usize::from(self.trim.is_some()) + self.erase.len() + removed;
        // Without nums nothing could be deleted either.
        let leases = |record: &Record| matches!(record.event, Event::Directory(DirectoryEvent::NumsLeased { .. }));
        let leases = !self.records.is_empty() && self.records.iter().all(leases);
        leases || taken > 0 && record_bytes + brought <= FREEING_BYTES_MAX * taken
    }
}

/// What a commit may bring for each thing that it takes away: the record that says so, and what follows from it.
const FREEING_BYTES_MAX: usize = 4 * 1024;

/// A row to write, or to remove where `value` is `None`.
///
/// A row belongs to the stream whose commits write it, and no other stream writes it. It may be filed under another
/// stream, so that it is found from there: a room files a row under each member's user stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Put {
    pub under: StreamId,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// Why a commit is not known to be on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing was written: the stream's head is not what the caller expected.
    #[error("the stream has another head than expected")]
    Conflict,
    /// Nothing was written: a record is larger than [`RECORD_BYTES_MAX`].
    #[error("a record is larger than the log takes")]
    TooLarge,
    /// Nothing was written: free space is below the limit. Service comes back by itself when there is space.
    #[error("free disk space is below the limit")]
    Full,
    /// Nothing was written, and nothing will be: the storage is broken or closed, or what this stream's commit builds
    /// on is damaged.
    #[error("the storage does not take writes")]
    Failed,
    /// It may or may not be on disk; [`Store::settle`] tells.
    #[error("the outcome of the commit is unknown")]
    Unknown,
}

/// Why a read has no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// A record does not match its checksum, or one is missing. Never served as if it were whole.
    #[error("damaged: {0}")]
    Damaged(String),
    #[error("the storage failed: {0}")]
    Failed(String),
    #[error("the storage is closed")]
    Closed,
}

/// Whether commits are taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    Good,
    /// Reads go on; commits are refused with `Full` until there is space.
    Full,
    /// The process has to end; `reason` is for the operator.
    Broken {
        reason: String,
    },
}
