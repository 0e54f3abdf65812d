//! Where a stream's log ends and how a place in it is found, and the view that reads have of the tree.
//!
//! The tree is sled's one tree. Its keys begin with a letter: `c` chunks by number, `t` tails and `i` places by
//! stream, `r` rows by stream and key, `m` what the log has to know of itself.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use ::sled::IVec;

use super::super::codec::damage;
use super::super::{At, StoreError};
use super::chunk::{Run, Spot};
use crate::domain::{Epoch, Mark, Position, Seq};

/// A place is noted for every so many runs of a stream, so that reading from the middle walks over few of them.
pub(super) const RUNS_PER_PLACE: u8 = 16;

/// A place is noted also after so many bytes, so that few large runs do not make long walks either.
pub(super) const BYTES_PER_PLACE: u32 = 64 * 1024;

/// The number of the last chunk that the tails in the tree know of.
pub(super) const CHECKPOINT: &[u8] = b"mcheckpoint";

/// The epoch in which records are written.
pub(super) const EPOCH: &[u8] = b"mepoch";

/// So many chunks that are still to come have their key in the tree, with a blank under it.
///
/// sled writes all values of a page again when the page is split, which each value meets twice where keys come in order:
/// three times the bytes. A chunk that takes the place of a blank goes to a page that is not going to be split any more,
/// and is written once. A page has at most seventeen keys, so twice seventeen are enough.
pub(super) const BLANKS: u64 = 34;

/// What lies under the number of a chunk that is not written yet.
pub(super) const BLANK: &[u8] = b"";

pub(super) const CHUNKS: u8 = b'c';
pub(super) const TAILS: u8 = b't';
pub(super) const PLACES: u8 = b'i';
pub(super) const ROWS: u8 = b'r';

pub(super) fn chunk_key(number: u64) -> [u8; 9] {
    let mut key = [CHUNKS; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number of a chunk by its key.
pub(super) fn chunk_number(key: &[u8]) -> Option<u64> {
    key.strip_prefix(&[CHUNKS])?.try_into().ok().map(u64::from_be_bytes)
}

pub(super) fn tail_key(stream: &[u8]) -> Vec<u8> {
    [&[TAILS], stream].concat()
}

pub(super) fn place_key(stream: &[u8], first: Seq) -> Vec<u8> {
    [&[PLACES], stream, &first.0.to_be_bytes()].concat()
}

pub(super) fn row_key(stream: &[u8], key: &[u8]) -> Vec<u8> {
    [&[ROWS], stream, key].concat()
}

/// A row's value with its checksum before it, over key and value.
pub(super) fn seal(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    [&crc.to_le_bytes(), value].concat()
}

/// The value in what [`seal`] has just made.
pub(super) fn sealed_value(sealed: &[u8]) -> &[u8] {
    sealed.get(4..).unwrap_or_default()
}

/// The value that [`seal`] wrote under `key`.
pub(super) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], StoreError> {
    let split = sealed.split_first_chunk::<4>();
    let whole =
        split.filter(|(crc, value)| u32::from_le_bytes(**crc) == crc32c::crc32c_append(crc32c::crc32c(key), value));
    whole.map(|(_, value)| value).ok_or_else(|| damage("a row does not match its checksum"))
}

/// Where a stream ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tail {
    pub(super) head: Position,
    /// Its latest run.
    pub(super) run: Spot,
    /// Runs and bytes since the last place was noted.
    runs: u8,
    bytes: u32,
}

impl Tail {
    /// The tail after a run, and whether the run's beginning is to be noted as a place.
    pub(super) fn after(before: Option<Self>, head: Position, run: Spot, bytes: u32) -> (Self, bool) {
        let Some(before) = before else { return (Self { head, run, runs: 1, bytes }, false) };
        if before.runs >= RUNS_PER_PLACE || before.bytes >= BYTES_PER_PLACE {
            return (Self { head, run, runs: 1, bytes }, true);
        }
        let bytes = before.bytes.saturating_add(bytes);
        (Self { head, run, runs: before.runs + 1, bytes }, false)
    }

    /// The tail after a run that was read back.
    pub(super) fn after_run(before: Option<Self>, run: &Run) -> Self {
        Self::after(before, run.last(), run.spot, run.bytes()).0
    }

    /// Where the stream stands and stood at `mark`, where that is the same place.
    pub(super) fn at_mark(&self, mark: Mark) -> Option<At> {
        (self.run.chunk <= mark.0).then_some(At { head: Some(self.head), seq: self.head.seq })
    }

    pub(super) fn encode(&self) -> [u8; 29] {
        let mut bytes = [0; 29];
        bytes[..8].copy_from_slice(&self.head.epoch.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.head.seq.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.run.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[28] = self.runs;
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let bytes: &[u8; 29] = bytes.try_into().map_err(|_| damage("a tail of another length"))?;
        let eight = |at: usize| bytes[at..at + 8].try_into().expect("eight bytes");
        let number = |at| u64::from_le_bytes(eight(at));
        Ok(Self {
            head: Position { epoch: Epoch(number(0)), seq: Seq(number(8)) },
            run: Spot::from_le_bytes(eight(16)),
            bytes: u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes")),
            runs: bytes[28],
        })
    }
}

/// The tails that are not in the tree as they are: those of late, in two generations.
///
/// A tail that changes is *young*. When enough has gathered, a new generation begins, and the ones before are *owed* to
/// the tree: they are written to it bit by bit, beside the commits, so that no commit waits for all of them. Once the
/// last is on disk, opening need not read what lies before the generation began.
#[derive(Default, Debug)]
pub(super) struct Tails {
    young: HashMap<Arc<[u8]>, Tail>,
    owed: HashMap<Arc<[u8]>, Tail>,
    turns: u64,
}

impl Tails {
    pub(super) fn get(&self, stream: &[u8]) -> Option<Tail> {
        self.young.get(stream).or_else(|| self.owed.get(stream)).copied()
    }

    /// Notes a tail, and tells whether it is the stream's first of this generation.
    pub(super) fn insert(&mut self, stream: Arc<[u8]>, tail: Tail) -> bool {
        self.young.insert(stream, tail).is_none()
    }

    /// What is owed for `stream`.
    pub(super) fn owed(&self, stream: &[u8]) -> Option<&Tail> {
        self.owed.get(stream)
    }

    /// Notes that what was owed for `stream` is on disk.
    pub(super) fn paid(&mut self, stream: &[u8]) {
        self.owed.remove(stream);
    }

    /// Begins a generation; nothing may be owed any more.
    pub(super) fn turn(&mut self) {
        std::mem::swap(&mut self.young, &mut self.owed);
        self.turns += 1;
    }

    /// How many generations have begun. What is not here stays as it is in the tree until another has.
    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    pub(super) fn len(&self) -> usize {
        self.young.len() + self.owed.len()
    }

    /// Every stream's latest.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Tail)> {
        let owed = self.owed.iter().filter(|(stream, _)| !self.young.contains_key(*stream));
        self.young.iter().chain(owed)
    }
}

/// The chunks of late: what is read most is what was written last, and each costs a walk through the tree otherwise.
pub(super) struct RecentChunks {
    first: u64,
    chunks: VecDeque<IVec>,
    bytes: usize,
    bytes_max: usize,
}

impl RecentChunks {
    /// Takes a quarter of what sled may keep in memory, and shares its values while sled keeps them, too.
    pub(super) fn new(cache_bytes: u64, next: u64) -> Self {
        let bytes_max = usize::try_from(cache_bytes / 4).unwrap_or(usize::MAX);
        Self { first: next, chunks: VecDeque::new(), bytes: 0, bytes_max }
    }

    pub(super) fn get(&self, number: u64) -> Option<IVec> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.chunks.get(at).cloned()
    }

    /// Adds the chunks that come next.
    pub(super) fn extend(&mut self, chunks: Vec<IVec>) {
        for chunk in chunks {
            self.bytes += chunk.len();
            self.chunks.push_back(chunk);
        }
        while self.bytes > self.bytes_max {
            let Some(chunk) = self.chunks.pop_front() else { return };
            self.bytes -= chunk.len();
            self.first += 1;
        }
    }

    /// Takes note that a chunk has lost content.
    pub(super) fn replace(&mut self, number: u64, new: IVec) {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(chunk) = at.and_then(|at| self.chunks.get_mut(at)) {
            self.bytes -= chunk.len();
            self.bytes += new.len();
            *chunk = new;
        }
    }
}

/// What is on disk, as reads see it.
pub(super) struct Durable {
    pub(super) at: Arc<Change>,
    /// The number of the last chunk.
    pub(super) mark: Mark,
    pub(super) tails: Tails,
    pub(super) chunks: RecentChunks,
}

/// What one write changed, for readers that began before it was on disk.
///
/// sled shows a batch before it is synced. So every write first links its change behind the one before, with the old
/// value of each key it is going to replace. A reader holds on to the last change that was on disk when it began,
/// reads the tree, and then looks for what it read in the changes after: the first that has the key has its value as
/// it was. Changes that no reader can ask for any more are freed with the last reader that could.
#[derive(Default)]
pub(super) struct Change {
    /// `None` where there was no value.
    pub(super) old: BTreeMap<Vec<u8>, Option<IVec>>,
    pub(super) next: OnceLock<Arc<Change>>,
}

impl Change {
    pub(super) fn later(&self) -> impl Iterator<Item = &Change> {
        std::iter::successors(self.next.get(), |change| change.next.get()).map(|change| &**change)
    }

    /// The value that `key` had at this change, where one after it replaced it.
    pub(super) fn before(&self, key: &[u8]) -> Option<Option<IVec>> {
        self.later().find_map(|change| change.old.get(key).cloned())
    }
}

impl Drop for Change {
    /// Frees a long chain without recursion, which would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut change) = next.and_then(Arc::into_inner) {
            next = change.next.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunks_of_late_stay_within_their_bytes_and_lose_what_is_erased() {
        let chunk = |byte: u8, len: usize| IVec::from(vec![byte; len]);
        let mut recent = RecentChunks::new(4 * 1000, 7);
        recent.extend((7..27).map(|byte| chunk(byte, 100)).collect());
        assert_eq!(
            (recent.get(16), recent.get(17), recent.get(26)),
            (None, Some(chunk(17, 100)), Some(chunk(26, 100)))
        );
        assert_eq!(recent.get(27), None);
        recent.replace(20, chunk(0, 50));
        recent.replace(3, chunk(0, 50));
        assert_eq!((recent.get(20), recent.bytes), (Some(chunk(0, 50)), 950));
        recent.extend(vec![chunk(1, 5000)]);
        assert_eq!((recent.get(26), recent.get(27), recent.bytes), (None, None, 0));
        recent.extend(vec![chunk(2, 100)]);
        assert_eq!(recent.get(28), Some(chunk(2, 100)));
    }
}
