//! Checking a whole directory: every chunk, record, tail, place and row.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ::sled::Tree;

use super::super::StoreError;
use super::super::codec::{self, damage, split_stream};
use super::super::files::{Check, Depth};
use super::chunk::{Run, Runs, Spot};
use super::dir::{self, Lock, State};
use super::highwater::HighWater;
use super::index::{BLANK, Tail, chunk_key, chunk_number, tail_key, unseal};
use super::open::{self, Recovered};
use super::read::{Stretch, failure, is_place, is_row, stretch_before};
use super::{OpenError, Options};
use crate::domain::{Position, StreamId};

/// Where a stream ends, as far as its chunks have been read: its latest run.
type Ends = HashMap<Arc<[u8]>, End>;

/// The last run of a stream, without the chunk that holds it.
struct End {
    last: Position,
    spot: Spot,
    moved: bool,
}

impl End {
    fn of(run: &Run) -> Self {
        Self { last: run.last(), spot: run.spot, moved: run.has_moved() }
    }

    /// Whether it was written at `spot`, as far as can be told.
    fn was_at(&self, spot: Spot) -> bool {
        self.spot == spot || self.moved && self.spot.chunk == spot.chunk
    }
}

/// What a directory holds, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub chunks: u64,
    pub records: u64,
    pub streams: u64,
    pub rows: u64,
    pub files: u64,
    /// What lies among the bytes of files and belongs to none, in words. No damage: a server throws it away.
    pub leftovers: Vec<String>,
    /// What was found, in words; empty for a directory that is whole.
    pub damage: Vec<String>,
}

impl Report {
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Why a directory could not be checked, or not be opened at all.
pub type VerifyError = OpenError;

/// A report names so many damages and stops.
const DAMAGES_MAX: usize = 100;

/// Checks everything in the directory, and changes nothing: sled writes when it opens, so it is given a copy, for
/// which there has to be room. A directory that is in use is refused.
pub fn verify(path: &Path, depth: Depth) -> Result<Report, VerifyError> {
    let io = |error| OpenError::io(path, error);
    if dir::inspect(path)? == State::New {
        return Err(OpenError::Absent { dir: path.into() });
    }
    let _lock = Lock::take(path)?;
    let copy = path.join("verify");
    dir::remove(&copy).map_err(io)?;
    let copied = dir::copy(&dir::log_of(path), &copy).map_err(io);
    let report = copied.and_then(|()| check_copy(path, &copy, depth));
    dir::remove(&copy).map_err(io)?;
    report
}

fn check_copy(path: &Path, copy: &Path, depth: Depth) -> Result<Report, OpenError> {
    let mark = HighWater::peek(&path.join("highwater")).ok().flatten();
    let (log, mut files) = (copy.to_owned(), Check::of(path, depth));
    let checked = open::apart(path, Options::default().open_time_max, move || {
        dir::remove_half_snapshots(&log).map_err(|error| OpenError::io(&log, error))?;
        let db = open::start(&log, &Options::default()).map_err(|error| OpenError::damaged(&log, error))?;
        let tree: &Tree = &db;
        let mut report = Report::default();
        match open::check(tree, false) {
            Ok(recovered) => scan(tree, &recovered, Some(&mut files), &mut report),
            Err(error) => report.damage.push(error.to_string()),
        }
        match files.finish() {
            Ok((count, leftovers)) => (report.files, report.leftovers) = (count, leftovers),
            Err(error) => report.damage.push(format!("the files can not be listed: {error}")),
        }
        Ok((report, last_chunk(tree)))
    });
    let (mut report, last) = checked?;
    match mark {
        Some(mark) if last < mark.chunk => {
            report.damage.push(format!("the log ends with write {last}, and write {} was acknowledged", mark.chunk));
        }
        Some(_) => {}
        None => report.damage.push("the file highwater can not be read".into()),
    }
    Ok(report)
}

/// Checks a log without the files that it names.
pub(super) fn check_log(tree: &Tree) -> Report {
    let mut report = Report::default();
    match open::check(tree, false) {
        Ok(recovered) => scan(tree, &recovered, None, &mut report),
        Err(error) => report.damage.push(error.to_string()),
    }
    report
}

fn last_chunk(tree: &Tree) -> u64 {
    let backwards = tree.range(chunk_key(0)..=chunk_key(u64::MAX)).rev();
    let last = backwards.filter_map(Result::ok).find(|(_, chunk)| chunk != BLANK);
    last.and_then(|(key, _)| chunk_number(&key)).unwrap_or_default()
}

fn scan(tree: &Tree, recovered: &Recovered, mut files: Option<&mut Check>, report: &mut Report) {
    let mut ends = Ends::new();
    let mut number = 0;
    for row in tree {
        if report.damage.len() >= DAMAGES_MAX {
            report.damage.push("and more".into());
            return;
        }
        let row = row.map_err(failure);
        let checked = row.and_then(|(key, value)| {
            if let Some(found) = chunk_number(&key) {
                if value == BLANK {
                    return Ok(());
                }
                number += 1;
                if found != number {
                    let missing = std::mem::replace(&mut number, found);
                    return Err(damage(format!("chunk {missing} is missing")));
                }
                report.chunks += 1;
                return check_chunk(&value, number, &mut ends, report);
            }
            report.rows += u64::from(is_row(&key));
            let row = unseal(&key, &value)?;
            if let Some(key) = of_files(&key) {
                return files.as_mut().map_or(Ok(()), |files| files.row(key, row));
            }
            if is_place(&key) { check_place(tree, &key, &value) } else { Ok(()) }
        });
        if let Err(error) = checked {
            report.damage.push(error.to_string());
            if matches!(error, StoreError::Failed(_) | StoreError::Closed) {
                return;
            }
        }
    }
    report.streams = ends.len() as u64;
    for (stream, end) in &ends {
        let key = tail_key(stream);
        let known = match recovered.tails.get(stream) {
            Some(known) => Some(known),
            None => tree.get(&key).ok().flatten().and_then(|row| Tail::decode(unseal(&key, &row).ok()?).ok()),
        };
        // What has been erased since the tail was written is no longer in the bytes that it counts.
        if !known.is_some_and(|tail| tail.head == end.last && end.was_at(tail.run)) {
            report.damage.push(format!("the tail of {} does not agree with its records", name(stream)));
        }
    }
}

fn check_chunk(chunk: &::sled::IVec, number: u64, ends: &mut Ends, report: &mut Report) -> Result<(), StoreError> {
    for run in Runs::of(chunk, number)? {
        let run = run?;
        for frame in run.frames()? {
            codec::decode(frame.position, run.bytes_of(&frame)?)?;
            report.records += 1;
        }
        // Taken note of first, so that one gap is told once.
        let before = ends.insert(run.stream().into(), End::of(&run));
        let follows = match before {
            Some(before) => run.first == before.last.seq.next() && before.was_at(run.previous),
            None => run.is_first(),
        };
        if !follows {
            return Err(damage(format!("records of {} before {} are missing", name(run.stream()), run.first)));
        }
    }
    Ok(())
}

/// Goes where a noted place says that the records before it lie.
fn check_place(tree: &Tree, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
    let Stretch { run: spot, last } = stretch_before(key, value)?;
    let stream = &key[1..key.len() - 8];
    let chunk = tree.get(chunk_key(spot.chunk)).map_err(failure)?;
    let run = chunk.and_then(|chunk| Runs::of(&chunk, spot.chunk).ok()?.at(spot, stream).ok()?);
    if run.is_some_and(|run| run.last().seq == last) {
        return Ok(());
    }
    Err(damage(format!("the place noted for {} behind {last} does not lead to its records", name(stream))))
}

/// The key of a row among the files.
fn of_files(key: &[u8]) -> Option<&[u8]> {
    match split_stream(key.get(1..).filter(|_| is_row(key))?)? {
        (StreamId::Files, key) => Some(key),
        (
            StreamId::Room(_)
            | StreamId::User(..)
            | StreamId::Directory(_)
            | StreamId::Accounts(_)
            | StreamId::Server
            | StreamId::Owed,
            _,
        ) => None,
    }
}

/// The stream whose name in the tree is `key`, for people.
fn name(key: &[u8]) -> String {
    format!("{:?}", split_stream(key).map(|(stream, _)| stream))
}

#[cfg(test)]
mod tests {
    use ::sled::Db;

    use super::super::SledStore;
    use super::super::index::{PLACES, TAILS, seal};
    use super::*;
    use crate::domain::{
        Content, Event, Num, Position, Record, RecordId, RoomEvent, Seq, StreamId, TenantId, Timestamp, UserId,
    };
    use crate::store::{Commit, Store};

    /// Where in a stored tail the place of its run is said.
    const RUN_IN_TAIL: usize = 16;

    #[tokio::test]
    async fn what_leads_to_the_wrong_place_in_the_right_chunk_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let store = SledStore::open(&path, Options { ballast_bytes: 0, ..Options::default() }).unwrap();
        // More runs than there are between two noted places.
        for seq in 1..=20 {
            store.commit(post(&store, seq)).await.unwrap();
        }
        store.close().await;
        drop(store);
        assert_eq!(verify(&path, Depth::Sizes).unwrap().damage, Vec::<String>::new());
        for (what, harm) in [("the tail of", tail as fn(&Db)), ("the place noted for", place), ("before 20", previous)]
        {
            let harmed = dir.path().join("harmed");
            dir::copy(&path, &harmed).unwrap();
            let db = open::start(&harmed.join("log"), &Options::default()).unwrap();
            harm(&db);
            db.flush().unwrap();
            drop(db);
            let damage = verify(&harmed, Depth::Sizes).unwrap().damage;
            assert!(matches!(&damage[..], [one] if one.contains(what)), "{what}: {damage:?}");
            dir::remove(&harmed).unwrap();
        }
    }

    /// Moves what a tail says by a byte, within the chunk.
    fn tail(db: &Db) {
        reseal(db, TAILS, RUN_IN_TAIL + 6);
    }

    fn place(db: &Db) {
        reseal(db, PLACES, 6);
    }

    fn reseal(db: &Db, letter: u8, at: usize) {
        let (key, value) = db.scan_prefix([letter]).next().unwrap().unwrap();
        let mut value = unseal(&key, &value).unwrap().to_vec();
        value[at] ^= 1;
        db.insert(&key, seal(&key, &value)).unwrap();
    }

    /// The same of what the last run says of the one before it.
    fn previous(db: &Db) {
        let chunks = db.range(chunk_key(0)..=chunk_key(u64::MAX)).map(Result::unwrap);
        let (key, chunk) = chunks.filter(|(_, chunk)| chunk != BLANK).last().unwrap();
        let run = Runs::of(&chunk, chunk_number(&key).unwrap()).unwrap().last().unwrap().unwrap();
        db.insert(&key, run.with_previous(Spot::new(run.previous.chunk, 17))).unwrap();
    }

    fn post(store: &SledStore, seq: u64) -> Commit {
        let position = |seq| Position { epoch: store.epoch(), seq: Seq(seq) };
        let record = Record {
            position: position(seq),
            id: RecordId::new(Timestamp(1), Seq(seq), 7),
            num: Num(seq),
            at: Timestamp(1),
            author: UserId::new("ann").unwrap(),
            client_id: None,
            event: Event::Room(RoomEvent::posted(Content::text("a word"))),
        };
        Commit {
            stream: StreamId::Directory(TenantId::default_tenant()),
            expected: (seq > 1).then(|| position(seq - 1)),
            records: vec![record],
            puts: Vec::new(),
            erase: Vec::new(),
            trim: None,
        }
    }
}
