//! Checking a whole directory: every chunk, record, tail, place and row.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use ::sled::Tree;

use super::super::StoreError;
use super::super::codec::{self, damage, split_stream};
use super::chunk::Runs;
use super::dir::{self, Lock, State};
use super::highwater::HighWater;
use super::index::{BLANK, Tail, chunk_key, chunk_number, tail_key, unseal};
use super::open::{self, Recovered};
use super::read::{failure, is_place, is_row};
use super::{OpenError, Options};
use crate::domain::Seq;

/// What a directory holds, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    pub chunks: u64,
    pub records: u64,
    pub streams: u64,
    pub rows: u64,
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
pub fn verify(path: &Path) -> Result<Report, VerifyError> {
    let io = |error| OpenError::io(path, error);
    if dir::inspect(path)? == State::New {
        return Err(OpenError::Absent { dir: path.into() });
    }
    let _lock = Lock::take(path)?;
    let copy = path.join("verify");
    dir::remove(&copy).map_err(io)?;
    let copied = dir::copy(&path.join("log"), &copy).map_err(io);
    let report = copied.and_then(|()| check_copy(path, &copy));
    dir::remove(&copy).map_err(io)?;
    report
}

fn check_copy(path: &Path, copy: &Path) -> Result<Report, OpenError> {
    let mark = HighWater::peek(&path.join("highwater")).ok().flatten();
    let log = copy.to_owned();
    let checked = open::apart(path, Options::default().open_time_max, move || {
        dir::remove_half_snapshots(&log).map_err(|error| OpenError::io(&log, error))?;
        let db = open::start(&log, &Options::default()).map_err(|error| OpenError::damaged(&log, error))?;
        let tree: &Tree = &db;
        let mut report = Report::default();
        match open::check(tree, false) {
            Ok(recovered) => scan(tree, &recovered, &mut report),
            Err(error) => report.damage.push(error.to_string()),
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

fn last_chunk(tree: &Tree) -> u64 {
    let backwards = tree.range(chunk_key(0)..=chunk_key(u64::MAX)).rev();
    let last = backwards.filter_map(Result::ok).find(|(_, chunk)| chunk != BLANK);
    last.and_then(|(key, _)| chunk_number(&key)).unwrap_or_default()
}

fn scan(tree: &Tree, recovered: &Recovered, report: &mut Report) {
    let mut tails: HashMap<Arc<[u8]>, Tail> = HashMap::new();
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
                return check_chunk(&value, number, &mut tails, report);
            }
            report.rows += u64::from(is_row(&key));
            let value = unseal(&key, &value)?;
            if is_place(&key) && value.len() != 8 {
                return Err(damage("a noted place has another length"));
            }
            Ok(())
        });
        if let Err(error) = checked {
            report.damage.push(error.to_string());
            if matches!(error, StoreError::Failed(_) | StoreError::Closed) {
                return;
            }
        }
    }
    report.streams = tails.len() as u64;
    for (stream, tail) in &tails {
        let key = tail_key(stream);
        let known = match recovered.tails.get(stream) {
            Some(known) => Some(known),
            None => tree.get(&key).ok().flatten().and_then(|row| Tail::decode(unseal(&key, &row).ok()?).ok()),
        };
        // What has been erased since the tail was written is no longer in the bytes that it counts.
        let end = |tail: Tail| (tail.head, tail.run.chunk);
        if known.map(end) != Some(end(*tail)) {
            let stream = split_stream(stream).map(|(stream, _)| stream);
            report.damage.push(format!("the tail of {stream:?} does not agree with its records"));
        }
    }
}

fn check_chunk(
    chunk: &::sled::IVec,
    number: u64,
    tails: &mut HashMap<Arc<[u8]>, Tail>,
    report: &mut Report,
) -> Result<(), StoreError> {
    for run in Runs::of(chunk, number)? {
        let run = run?;
        for frame in run.frames()? {
            codec::decode(frame.position, run.bytes_of(&frame)?)?;
            report.records += 1;
        }
        let before = tails.get(run.stream()).copied();
        let (head, last) = before.map_or((Seq::ZERO, 0), |tail| (tail.head.seq, tail.run.chunk));
        // Taken note of first, so that one gap is told once.
        tails.insert(run.stream().into(), Tail::after_run(before, &run));
        if run.first != head.next() || run.previous.chunk != last {
            let stream = split_stream(run.stream()).map(|(stream, _)| stream);
            return Err(damage(format!("records of {stream:?} before {} are missing", run.first)));
        }
    }
    Ok(())
}
