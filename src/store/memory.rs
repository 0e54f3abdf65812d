//! A store in memory, for tests: the same contract, and [`Faults`] on demand.
//!
//! Nothing here sleeps or has a thread. A commit is carried out within the call, unless it is held; then it is carried
//! out by who releases it.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::codec;
use super::{At, Commit, CommitError, Health, PAGE_BYTES, Page, RECORD_BYTES_MAX, Store, StoreError, StoreFuture};
use crate::domain::{Epoch, Mark, Position, Record, RoomKey, Seq, StreamId};

/// A log in memory. Clones share it, as two openings of one directory would.
#[derive(Clone)]
pub struct MemoryStore {
    epoch: Epoch,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// How many commits were called.
    called: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    streams: BTreeMap<StreamId, Vec<Record>>,
    /// Up to which seq streams have been trimmed.
    trimmed: BTreeMap<StreamId, Seq>,
    /// How many commits were written; and of each stream, up to which seq its records were there after which of them.
    mark: Mark,
    marks: BTreeMap<StreamId, Vec<(Mark, Seq)>>,
    rows: BTreeMap<StreamId, BTreeMap<Bytes, Bytes>>,
    line: VecDeque<Request>,
    holding: bool,
    rules: Vec<Rule>,
    reads: Option<StoreError>,
    health: Option<Health>,
    closed: bool,
    commits: u64,
    records: u64,
    /// How many rows have been read.
    read: Cell<u64>,
}

enum Request {
    Commit { commit: Commit, fault: Option<Fault>, done: oneshot::Sender<Result<(), CommitError>> },
    Settle { stream: StreamId, done: oneshot::Sender<Result<Option<Position>, StoreError>> },
}

/// Given a commit and its number.
type Applies = Box<dyn FnMut(u64, &Commit) -> bool + Send>;

struct Rule {
    applies: Applies,
    fault: Fault,
}

/// What goes wrong with a commit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Nothing is written, and the caller is told this.
    Fail(CommitError),
    /// It is written, and the caller is told `Unknown`.
    Tear,
    /// It is lost, and the caller is told `Unknown`.
    Forget,
    /// The call panics on the caller's stack; nothing is written.
    Panic,
    /// It waits, and all behind it, for [`Faults::release`].
    Hold,
}

/// What a test does to a [`MemoryStore`]. Of several faults for one commit, the one that was asked for first strikes.
#[derive(Clone)]
pub struct Faults {
    store: MemoryStore,
}

impl MemoryStore {
    /// The epoch of [`MemoryStore::new`].
    pub const EPOCH: Epoch = Epoch(1 << 32);

    pub fn new() -> Self {
        let state = Mutex::new(State::default());
        Self { epoch: Self::EPOCH, shared: Arc::new(Shared { state, called: watch::Sender::new(0) }) }
    }

    /// The same log after a loss that was accepted: opened again, and in another epoch.
    pub fn in_epoch(&self, epoch: Epoch) -> Self {
        self.state().closed = false;
        Self { epoch, shared: self.shared.clone() }
    }

    pub fn faults(&self) -> Faults {
        Faults { store: self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_state<T>(&self, read: impl FnOnce(&State) -> T) -> Result<T, StoreError> {
        let state = self.state();
        match &state.reads {
            _ if state.closed => Err(StoreError::Closed),
            Some(error) => Err(error.clone()),
            None => Ok(read(&state)),
        }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Faults {
    /// Strikes the `n`-th commit from now on, 1 being the next.
    pub fn at(&self, n: u64, fault: Fault) {
        let strikes = self.commits() + n;
        self.rule(fault, move |number, _| number == strikes);
    }

    /// Strikes the next commit.
    pub fn next(&self, fault: Fault) {
        self.at(1, fault);
    }

    /// Strikes every commit that `applies` to, until [`Faults::clear`].
    pub fn when(&self, fault: Fault, mut applies: impl FnMut(&Commit) -> bool + Send + 'static) {
        self.rule(fault, move |_, commit| applies(commit));
    }

    /// Takes back every fault that has not struck. What is held stays held.
    pub fn clear(&self) {
        let mut state = self.store.state();
        state.rules.clear();
        state.reads = None;
        state.health = None;
    }

    /// Holds all commits from now on.
    pub fn hold(&self) {
        self.store.state().holding = true;
    }

    /// Carries out what is held, in order, and holds no longer.
    pub fn release(&self) {
        let mut state = self.store.state();
        state.holding = false;
        for request in &mut state.line {
            request.release();
        }
        state.work(self.store.epoch);
    }

    /// Carries out the first commit that is held; those behind it stay held. Tells whether there was one.
    pub fn release_one(&self) -> bool {
        let mut state = self.store.state();
        state.holding = true;
        let Some(mut first) = state.line.pop_front() else { return false };
        first.release();
        state.carry_out(first, self.store.epoch);
        // Whoever only waits for a commit before waits no longer.
        while matches!(state.line.front(), Some(Request::Settle { .. })) {
            let Some(settle) = state.line.pop_front() else { break };
            state.carry_out(settle, self.store.epoch);
        }
        true
    }

    /// How many commits are held.
    pub fn held(&self) -> usize {
        let state = self.store.state();
        state.line.iter().filter(|request| matches!(request, Request::Commit { .. })).count()
    }

    /// Reads answer this until [`Faults::clear`].
    pub fn fail_reads(&self, error: StoreError) {
        self.store.state().reads = Some(error);
    }

    /// Commits are refused with `Full` until [`Faults::clear`].
    pub fn fill(&self) {
        self.store.state().health = Some(Health::Full);
    }

    /// Commits fail until [`Faults::clear`].
    pub fn break_down(&self, reason: &str) {
        self.store.state().health = Some(Health::Broken { reason: reason.into() });
    }

    /// How many commits were called.
    pub fn commits(&self) -> u64 {
        self.store.state().commits
    }

    /// How many rows were read, also those that were looked for and are not there.
    pub fn rows_read(&self) -> u64 {
        self.store.state().read.get()
    }

    /// How many records were written.
    pub fn records(&self) -> u64 {
        self.store.state().records
    }

    /// Resolves when `n` commits have been called, ever.
    pub async fn until_called(&self, n: u64) {
        let mut called = self.store.shared.called.subscribe();
        // The sender lives in the store that is held here.
        let _ = called.wait_for(|called| *called >= n).await;
    }

    fn rule(&self, fault: Fault, applies: impl FnMut(u64, &Commit) -> bool + Send + 'static) {
        self.store.state().rules.push(Rule { applies: Box::new(applies), fault });
    }
}

impl State {
    fn fault(&mut self, commit: &Commit) -> Option<Fault> {
        let number = self.commits;
        self.rules.iter_mut().find_map(|rule| (rule.applies)(number, commit).then_some(rule.fault))
    }

    /// Carries out what is in line, as far as nothing is held.
    fn work(&mut self, epoch: Epoch) {
        while !self.holding && self.line.front().is_some_and(|request| !request.is_held()) {
            let Some(request) = self.line.pop_front() else { return };
            self.carry_out(request, epoch);
        }
    }

    fn carry_out(&mut self, request: Request, epoch: Epoch) {
        // Whoever called may be gone.
        match request {
            Request::Commit { commit, fault, done } => {
                let _ = done.send(self.commit(commit, fault, epoch));
            }
            Request::Settle { stream, done } => {
                let _ = done.send(Ok(self.head(&stream)));
            }
        }
    }

    fn commit(&mut self, commit: Commit, fault: Option<Fault>, epoch: Epoch) -> Result<(), CommitError> {
        match self.health {
            Some(Health::Full) if !commit.frees(commit.records.iter().map(stored_bytes).sum()) => {
                return Err(CommitError::Full);
            }
            Some(Health::Broken { .. }) => return Err(CommitError::Failed),
            Some(Health::Good | Health::Full) | None => {}
        }
        match fault {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::Forget) => return Err(CommitError::Unknown),
            Some(Fault::Tear | Fault::Panic | Fault::Hold) | None => {}
        }
        self.apply(commit, epoch)?;
        if fault == Some(Fault::Tear) { Err(CommitError::Unknown) } else { Ok(()) }
    }

    fn apply(&mut self, commit: Commit, epoch: Epoch) -> Result<(), CommitError> {
        check(&commit, epoch)?;
        if self.head(&commit.stream) != commit.expected {
            return Err(CommitError::Conflict);
        }
        self.records += commit.records.len() as u64;
        self.mark = Mark(self.mark.0 + 1);
        if let Some(last) = commit.records.last() {
            let marks = self.marks.entry(commit.stream.clone()).or_default();
            marks.push((self.mark, last.position.seq));
        }
        if !(commit.records.is_empty() && commit.erase.is_empty() && commit.trim.is_none()) {
            let before = commit.expected.map_or(Seq::ZERO, |head| head.seq);
            let keeps = if commit.records.is_empty() { Seq(before.0.saturating_sub(1)) } else { before };
            let stream = self.streams.entry(commit.stream.clone()).or_default();
            stream.extend(commit.records);
            for seq in commit.erase {
                let Some(record) = stream.iter_mut().find(|record| record.position.seq == seq) else { continue };
                if let Some(erased) = codec::erased(record) {
                    *record = erased;
                }
            }
            if let Some(until) = commit.trim {
                let until = until.min(keeps);
                stream.retain(|record| record.position.seq > until);
                let trimmed = self.trimmed.entry(commit.stream).or_default();
                *trimmed = until.max(*trimmed);
            }
        }
        for put in commit.puts {
            let rows = self.rows.entry(put.under).or_default();
            match put.value {
                Some(value) => drop(rows.insert(put.key, value)),
                None => drop(rows.remove(&put.key)),
            }
        }
        Ok(())
    }

    fn head(&self, stream: &StreamId) -> Option<Position> {
        self.streams.get(stream)?.last().map(|record| record.position)
    }

    fn at(&self, stream: &StreamId, mark: Mark) -> At {
        let marks = self.marks.get(stream).map_or(&[][..], Vec::as_slice);
        let before = marks.partition_point(|(at, _)| *at <= mark);
        let seq = before.checked_sub(1).map_or(Seq::ZERO, |last| marks[last].1);
        let trimmed = self.trimmed.get(stream).copied().unwrap_or_default();
        At { head: self.head(stream), seq: if seq < trimmed { Seq::ZERO } else { seq } }
    }

    fn records(&self, stream: &StreamId) -> &[Record] {
        self.streams.get(stream).map_or(&[], Vec::as_slice)
    }
}

impl Request {
    fn is_held(&self) -> bool {
        matches!(self, Self::Commit { fault: Some(Fault::Hold), .. })
    }

    fn release(&mut self) {
        if let Self::Commit { fault: fault @ Some(Fault::Hold), .. } = self {
            *fault = None;
        }
    }
}

/// What can be told of a commit without looking at the stream.
fn check(commit: &Commit, epoch: Epoch) -> Result<(), CommitError> {
    let mut seq = commit.expected.map_or(Seq::ZERO, |head| head.seq);
    for record in &commit.records {
        seq = seq.next();
        if record.position != (Position { epoch, seq }) {
            return Err(CommitError::Conflict);
        }
        if stored_bytes(record) > RECORD_BYTES_MAX {
            return Err(CommitError::TooLarge);
        }
    }
    let large = |value: &Bytes| value.len() > RECORD_BYTES_MAX;
    if commit.puts.iter().any(|put| put.value.as_ref().is_some_and(large)) {
        return Err(CommitError::TooLarge);
    }
    Ok(())
}

fn stored_bytes(record: &Record) -> usize {
    let mut bytes = Vec::new();
    codec::encode(record, &mut bytes);
    bytes.len()
}

/// As many records as make a page.
fn page<'a>(records: impl Iterator<Item = &'a Record>, limit: usize) -> Vec<Record> {
    let mut bytes = 0;
    let mut taken = Vec::new();
    for record in records.take(limit) {
        if bytes >= PAGE_BYTES {
            break;
        }
        bytes += stored_bytes(record);
        taken.push(record.clone());
    }
    taken
}

impl Store for MemoryStore {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>> {
        let (done, answer) = oneshot::channel();
        let fault = {
            let mut state = self.state();
            if state.closed {
                return Box::pin(ready(Err(CommitError::Failed)));
            }
            state.commits += 1;
            let fault = state.fault(&commit);
            if fault != Some(Fault::Panic) {
                state.line.push_back(Request::Commit { commit, fault, done });
                state.work(self.epoch);
            }
            fault
        };
        self.shared.called.send_modify(|called| *called += 1);
        assert!(fault != Some(Fault::Panic), "the panic that the test asked for");
        Box::pin(async move { answer.await.unwrap_or(Err(CommitError::Unknown)) })
    }

    fn settle(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        if let Err(error) = self.read_state(|_| ()) {
            return Box::pin(ready(Err(error)));
        }
        let (done, answer) = oneshot::channel();
        let mut state = self.state();
        state.line.push_back(Request::Settle { stream: stream.clone(), done });
        // Nobody waits for what is held to the right of it, so it goes as soon as it is first.
        if state.line.len() == 1
            && let Some(first) = state.line.pop_front()
        {
            state.carry_out(first, self.epoch);
        }
        Box::pin(async move { answer.await.unwrap_or(Err(StoreError::Closed)) })
    }

    fn head(&self, stream: &StreamId) -> StoreFuture<Result<Option<Position>, StoreError>> {
        Box::pin(ready(self.read_state(|state| state.head(stream))))
    }

    fn mark(&self) -> Mark {
        self.state().mark
    }

    fn positions_at(&self, streams: Vec<StreamId>, mark: Mark) -> StoreFuture<Result<Vec<At>, StoreError>> {
        let positions = self.read_state(|state| streams.iter().map(|stream| state.at(stream, mark)).collect());
        Box::pin(ready(positions))
    }

    fn rooms(&self, after: Option<RoomKey>, limit: usize) -> StoreFuture<Result<Vec<RoomKey>, StoreError>> {
        Box::pin(ready(self.read_state(|state| {
            let rooms = state.streams.iter().filter(|(_, records)| !records.is_empty());
            let rooms = rooms.filter_map(|(stream, _)| match stream {
                StreamId::Room(room) => Some(room.clone()),
                StreamId::User(..)
                | StreamId::Directory(_)
                | StreamId::Accounts(_)
                | StreamId::Server
                | StreamId::Files
                | StreamId::Owed => None,
            });
            rooms.filter(|room| after.as_ref().is_none_or(|after| room > after)).take(limit).collect()
        })))
    }

    fn read(&self, stream: &StreamId, after: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        Box::pin(ready(self.read_state(|state| {
            let all = state.records(stream);
            let skip = all.partition_point(|record| record.position.seq <= after);
            let records = page(all[skip..].iter(), limit);
            let complete = skip + records.len() == all.len();
            Page { records, complete }
        })))
    }

    fn read_back(&self, stream: &StreamId, before: Seq, limit: usize) -> StoreFuture<Result<Page, StoreError>> {
        Box::pin(ready(self.read_state(|state| {
            let all = state.records(stream);
            let end = all.partition_point(|record| record.position.seq < before);
            let mut records = page(all[..end].iter().rev(), limit);
            records.reverse();
            let complete = records.len() == end;
            Page { records, complete }
        })))
    }

    fn records_at(&self, stream: &StreamId, seqs: &[Seq]) -> StoreFuture<Result<Page, StoreError>> {
        Box::pin(ready(self.read_state(|state| {
            let all = state.records(stream);
            let at = |seq: &Seq| all.binary_search_by_key(seq, |record| record.position.seq).ok().map(|at| &all[at]);
            let there: Vec<&Record> = seqs.iter().filter_map(at).collect();
            let records = page(there.iter().copied(), there.len());
            let complete = records.len() == there.len();
            Page { records, complete }
        })))
    }

    fn get(&self, stream: &StreamId, key: &[u8]) -> StoreFuture<Result<Option<Bytes>, StoreError>> {
        Box::pin(ready(self.read_state(|state| state.rows.get(stream)?.get(key).cloned())))
    }

    fn peek(&self, stream: &StreamId, key: &[u8]) -> Option<Bytes> {
        self.read_state(|state| state.rows.get(stream)?.get(key).cloned()).ok().flatten()
    }

    fn get_all(&self, stream: &StreamId, keys: &[&[u8]]) -> StoreFuture<Result<Vec<Option<Bytes>>, StoreError>> {
        Box::pin(ready(self.read_state(|state| {
            let rows = state.rows.get(stream);
            state.read.update(|read| read + keys.len() as u64);
            keys.iter().map(|key| rows?.get(*key).cloned()).collect()
        })))
    }

    fn scan(
        &self,
        stream: &StreamId,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> StoreFuture<Result<Vec<(Bytes, Bytes)>, StoreError>> {
        Box::pin(ready(self.read_state(|state| {
            let Some(rows) = state.rows.get(stream) else { return Vec::new() };
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                Some(_) | None => Bound::Included(prefix),
            };
            let rows = rows.range::<[u8], _>((from, Bound::Unbounded));
            let rows = rows.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
            let rows: Vec<_> = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
            state.read.update(|read| read + rows.len() as u64);
            rows
        })))
    }

    fn health(&self) -> Health {
        self.state().health.clone().unwrap_or(Health::Good)
    }

    /// What is held is carried out first.
    fn close(&self) -> StoreFuture<()> {
        self.faults().release();
        self.state().closed = true;
        Box::pin(ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TenantId;

    #[tokio::test]
    async fn a_torn_commit_is_written_and_a_forgotten_one_is_not() {
        let store = MemoryStore::new();
        store.faults().next(Fault::Tear);
        store.faults().at(2, Fault::Forget);
        assert_eq!(store.commit(put("a")).await, Err(CommitError::Unknown));
        assert_eq!(store.commit(put("b")).await, Err(CommitError::Unknown));
        assert!(store.get(&stream(), b"a").await.unwrap().is_some());
        assert!(store.get(&stream(), b"b").await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_held_is_carried_out_in_order_when_it_is_released() {
        let store = MemoryStore::new();
        let faults = store.faults();
        faults.hold();
        let (first, second) = (store.commit(put("a")), store.commit(put("b")));
        let settled = store.settle(&stream());
        assert_eq!(faults.held(), 2);
        assert!(store.get(&stream(), b"a").await.unwrap().is_none());
        assert!(faults.release_one());
        assert_eq!(first.await, Ok(()));
        assert!(store.get(&stream(), b"b").await.unwrap().is_none());
        faults.release();
        assert_eq!(second.await, Ok(()));
        assert_eq!(settled.await, Ok(None));
    }

    #[tokio::test]
    #[should_panic(expected = "the panic that the test asked for")]
    async fn a_panic_strikes_the_caller() {
        let store = MemoryStore::new();
        store.faults().when(Fault::Panic, |commit| !commit.puts.is_empty());
        let _ = store.commit(put("a")).await;
    }

    #[tokio::test]
    async fn a_full_store_takes_commits_again_when_it_is_cleared() {
        let store = MemoryStore::new();
        store.faults().fill();
        assert_eq!(store.health(), Health::Full);
        assert_eq!(store.commit(put("a")).await, Err(CommitError::Full));
        store.faults().clear();
        assert_eq!(store.commit(put("a")).await, Ok(()));
        store.faults().until_called(2).await;
    }

    fn stream() -> StreamId {
        StreamId::Directory(TenantId::default_tenant())
    }

    fn put(key: &'static str) -> Commit {
        let value = Some(Bytes::from_static(b"value"));
        let puts = vec![super::super::Put { under: stream(), key: key.into(), value }];
        Commit { stream: stream(), expected: None, records: Vec::new(), puts, erase: Vec::new(), trim: None }
    }
}
