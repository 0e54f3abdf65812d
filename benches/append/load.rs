//! What is written, how the store is driven, and what is read off the clocks.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chinwag::domain::{
    ClientId, Content, Epoch, Event, Num, Position, Record, RecordId, RoomEvent, RoomId, RoomKey, Seq, StreamId,
    TenantId, Timestamp, UserId,
};
use chinwag::store::sled::{Options, SledStore};
use chinwag::store::{Commit, CommitError, Store, StoreFuture};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// The content of every message, in bytes of JSON.
const CONTENT: usize = 150;

pub fn open(dir: &Path) -> SledStore {
    SledStore::open(dir, Options::default()).expect("a new directory opens")
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime of one thread starts")
}

/// Makes the commits of rooms, each behind the one before.
pub struct Writer {
    epoch: Epoch,
    heads: HashMap<u64, u64>,
    author: UserId,
    body: String,
    num: u64,
}

impl Writer {
    pub fn new(epoch: Epoch) -> Self {
        let empty = r#"{"kind":"chat","text":""}"#;
        let body = empty.replace(r#""""#, &format!(r#""{}""#, "m".repeat(CONTENT - empty.len())));
        Self { epoch, heads: HashMap::new(), author: UserId::new("somebody").expect("a plain name"), body, num: 0 }
    }

    pub fn commit(&mut self, room: u64, records: usize) -> Commit {
        let head = self.heads.entry(room).or_default();
        let at = |seq: u64| Position { epoch: self.epoch, seq: Seq(seq) };
        let expected = (*head > 0).then(|| at(*head));
        let first = *head + 1;
        *head += records as u64;
        let records = (first..=*head)
            .map(|seq| {
                self.num += 1;
                let now = Timestamp(1_700_000_000_000 + i64::try_from(self.num / 100).unwrap_or(i64::MAX));
                Record {
                    position: at(seq),
                    id: RecordId::new(now, Seq(seq), u128::from(self.num)),
                    num: Num(self.num),
                    at: now,
                    author: self.author.clone(),
                    client_id: Some(ClientId::new(&format!("c-{:08}", self.num)).expect("a plain name")),
                    event: Event::Room(RoomEvent::posted(Content {
                        text: None,
                        body: Some(Arc::from(self.body.as_str())),
                    })),
                }
            })
            .collect();
        Commit { stream: stream(room), expected, records, puts: Vec::new(), erase: Vec::new(), trim: None }
    }
}

/// Rooms have ids without an order, as random ones do.
pub fn stream(room: u64) -> StreamId {
    let mixed = u128::from(room.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(room);
    StreamId::Room(RoomKey { tenant: TenantId::default_tenant(), room: RoomId(Uuid::from_u128(mixed)) })
}

/// The records of a commit as bytes, which are what the file and the plain tree get.
pub fn encoded(commit: &Commit) -> Vec<Vec<u8>> {
    let encode = |record| {
        let mut bytes = Vec::with_capacity(CONTENT + 100);
        chinwag::store::encode(record, &mut bytes);
        bytes
    };
    commit.records.iter().map(encode).collect()
}

/// What commits are driven into.
pub trait Log {
    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>>;

    /// How often it has synced.
    fn syncs(&self) -> u64;
}

impl Log for SledStore {
    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>> {
        Store::commit(self, commit)
    }

    fn syncs(&self) -> u64 {
        self.stats().syncs
    }
}

type Answer<'a> = Pin<Box<dyn Future<Output = (usize, u64, Instant, Result<(), CommitError>)> + 'a>>;

/// Commits `per_commit` records at a time, `commits` times, in rooms `0..rooms` in turn; `at_once` of these commits are
/// under way, and no two of one room.
pub struct Drive {
    pub rooms: u64,
    pub at_once: usize,
    pub per_commit: usize,
    pub commits: usize,
}

/// What a drive took.
pub struct Driven {
    pub took: Duration,
    pub cpu: Duration,
    /// Of it, what the thread had that calls and is answered: the bench's own part, and what the store does in a call.
    pub caller: Duration,
    /// Of each commit, from the call to the answer, in the order of the calls.
    pub commits: Vec<Duration>,
    pub records: usize,
    pub syncs: u64,
}

impl Drive {
    pub fn run(&self, runtime: &Runtime, log: &impl Log, writer: &mut Writer) -> Driven {
        assert!(self.at_once as u64 <= self.rooms, "a room has one commit under way");
        let prepared = (0..self.commits).map(|at| writer.commit(at as u64 % self.rooms, self.per_commit));
        let mut prepared = prepared.collect::<Vec<_>>().into_iter().enumerate();
        let mut times = vec![Duration::ZERO; self.commits];
        let syncs = log.syncs();
        let (began, cpu, caller) = (Instant::now(), cpu(), time(ClockId::ThreadCPUTime));
        runtime.block_on(async {
            // A room's next commit is called when its last one is answered: rooms come in turn, so whoever is next in
            // turn has been answered when only the oldest answers are waited for. Those that are late are kept back.
            let mut under_way: FuturesUnordered<Answer<'_>> = FuturesUnordered::new();
            let mut busy = vec![false; usize::try_from(self.rooms).expect("rooms fit in memory")];
            let mut next = prepared.next();
            loop {
                while let Some((at, commit)) = next.take() {
                    let room = at as u64 % self.rooms;
                    let slot = usize::try_from(room).expect("rooms fit in memory");
                    if busy[slot] || under_way.len() == self.at_once {
                        next = Some((at, commit));
                        break;
                    }
                    busy[slot] = true;
                    let (called, answer) = (Instant::now(), log.commit(commit));
                    under_way.push(Box::pin(async move { (at, room, called, answer.await) }));
                    next = prepared.next();
                }
                let Some((at, room, called, result)) = under_way.next().await else { break };
                result.expect("a healthy store takes what follows the head");
                times[at] = called.elapsed();
                busy[usize::try_from(room).expect("rooms fit in memory")] = false;
            }
        });
        let (cpu, caller) = (self::cpu() - cpu, time(ClockId::ThreadCPUTime) - caller);
        let syncs = log.syncs() - syncs;
        let records = self.commits * self.per_commit;
        Driven { took: began.elapsed(), cpu, caller, commits: times, records, syncs }
    }
}

/// The time that this process has had on any core.
pub fn cpu() -> Duration {
    time(ClockId::ProcessCPUTime)
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// The value below which `part` of `times` lie.
pub fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, rounded down")]
    let at = (times.len() as f64 * part) as usize;
    times[at.min(times.len() - 1)]
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Half of the values are no farther than this from the median, in per cent of it.
pub fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    let distances: Vec<f64> = values.iter().map(|value| (value / middle - 1.0).abs()).collect();
    median(&distances) * 100.0
}

pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
