//! Opening a data directory, which is also recovering it: start is recovery.
//!
//! sled's own recovery cuts off what it can not read, for good. So a log that was not closed in order is copied before
//! sled sees it, and if it can not be opened, or what comes out does not hold what was acknowledged, the copy takes
//! its place again: the directory is left as it was found, and the operator is told. Where the log is larger than
//! [`COPY_BYTES_MAX`] there is no copy, because the start would take too long. A log that was closed in order and has
//! the length it had then, and one whose process was killed while the machine ran on, have nothing to fear but a
//! harmed disk, and are copied only up to [`COPY_BYTES_MAX_UNSUSPECTED`].

use std::fs::{self, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use ::sled::{Db, Tree};

use super::super::StoreError;
use super::super::codec::{damage, split_stream};
use super::Options;
use super::ahead::Ahead;
use super::chunk::Runs;
use super::dir::{self, Ballast, Lock, State};
use super::highwater::{HighWater, Mark};
use super::index::{BLANK, BLANKS, CHECKPOINT, EPOCH, Tail, Tails, chunk_key, chunk_number, seal, tail_key, unseal};
use super::read::{failure, panic_text};
use crate::domain::{Epoch, Seq};

/// The largest log that is copied before a start after a power cut: a second or two of copying.
const COPY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The largest log that is copied before every start: too little to be noticed.
const COPY_BYTES_MAX_UNSUSPECTED: u64 = 64 * 1024 * 1024;

/// The room that opening needs: sled overwrites what is left of its last segment and writes a snapshot.
const OPENING_BYTES: u64 = 32 * 1024 * 1024;

/// sled keeps what is larger than a quarter of a segment in files that it never syncs, and a page holds up to twenty
/// values of 64 KiB: with segments of this size no page comes near a quarter.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// How often sled rolls its buffers and frees what is no longer needed: its default, which that work depends on.
const SLED_FLUSH_EVERY_MS: u64 = 500;

/// How long to wait for sled to let go of a directory that this process has just closed.
const SLED_LOCK_WAIT: Duration = Duration::from_secs(10);

/// Why a data directory is not opened. Each says what to do, and has the exit code that a process ends with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by the process {pid}; stop that one first, or choose another directory", dir.display())]
    Locked { dir: PathBuf, pid: String },
    #[error("{} holds no data yet; name the directory that a server has used", dir.display())]
    Absent { dir: PathBuf },
    #[error(
        "{} is not empty and not a data directory of chinwag; nothing in it was touched; choose an empty or an absent \
         directory",
        dir.display()
    )]
    Foreign { dir: PathBuf },
    #[error(
        "{} has format {found}, and this program reads format {known}; nothing in it was touched; use a program that \
         reads that format",
        dir.display()
    )]
    Format { dir: PathBuf, found: u32, known: u32 },
    #[error(
        "{} is damaged: {what}; nothing was deleted; restore a backup into another directory, or keep a copy of this \
         one and ask for help",
        dir.display()
    )]
    Damaged { dir: PathBuf, what: String },
    #[error(
        "{} holds less than was acknowledged: {what}; nothing was deleted; restore a backup into another directory, \
         or keep a copy of this one and start with --accept-data-loss to go on without what is missing",
        dir.display()
    )]
    Lost { dir: PathBuf, what: String },
    #[error("the disk of {} is too full to open it: {free} bytes are free; make room and start again", dir.display())]
    Full { dir: PathBuf, free: u64 },
    #[error(
        "the disk of {} has no room for another log: {needed} bytes may be needed, and {free} are free; nothing was \
         changed; make room and try again",
        dir.display()
    )]
    NoRoom { dir: PathBuf, needed: u64, free: u64 },
    #[error("{}: {source}; check that the directory exists, is yours, and can be written to", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} can not be synced: {what}; what is written there would not survive a power cut, so nothing is",
        dir.display()
    )]
    NotDurable { dir: PathBuf, what: String },
}

impl OpenError {
    /// The exit code of a process that ends for this reason, after BSD's `sysexits.h`: 65 for a directory that is not
    /// ours or of another format, 66 for one that is not there, 73 for a full disk, 74 for damage and loss, 71 and 77 for what the system refuses, 75 for one
    /// in use.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Foreign { .. } | Self::Format { .. } => 65,
            Self::Absent { .. } => 66,
            Self::NotDurable { .. } => 71,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => 77,
            Self::Io { .. } => 71,
            Self::Full { .. } | Self::NoRoom { .. } => 73,
            Self::Damaged { .. } | Self::Lost { .. } => 74,
            Self::Locked { .. } => 75,
        }
    }

    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.into(), source }
    }

    pub(super) fn damaged(dir: &Path, what: impl ToString) -> Self {
        Self::Damaged { dir: dir.into(), what: what.to_string() }
    }

    fn lost(dir: &Path, what: impl ToString) -> Self {
        Self::Lost { dir: dir.into(), what: what.to_string() }
    }
}

/// An open directory.
pub(super) struct Opened {
    pub(super) lock: Lock,
    pub(super) db: Db,
    pub(super) tree: Tree,
    pub(super) file: fs::File,
    pub(super) ahead: Ahead,
    pub(super) water: HighWater,
    pub(super) ballast: Ballast,
    pub(super) recovered: Recovered,
    pub(super) epoch: Epoch,
}

/// What the log says of itself.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The last chunk.
    pub(super) number: u64,
    /// The streams that changed since the last checkpoint, and are not in the tree as they are.
    pub(super) tails: Tails,
    /// The number of the last chunk before them.
    pub(super) checkpoint: u64,
    pub(super) chunks: usize,
    pub(super) bytes: usize,
    epoch: Epoch,
    /// Something was missing or damaged, and left out because the caller accepted that.
    lossy: bool,
}

pub(super) fn open(path: &Path, options: &Options) -> Result<Opened, OpenError> {
    let io = |error| OpenError::io(path, error);
    let state = dir::inspect(path)?;
    if state == State::New {
        dir::make(path)?;
    }
    let lock = Lock::take(path)?;
    // Somebody else may have made it in between.
    let state = dir::inspect(path)?;
    make_room(path, options)?;
    if state == State::New {
        create(path, options)?;
    }
    let ballast = Ballast::at(path, options.ballast_bytes);
    dir::remove(&path.join("CREATING")).map_err(io)?;
    dir::finish_compaction(path).map_err(io)?;
    let log = path.join("log");
    let copy = path.join("log.before");
    // A start that was given up while it put the copy back.
    if copy.exists() && !log.exists() {
        fs::rename(&copy, &log).map_err(io)?;
    }
    if !log.join("db").is_file() {
        return Err(OpenError::damaged(path, "its file log/db is missing"));
    }

    let mut water = open_water(path, options)?;
    let closed = water.mark().closed;
    let len = fs::metadata(log.join("db")).map_err(io)?.len();
    if closed.is_some_and(|closed| closed != len) && !options.accept_data_loss {
        return Err(OpenError::lost(path, "the file log/db has another length than when it was closed"));
    }
    let suspect = closed.is_none() && !water.written_in_this_boot();
    // A copy that is there is of a start that was cut short, and shows the log as it was before that.
    let copied = copy.exists() || copy_before(&log, &copy, suspect, options).map_err(io)?;
    let mark = water.mark();
    water.write(Mark { closed: None, ..mark }).and_then(|()| water.sync()).map_err(io)?;

    let opened = guarded(path, options.clone(), mark);
    let (db, tree, recovered) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            if copied {
                put_back(&log, &copy).map_err(io)?;
            }
            water.write(mark).and_then(|()| water.sync()).map_err(io)?;
            return Err(error);
        }
    };
    let file = second_handle(path)?;
    let ahead = Ahead::open(&log.join("db"), SEGMENT_BYTES).map_err(io)?;
    let lost = recovered.lossy || recovered.number < mark.chunk || water_is_new(&mark);
    let epoch = if lost && options.accept_data_loss {
        next_epoch(path, recovered.epoch.max(mark.epoch), &db, &tree, &file)?
    } else {
        recovered.epoch.max(mark.epoch)
    };
    water
        .write(Mark { chunk: recovered.number, epoch, closed: None })
        .and_then(|()| water.sync())
        .and_then(|()| dir::remove(&copy))
        .and_then(|()| dir::remove(&copy.with_extension("copying")))
        .map_err(io)?;
    Ok(Opened { lock, db, tree, file, ahead, water, ballast, recovered, epoch })
}

/// Sees that there is room to open, if need be by giving up the ballast.
fn make_room(path: &Path, options: &Options) -> Result<(), OpenError> {
    // Space that can not be told is not the reason to stop: opening itself will say.
    let free = || options.hooks.free_bytes(path).unwrap_or(u64::MAX);
    if free() >= OPENING_BYTES {
        return Ok(());
    }
    Ballast::at(path, options.ballast_bytes).give_up().map_err(|error| OpenError::io(path, error))?;
    match free() {
        free if free < OPENING_BYTES => Err(OpenError::Full { dir: path.into(), free }),
        _ => Ok(()),
    }
}

/// Fills a directory that is not complete.
fn create(path: &Path, options: &Options) -> Result<(), OpenError> {
    let io = |error| OpenError::io(path, error);
    dir::begin(path).map_err(io)?;
    let epoch = draw_epoch(path, 1)?;
    let log = path.join("log");
    {
        let db = start(&log, options).map_err(|error| OpenError::damaged(path, error))?;
        let made = db.insert(EPOCH, seal(EPOCH, &epoch.0.to_le_bytes())).and_then(|_| {
            db.insert(CHECKPOINT, seal(CHECKPOINT, &0_u64.to_le_bytes()))?;
            for number in 1..=BLANKS {
                db.insert(chunk_key(number), BLANK)?;
            }
            db.flush()
        });
        made.map_err(|error| OpenError::damaged(path, error))?;
    }
    for name in ["db", "conf"] {
        let synced = fs::File::open(log.join(name)).and_then(|file| file.sync_all());
        synced.map_err(|error| OpenError::io(&log.join(name), error))?;
    }
    dir::sync_dir(&log).map_err(io)?;
    let mark = Mark { chunk: 0, epoch, closed: None };
    HighWater::create(&path.join("highwater"), mark).map_err(io)?;
    dir::complete(path).map_err(io)
}

fn open_water(path: &Path, options: &Options) -> Result<HighWater, OpenError> {
    let file = path.join("highwater");
    match HighWater::open(&file) {
        Ok(Some(water)) => return Ok(water),
        Ok(None) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io(&file, error)),
    }
    if !options.accept_data_loss {
        return Err(OpenError::lost(path, "its file highwater, which says how far the log had come, can not be read"));
    }
    let mark = Mark { chunk: 0, epoch: Epoch(0), closed: None };
    let made = HighWater::create(&file, mark).and_then(|()| HighWater::open(&file));
    let made = made.map_err(|error| OpenError::io(&file, error))?;
    made.ok_or_else(|| OpenError::NotDurable {
        dir: path.into(),
        what: "highwater does not keep what is written".into(),
    })
}

/// Whether the mark is one that [`open_water`] has just made up: no epoch is 0.
fn water_is_new(mark: &Mark) -> bool {
    mark.epoch == Epoch(0)
}

/// Copies the log where that is called for, and tells whether it did. A copy that bears its name is whole.
fn copy_before(log: &Path, copy: &Path, suspect: bool, options: &Options) -> io::Result<bool> {
    let bytes = dir::size(log)?;
    let max = if suspect { COPY_BYTES_MAX } else { COPY_BYTES_MAX_UNSUSPECTED };
    let free = options.hooks.free_bytes(log).unwrap_or(u64::MAX);
    let room = free.saturating_sub(OPENING_BYTES);
    if bytes > max || bytes > room {
        if suspect {
            tracing::warn!(bytes, free, "the log was not closed in order and is too large to be copied before opening");
        }
        return Ok(false);
    }
    let unfinished = copy.with_extension("copying");
    dir::remove(&unfinished)?;
    dir::copy(log, &unfinished)?;
    fs::rename(&unfinished, copy)?;
    Ok(true)
}

fn put_back(log: &Path, copy: &Path) -> io::Result<()> {
    dir::remove(log)?;
    fs::rename(copy, log)
}

/// Opens sled and checks the log in a thread of its own: with a damaged file sled may fail, panic or hang.
fn guarded(path: &Path, options: Options, mark: Mark) -> Result<(Db, Tree, Recovered), OpenError> {
    let dir = path.to_owned();
    apart(path, options.open_time_max, move || recover(&dir, &options, mark))
}

/// Runs `work` where its panics and its hanging do no harm.
pub(super) fn apart<T: Send + 'static>(
    path: &Path,
    watchdog: Duration,
    work: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let (done, answer) = mpsc::channel();
    let dir = path.to_owned();
    let spawned = thread::Builder::new().name("store-open".into()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(work));
        let result = result.unwrap_or_else(|panic| Err(OpenError::damaged(&dir, panic_text(&*panic))));
        // Nobody waits any more when the watchdog has barked.
        let _ = done.send(result);
    });
    spawned.map_err(|error| OpenError::io(path, error))?;
    match answer.recv_timeout(watchdog) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(OpenError::damaged(path, format!("opening it took over {watchdog:?}"))),
        Err(RecvTimeoutError::Disconnected) => Err(OpenError::damaged(path, "opening it ended without a result")),
    }
}

fn recover(path: &Path, options: &Options, mark: Mark) -> Result<(Db, Tree, Recovered), OpenError> {
    let log = path.join("log");
    let io = |error| OpenError::io(&log, error);
    dir::remove_half_snapshots(&log).map_err(io)?;
    let db = match start(&log, options) {
        Err(::sled::Error::Corruption { .. }) if !dir::snapshots(&log).map_err(io)?.is_empty() => {
            tracing::warn!("sled can not read its snapshot; it is put aside, and the whole log is read");
            dir::quarantine_snapshots(&log, &path.join("quarantine")).map_err(io)?;
            start(&log, options)
        }
        result => result,
    };
    let db = db.map_err(|error| OpenError::damaged(path, error))?;
    let tree = Tree::clone(&db);
    let recovered = check(&tree, options.accept_data_loss).map_err(|error| OpenError::damaged(path, error))?;
    if recovered.number < mark.chunk && !options.accept_data_loss {
        let what = format!("the log ends with write {}, and write {} was acknowledged", recovered.number, mark.chunk);
        return Err(OpenError::lost(path, what));
    }
    Ok((db, tree, recovered))
}

/// Starts sled; waits for what is left of an earlier start of this process to let go of the file.
#[expect(clippy::disallowed_methods, reason = "runs on the thread that opens, before there are actors")]
pub(super) fn start(log: &Path, options: &Options) -> ::sled::Result<Db> {
    let config = ::sled::Config::new()
        .path(log)
        .cache_capacity(options.cache_bytes)
        .flush_every_ms(Some(SLED_FLUSH_EVERY_MS))
        .mode(::sled::Mode::HighThroughput)
        .segment_size(SEGMENT_BYTES);
    let give_up = Instant::now() + SLED_LOCK_WAIT;
    loop {
        match config.open() {
            Err(::sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && Instant::now() < give_up =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

/// Reads the chunks since the last checkpoint, which make the index of the tails, and checks that none is missing.
/// With `lenient`, what is there is taken as it is.
pub(super) fn check(tree: &Tree, lenient: bool) -> Result<Recovered, StoreError> {
    let number_at = |key: &[u8]| -> Result<Option<u64>, StoreError> {
        let Some(value) = tree.get(key).map_err(failure)? else { return Ok(None) };
        let bytes = unseal(key, &value)?.try_into().map_err(|_| damage("a number of another length"))?;
        Ok(Some(u64::from_le_bytes(bytes)))
    };
    let (checkpoint, epoch, mut lossy) = match (number_at(CHECKPOINT), number_at(EPOCH)) {
        (Ok(Some(checkpoint)), Ok(Some(epoch))) => (checkpoint, epoch, false),
        (checkpoint, epoch) if lenient => {
            let known = |number: Result<Option<u64>, StoreError>| number.ok().flatten().unwrap_or_default();
            (known(checkpoint), known(epoch), true)
        }
        (Err(error), _) | (_, Err(error)) => return Err(error),
        (Ok(None), _) | (_, Ok(None)) => return Err(damage("sled opened its file and found it empty")),
    };
    let is_there = |chunk: Option<::sled::IVec>| chunk.is_some_and(|chunk| chunk != BLANK);
    if checkpoint > 0 && !is_there(tree.get(chunk_key(checkpoint)).map_err(failure)?) {
        if !lenient {
            return Err(damage(format!("chunk {checkpoint} is missing")));
        }
        lossy = true;
    }
    let mut recovered = Recovered {
        number: checkpoint,
        tails: Tails::default(),
        checkpoint,
        chunks: 0,
        bytes: 0,
        epoch: Epoch(epoch),
        lossy,
    };
    for chunk in tree.range(chunk_key(checkpoint + 1)..=chunk_key(u64::MAX)) {
        let (key, chunk) = chunk.map_err(failure)?;
        if chunk == BLANK {
            continue;
        }
        let number = chunk_number(&key).ok_or_else(|| damage("a chunk without a number"))?;
        if number != recovered.number + 1 {
            if !lenient {
                return Err(damage(format!("chunk {} is missing", recovered.number + 1)));
            }
            recovered.lossy = true;
        }
        recovered.number = number;
        recovered.chunks += 1;
        recovered.bytes += chunk.len();
        match replay(tree, &mut recovered.tails, &chunk, number) {
            Err(error) if lenient => {
                tracing::warn!(%error, number, "a damaged chunk is left out");
                recovered.lossy = true;
            }
            result => result?,
        }
    }
    Ok(recovered)
}

/// Takes note of the runs of a chunk.
fn replay(tree: &Tree, tails: &mut Tails, chunk: &::sled::IVec, number: u64) -> Result<(), StoreError> {
    for run in Runs::of(chunk, number)? {
        let run = run?;
        run.check()?;
        let stream = run.stream();
        let before = match tails.get(stream) {
            Some(tail) => Some(tail),
            None => {
                let key = tail_key(stream);
                let row = tree.get(&key).map_err(failure)?;
                row.map(|row| Tail::decode(unseal(&key, &row)?)).transpose()?
            }
        };
        // A tail may have been written to the tree since the checkpoint.
        if before.is_some_and(|tail| tail.run.chunk >= number && tail.head.seq >= run.last().seq) {
            continue;
        }
        let (head, chunk) = before.map_or((Seq::ZERO, 0), |tail| (tail.head.seq, tail.run.chunk));
        let follows = run.first == head.next() && run.previous.chunk == chunk;
        if !(follows || run.is_floor() && run.first > head) {
            let stream = split_stream(stream).map(|(stream, _)| stream);
            return Err(damage(format!("records of {stream:?} before {} are missing", run.first)));
        }
        tails.insert(stream.into(), Tail::after_run(before, &run));
    }
    Ok(())
}

/// The handle that makes acks true: sled's own flush does not sync.
fn second_handle(path: &Path) -> Result<fs::File, OpenError> {
    let opened = OpenOptions::new().read(true).write(true).open(path.join("log").join("db"));
    let synced = opened.and_then(|file| file.sync_all().map(|()| file));
    synced.map_err(|error| OpenError::NotDurable { dir: path.into(), what: error.to_string() })
}

/// Begins a new epoch, which is on disk before it is used.
fn next_epoch(path: &Path, last: Epoch, db: &Db, tree: &Tree, file: &fs::File) -> Result<Epoch, OpenError> {
    let epoch = draw_epoch(path, (last.0 >> 32) + 1)?;
    let stored = tree.insert(EPOCH, seal(EPOCH, &epoch.0.to_le_bytes())).and_then(|_| db.flush());
    stored.map_err(|error| OpenError::damaged(path, error))?;
    file.sync_data().map_err(|error| OpenError::io(path, error))?;
    tracing::warn!(epoch = epoch.0, "what is missing was accepted as lost, and a new epoch begins");
    Ok(epoch)
}

/// A counter above 32 random bits: later epochs are greater, and two restored copies of a directory differ. Clients
/// hold it in 53 bits, which leaves the counter 21.
fn draw_epoch(path: &Path, counter: u64) -> Result<Epoch, OpenError> {
    let random = getrandom::u32().map_err(|error| OpenError::io(path, io::Error::other(error.to_string())))?;
    Ok(Epoch(((counter & 0x1f_ffff) << 32) | u64::from(random)))
}
