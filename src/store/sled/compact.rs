//! Writing everything that is alive into a new log, so that nothing else is left of what was erased or trimmed.
//!
//! sled never writes over a value: what was there before stays in segments that are not used again yet, and in
//! snapshots. So the tree is copied, key by key, into `log.compacting`, which is checked, synced, and renamed to
//! `log.compacted` when it is whole. Then two renames put it in the place of `log`, and what was there is removed. A kill
//! at any point leaves one of these for `dir::finish_compaction` to make out: the log as it was, or the new one.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use ::sled::{Db, IVec, Tree};

use super::super::StoreError;
use super::super::codec::damage;
use super::checkpoint;
use super::dir::{self, Lock, State};
use super::highwater::{HighWater, Mark};
use super::index::{BLANK, chunk_number};
use super::open::{self, Opened};
use super::read::failure;
use super::verify::{self, Report};
use super::{OpenError, Options};

/// What sled needs beside what it is given: the segments that are begun, and what opening takes.
const OVERHEAD_BYTES: u64 = 64 * 1024 * 1024;

/// Values that are larger are written once all keys are there: sled writes all that is in a page again when it splits it.
const SMALL: usize = 256;

/// How much is written before sled is told to bring it to the disk.
const FLUSH_BYTES: usize = 8 * 1024 * 1024;

/// Nothing waits for it, and a log may be large.
const TIME_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// The bytes of the log's files before and after.
    pub before: u64,
    pub after: u64,
    pub report: Report,
}

/// How far it is. Whoever is told may stop for a while, and not more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// So many bytes are alive, so many may be needed at the most, and so many are free.
    Begins { alive: u64, needed: u64, free: u64 },
    /// What is alive has been written.
    Written,
    /// It has been checked, and is on disk as a whole.
    Whole,
    /// Nothing bears the name of the log.
    Between,
    /// The new log has taken the place of the old one.
    Swapped,
    /// Of the old one nothing is left.
    Removed,
}

/// Compacts the directory, which no server may use meanwhile. Files are left alone.
pub fn compact(
    path: &Path,
    options: Options,
    tell: impl FnMut(Stage) + Send + 'static,
) -> Result<Compacted, OpenError> {
    if dir::inspect(path)? == State::New {
        return Err(OpenError::Absent { dir: path.into() });
    }
    let opened = open::open(path, &options)?;
    let before = dir::size(&path.join("log")).map_err(|error| OpenError::io(path, error))?;
    let (folder, mut tell) = (path.to_owned(), tell);
    // With a damaged file, or a full disk, sled may panic.
    open::apart(path, TIME_MAX, move || {
        let (lock, mut water, written) = write(&folder, &options, opened, &mut tell)?;
        swap(&folder, &mut water, &mut tell).map_err(|error| OpenError::io(&folder, error))?;
        let after = dir::size(&folder.join("log")).map_err(|error| OpenError::io(&folder, error))?;
        drop(lock);
        Ok(Compacted { before, after, report: written })
    })
}

/// Writes the new log as a whole, and lets go of both.
fn write(
    path: &Path,
    options: &Options,
    opened: Opened,
    tell: &mut impl FnMut(Stage),
) -> Result<(Lock, HighWater, Report), OpenError> {
    let io = |error| OpenError::io(path, error);
    let Opened { lock, db, tree, file, ahead, mut water, recovered, epoch, .. } = opened;
    drop(ahead);
    let made = room(path, options, &tree).and_then(|stage| {
        tell(stage);
        let new = path.join("log.compacting");
        let written = copy(&tree, &recovered, &new, options).map_err(|error| refused(path, error));
        written.inspect_err(|_| drop(dir::remove(&new)))
    });
    drop((tree, db));
    // Whatever came of it, the old log is closed in order.
    let len = file.sync_all().and_then(|()| file.metadata()).map_err(io)?.len();
    let mark = Mark { chunk: recovered.number, epoch, closed: Some(len) };
    water.write(mark).and_then(|()| water.sync()).map_err(io)?;
    let report = made?;
    tell(Stage::Written);
    sync(&path.join("log.compacting")).map_err(io)?;
    fs::rename(path.join("log.compacting"), path.join("log.compacted")).map_err(io)?;
    dir::sync_dir(path).map_err(io)?;
    tell(Stage::Whole);
    Ok((lock, water, report))
}

/// Looks whether there is room for what is alive.
fn room(path: &Path, options: &Options, tree: &Tree) -> Result<Stage, OpenError> {
    let mut alive = 0;
    for row in tree {
        let (key, value) = row.map_err(|error| OpenError::damaged(path, failure(error)))?;
        alive += (key.len() + value.len()) as u64;
    }
    // Each value is written once; pages of small ones again when they are split.
    let needed = alive + alive / 2 + OVERHEAD_BYTES;
    let free = options.hooks.free_bytes(path).map_err(|error| OpenError::io(path, error))?;
    if free < needed {
        return Err(OpenError::NoRoom { dir: path.into(), needed, free });
    }
    Ok(Stage::Begins { alive, needed, free })
}

fn refused(path: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Damaged(what) => OpenError::damaged(path, what),
        StoreError::Failed(_) | StoreError::Closed => OpenError::io(path, io::Error::other(error.to_string())),
    }
}

/// Copies the tree into a new log and checks that this is the same, and whole.
fn copy(tree: &Tree, recovered: &open::Recovered, new: &Path, options: &Options) -> Result<Report, StoreError> {
    let failed = |error: io::Error| StoreError::Failed(error.to_string());
    dir::remove(new).map_err(failed)?;
    let db = open::start(new, options).map_err(failure)?;
    let mut pending = 0;
    let mut put = |key: &IVec, value: IVec| {
        pending += value.len();
        db.insert(key, value).map_err(failure)?;
        if pending >= FLUSH_BYTES {
            pending = 0;
            db.flush().map_err(failure)?;
        }
        Ok::<_, StoreError>(())
    };
    for row in tree {
        let (key, value) = row.map_err(failure)?;
        put(&key, if is_late(&key, &value) { BLANK.into() } else { value })?;
    }
    for row in tree {
        let (key, value) = row.map_err(failure)?;
        if is_late(&key, &value) {
            put(&key, value)?;
        }
    }
    db.flush().map_err(failure)?;
    is_same(tree, &db)?;
    let mut tails = Vec::new();
    checkpoint::settle(&recovered.tails, recovered.number, &mut tails);
    for (key, value) in tails {
        db.insert(key, value).map_err(failure)?;
    }
    db.flush().map_err(failure)?;
    let report = verify::check_log(&db);
    match report.damage.first() {
        Some(what) => Err(damage(what)),
        None => Ok(report),
    }
}

fn is_late(key: &[u8], value: &[u8]) -> bool {
    chunk_number(key).is_some() && value.len() > SMALL
}

fn is_same(old: &Tree, new: &Db) -> Result<(), StoreError> {
    let (mut old, mut new) = (old.iter(), new.iter());
    loop {
        match (old.next().transpose().map_err(failure)?, new.next().transpose().map_err(failure)?) {
            (None, None) => return Ok(()),
            (old, new) if old == new => {}
            (..) => return Err(damage("what was written is not what was read")),
        }
    }
}

/// Makes the disk have all of a folder.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    dir::sync_dir(folder)
}

/// Puts the new log in the place of the old one, and removes all that has old bytes.
fn swap(path: &Path, water: &mut HighWater, tell: &mut impl FnMut(Stage)) -> io::Result<()> {
    let [log, whole, old] = ["log", "log.compacted", "log.replaced"].map(|name| path.join(name));
    // The length of the old one says nothing of the new one.
    let mark = water.mark();
    water.write(Mark { closed: None, ..mark }).and_then(|()| water.sync())?;
    fs::rename(&log, &old)?;
    dir::sync_dir(path)?;
    tell(Stage::Between);
    fs::rename(&whole, &log)?;
    dir::sync_dir(path)?;
    tell(Stage::Swapped);
    remove_old(path)?;
    let len = fs::metadata(log.join("db"))?.len();
    water.write(Mark { closed: Some(len), ..mark }).and_then(|()| water.sync())?;
    tell(Stage::Removed);
    Ok(())
}

/// Removes what may have bytes of before in it, but for the log itself and files.
fn remove_old(path: &Path) -> io::Result<()> {
    for name in ["log.replaced", "log.before", "log.copying", "verify", "quarantine"] {
        dir::remove(&path.join(name))?;
    }
    dir::sync_dir(path)
}
