//! Synced appends per second: ours, the bare file, and one key per record, in turn. One key per record stands there
//! twice: handed bytes by whoever writes, and behind the same calls as ours.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use chinwag::domain::Seq;
use chinwag::store::{Commit, CommitError, Store, StoreFuture};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::kept::{Figure, Kept};
use crate::load::{
    Drive, Driven, Log, Writer, cpu, encoded, median, micros, open, percentile, runtime, spread, stream,
};

/// Where the records of one commit go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// All in one room: one commit with all of them.
    OneRoom,
    /// Each in another room: as many commits, gathered by the committer. Twice as many rooms as records per sync have
    /// one under way, so that the next group gathers while one is synced.
    OtherRooms,
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::OneRoom => "one room",
            Self::OtherRooms => "each another",
        }
    }
}

struct Rates {
    per_second: Vec<f64>,
    cpu: Vec<f64>,
}

impl Rates {
    fn new() -> Self {
        Self { per_second: Vec::new(), cpu: Vec::new() }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    fn add(&mut self, records: usize, (took, cpu): (Duration, Duration)) {
        self.per_second.push(records as f64 / took.as_secs_f64());
        self.cpu.push(micros(cpu) / records as f64);
    }
}

/// Prints the table of the README's figures.
pub fn compare(dir: &Path, rounds: usize, only: Option<usize>, kept: &mut Kept) {
    println!("synced appends, records/s: medians of {rounds} rounds in turn; +-: half of the rounds are so near");
    println!(
        "{:>6} {:<12} {:>8} {:>4} {:>8} {:>4} {:>5} {:>4} {:>8} {:>6} {:>8} {:>6} {:>8} {:>8} {:>9} {:>9} {:>9} {:>7}",
        "commit",
        "rooms",
        "ours",
        "+-%",
        "file",
        "+-%",
        "%",
        "+-%",
        "key each",
        "times",
        "called",
        "times",
        "cpu/rec",
        "caller",
        "file cpu",
        "call. cpu",
        "per sync",
        "p99 us"
    );
    let runtime = runtime();
    for shape in [Shape::OneRoom, Shape::OtherRooms] {
        for (records, commits) in [(1, 300), (16, 250), (256, 80), (1024, 30)] {
            if only.is_none_or(|only| only == records) {
                row(dir, &runtime, (shape, records, commits), rounds, kept);
            }
        }
    }
}

fn scaled(commits: usize, scale: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a count")]
    let scaled = (commits as f64 * scale) as usize;
    scaled.max(30)
}

fn row(
    dir: &Path,
    runtime: &Runtime,
    (shape, records, commits): (Shape, usize, usize),
    rounds: usize,
    kept: &mut Kept,
) {
    let (mut ours, mut file, mut keys, mut called) = (Rates::new(), Rates::new(), Rates::new(), Rates::new());
    let (mut syncs, mut written, mut slowest, mut callers) = (0, 0, Vec::new(), Vec::new());
    let home = TempDir::new_in(dir).expect("the directory can be written to");
    let store = open(&home.path().join("store"));
    let (mut bare, mut plain) = (Bare::new(home.path()), Plain::new(&home.path().join("keys")));
    let alike = Called::new(Plain::new(&home.path().join("called")), if shape == Shape::OneRoom { 1 } else { records });
    let mut writer = Writer::new(store.epoch());
    let mut other = Writer::new(store.epoch());
    let mut third = Writer::new(store.epoch());
    let drive = match shape {
        Shape::OneRoom => Drive { rooms: 1, at_once: 1, per_commit: records, commits },
        Shape::OtherRooms if records == 1 => Drive { rooms: 1024, at_once: 1, per_commit: 1, commits },
        Shape::OtherRooms => {
            let at_once = 2 * records;
            Drive { rooms: at_once as u64, at_once, per_commit: 1, commits: commits * records }
        }
    };
    // The first round, in which files and trees are made and grow warm, does not count.
    for round in 0..=rounds {
        let groups: Vec<Vec<Vec<u8>>> = (0..commits).map(|_| encoded(&other.commit(0, records))).collect();
        let by_file = bare.append(&groups);
        let driven = drive.run(runtime, &store, &mut writer);
        let by_key = plain.append(&groups);
        let by_call = drive.run(runtime, &alike, &mut third);
        if round > 0 {
            let Driven { took, cpu, caller, commits: times, records: wrote, syncs: made } = driven;
            file.add(commits * records, by_file);
            ours.add(wrote, (took, cpu));
            #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
            callers.push(micros(caller) / wrote as f64);
            keys.add(commits * records, by_key);
            called.add(by_call.records, (by_call.took, by_call.cpu));
            (syncs, written) = (syncs + made, written + wrote);
            slowest.extend(times);
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let per_sync = written as f64 / syncs as f64;
    let ratio = |other: &Rates| ours.per_second.iter().zip(&other.per_second).map(|(a, b)| a / b).collect::<Vec<_>>();
    let (of_file, of_keys, of_called) = (ratio(&file), ratio(&keys), ratio(&called));
    println!(
        "{records:>6} {:<12} {:>8.0} {:>4.0} {:>8.0} {:>4.0} {:>5.0} {:>4.0} {:>8.0} {:>6.1} {:>8.0} {:>6.1} {:>8.2} {:>8.2} {:>9.2} {:>9.2} {per_sync:>9.1} {:>7.0}",
        shape.name(),
        median(&ours.per_second),
        spread(&ours.per_second),
        median(&file.per_second),
        spread(&file.per_second),
        100.0 * median(&of_file),
        spread(&of_file),
        median(&keys.per_second),
        median(&of_keys),
        median(&called.per_second),
        median(&of_called),
        median(&ours.cpu),
        median(&callers),
        median(&file.cpu),
        median(&called.cpu),
        micros(percentile(&mut slowest, 0.99)),
    );
    let name = format!("append: {records} per sync, {}", shape.name());
    let lost = kept.hold(&name, Figure::Share(100.0 * median(&of_file)));
    lost.into_iter().for_each(|lost| println!("{:>6} {lost}", ""));
}

/// The limit: one file, with one write and one sync for each group.
struct Bare(File);

impl Bare {
    fn new(home: &Path) -> Self {
        Self(File::create(home.join("file")).expect("the directory can be written to"))
    }

    fn append(&mut self, groups: &[Vec<Vec<u8>>]) -> (Duration, Duration) {
        let groups: Vec<Vec<u8>> = groups.iter().map(|records| records.concat()).collect();
        let (began, before) = (Instant::now(), cpu());
        for group in &groups {
            self.0.write_all(group).and_then(|()| self.0.sync_data()).expect("the disk works");
        }
        (began.elapsed(), cpu() - before)
    }
}

/// The usual way: a batch with one key per record in a tree of sled, its flush, and the sync that makes it true.
struct Plain {
    db: sled::Db,
    file: File,
    seq: u64,
}

impl Plain {
    fn new(path: &Path) -> Self {
        let db = sled::Config::new().path(path).mode(sled::Mode::HighThroughput).open().expect("a new tree opens");
        let file = File::options().write(true).open(path.join("db")).expect("sled has made it");
        Self { db, file, seq: 0 }
    }

    fn append(&mut self, groups: &[Vec<Vec<u8>>]) -> (Duration, Duration) {
        let (began, before) = (Instant::now(), cpu());
        groups.iter().for_each(|group| self.write(group));
        (began.elapsed(), cpu() - before)
    }

    fn write<'a>(&mut self, group: impl IntoIterator<Item = &'a Vec<u8>>) {
        let mut batch = sled::Batch::default();
        for record in group {
            self.seq += 1;
            batch.insert(&self.seq.to_be_bytes(), record.as_slice());
        }
        self.db.apply_batch(batch).and_then(|()| self.db.flush()).expect("sled works");
        self.file.sync_data().expect("the disk works");
    }
}

/// The usual way behind the calls that ours has: records are encoded in the call, a thread gathers them, and each call
/// is answered. It knows how many commits to wait for, which ours has to guess; it looks up no heads and no tails.
struct Called {
    shared: Arc<Shared>,
    /// How many commits are written together.
    commits: usize,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// What bounds it are the commits that are under way.
    line: Mutex<Line>,
    arrived: Condvar,
    syncs: AtomicU64,
}

#[derive(Default)]
struct Line {
    requests: Vec<Request>,
    closed: bool,
}

struct Request {
    records: Vec<Vec<u8>>,
    done: oneshot::Sender<Result<(), CommitError>>,
}

/// How long it waits for the others, as ours.
const GATHER: Duration = Duration::from_millis(2);

impl Called {
    fn new(mut plain: Plain, commits: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let thread = thread::spawn(move || {
            loop {
                let group = own.gathered(commits);
                if group.is_empty() {
                    return;
                }
                plain.write(group.iter().flat_map(|request| &request.records));
                own.syncs.fetch_add(1, Ordering::Relaxed);
                for request in group {
                    request.done.send(Ok(())).expect("the drive waits for it");
                }
            }
        });
        Self { shared, commits, thread: Some(thread) }
    }
}

impl Shared {
    /// The next so many requests, or fewer where no more come for a while; none when no more can come.
    fn gathered(&self, commits: usize) -> Vec<Request> {
        let none = |line: &mut Line| line.requests.is_empty() && !line.closed;
        let few = |line: &mut Line| line.requests.len() < commits && !line.closed;
        let line = self.line.lock().expect("nobody panics with it");
        let line = self.arrived.wait_while(line, none).expect("nobody panics with it");
        let (mut line, _) = self.arrived.wait_timeout_while(line, GATHER, few).expect("nobody panics with it");
        let count = commits.min(line.requests.len());
        line.requests.drain(..count).collect()
    }
}

impl Log for Called {
    fn commit(&self, commit: Commit) -> StoreFuture<Result<(), CommitError>> {
        let (done, answer) = oneshot::channel();
        let request = Request { records: encoded(&commit), done };
        let mut line = self.shared.line.lock().expect("nobody panics with it");
        line.requests.push(request);
        let wakes = [1, self.commits].contains(&line.requests.len());
        drop(line);
        if wakes {
            self.shared.arrived.notify_one();
        }
        Box::pin(async move { answer.await.expect("the thread answers everything") })
    }

    fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.shared.line.lock().expect("nobody panics with it").closed = true;
        self.shared.arrived.notify_one();
        self.thread.take().map(JoinHandle::join);
    }
}

/// How often the latest of a room are read.
const READS: u32 = 4000;

/// What more rooms cost: one record per commit, 512 of these under way.
pub fn many_rooms(dir: &Path, scale: f64, only: Option<u64>) {
    println!();
    println!("rooms that take turns, a record each, 512 under way");
    println!(
        "{:>8} {:>9} {:>8} {:>9} {:>12} {:>12} {:>12}",
        "rooms", "records/s", "cpu/rec", "per sync", "50 p50 us", "50 p99 us", "50 cpu us"
    );
    let runtime = runtime();
    for rooms in [512, 1_000, 4_096, 20_000, 100_000] {
        if only.is_some_and(|only| only != rooms) {
            continue;
        }
        let home = TempDir::new_in(dir).expect("the directory can be written to");
        let store = open(&home.path().join("store"));
        let mut writer = Writer::new(store.epoch());
        let commits = scaled(500_000, scale).max(usize::try_from(2 * rooms).expect("rooms fit in memory"));
        let drive = Drive { rooms, at_once: 512, per_commit: 1, commits };
        let driven = drive.run(&runtime, &store, &mut writer);
        let before = cpu();
        let mut latest = latest(&runtime, &store, rooms, READS);
        let reading = micros(cpu() - before) / f64::from(READS);
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let (records, syncs) = (driven.records as f64, driven.syncs as f64);
        println!(
            "{rooms:>8} {:>9.0} {:>8.2} {:>9.1} {:>12.0} {:>12.0} {reading:>12.1}",
            records / driven.took.as_secs_f64(),
            micros(driven.cpu) / records,
            records / syncs,
            micros(percentile(&mut latest, 0.5)),
            micros(percentile(&mut latest, 0.99)),
        );
    }
}

/// How long the latest 50 records of rooms take, one read at a time, rooms without an order.
pub fn latest(runtime: &Runtime, store: &dyn Store, rooms: u64, reads: u32) -> Vec<Duration> {
    let read = |at: u64| {
        let room = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % rooms;
        let began = Instant::now();
        let page = runtime.block_on(store.read_back(&stream(room), Seq(u64::MAX), 50)).expect("a healthy store reads");
        assert!(!page.records.is_empty(), "every room has records");
        began.elapsed()
    };
    (0..u64::from(reads)).map(read).collect()
}

/// How long single commits take over a run of a million records, one room's at a time and with many under way.
pub fn pauses(dir: &Path, scale: f64) {
    println!();
    println!("how long commits take, in microseconds, over a million records");
    println!("{:<34} {:>8} {:>8} {:>8} {:>9}", "", "p50", "p99", "p99.9", "max");
    let runtime = runtime();
    let drives = [
        ("16 per commit, 1,024 rooms in turn", Drive { rooms: 1024, at_once: 1, per_commit: 16, commits: 62_500 }),
        ("1 per commit, 64 of 10,000 rooms", Drive { rooms: 10_000, at_once: 64, per_commit: 1, commits: 1_000_000 }),
        (
            "1 per commit, 512 of 100,000 rooms",
            Drive { rooms: 100_000, at_once: 512, per_commit: 1, commits: 1_000_000 },
        ),
    ];
    for (name, drive) in drives {
        let home = TempDir::new_in(dir).expect("the directory can be written to");
        let store = open(&home.path().join("store"));
        let mut writer = Writer::new(store.epoch());
        let drive = Drive { commits: scaled(drive.commits, scale), ..drive };
        let mut times = Vec::with_capacity(drive.commits);
        // In parts, so that the commits that are made beforehand do not take all of the memory.
        let mut left = drive.commits;
        while left > 0 {
            let commits = left.min(100_000);
            times.extend(Drive { commits, ..drive }.run(&runtime, &store, &mut writer).commits);
            left -= commits;
        }
        println!(
            "{name:<34} {:>8.0} {:>8.0} {:>8.0} {:>9.0}",
            micros(percentile(&mut times, 0.5)),
            micros(percentile(&mut times, 0.99)),
            micros(percentile(&mut times, 0.999)),
            micros(percentile(&mut times, 1.0)),
        );
    }
}
