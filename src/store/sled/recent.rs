//! Rows and tails that were read or written of late, so that whoever asks for them waits for no thread.
//!
//! What is here is what a read of the tree would show. Rows are kept by readers while nothing can become visible, and
//! only where no write after the one they saw has the key; what a write changed is taken over in the moment in which
//! the write becomes visible. Tails likewise: the one in the tree counts for as long as there is none among those that
//! are on their way there, and it is forgotten when another has arrived.
//!
//! Only what exists is kept. Whoever asks in vain asks the tree each time, so that the time an answer takes does not
//! tell what others have asked for.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::index::{Change, Durable, Tail};

/// Which part of what the operator gives to sled's cache rows may take beside it: with 64 MiB some 40,000 rows of
/// members, which is as many followers as may come back at once without waiting for the tree.
const SHARE: u64 = 8;

/// What an entry takes beside its key and value: their handles, the places of the two in the table, and what the
/// allocator adds.
const ENTRY_BYTES: usize = 128;

/// What a row with its key takes, about.
const ROW_BYTES: u64 = 208;

/// How many tails are kept of streams that nobody has written to of late. Each takes some 150 bytes.
const TAILS_MAX: usize = 16_384;

pub(super) struct Recent {
    rows: Cache<Box<[u8]>, Bytes, Weigh>,
    tails: Cache<Arc<[u8]>, Tail>,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Box<[u8]>, Bytes> for Weigh {
    fn weight(&self, key: &Box<[u8]>, value: &Bytes) -> u64 {
        (ENTRY_BYTES + key.len() + value.len()) as u64
    }
}

impl Recent {
    pub(super) fn new(cache_bytes: u64) -> Self {
        let bytes = cache_bytes / SHARE;
        let rows = usize::try_from(bytes / ROW_BYTES).unwrap_or(usize::MAX);
        Self { rows: Cache::with_weighter(rows, bytes, Weigh), tails: Cache::new(TAILS_MAX) }
    }

    pub(super) fn row(&self, key: &[u8]) -> Option<Bytes> {
        self.rows.get(key)
    }

    /// Keeps a row as it was at a change that was on disk, unless one after it has the key.
    pub(super) fn keep_row(&self, durable: &RwLock<Durable>, at: &Change, key: Vec<u8>, row: Bytes) {
        // Nothing becomes visible while this is held, so that whatever changes the row later will take its place.
        let durable = durable.read().unwrap_or_else(PoisonError::into_inner);
        if at.before(&key).is_none() {
            self.rows.insert(key.into_boxed_slice(), row);
        }
        drop(durable);
    }

    /// Where `stream` ends, as far as that is in memory.
    pub(super) fn tail(&self, durable: &Durable, stream: &[u8]) -> Option<Tail> {
        durable.tails.get(stream).or_else(|| self.tails.get(stream))
    }

    /// Keeps a tail as it was in the tree when so many generations of tails had begun, none of which had the stream. One
    /// that has been written since then is still among them, unless another generation has begun.
    pub(super) fn keep_tail(&self, durable: &RwLock<Durable>, turns: u64, stream: &[u8], tail: Tail) {
        let durable = durable.read().unwrap_or_else(PoisonError::into_inner);
        if durable.tails.turns() == turns && durable.tails.get(stream).is_none() {
            self.tails.insert(stream.into(), tail);
        }
        drop(durable);
    }

    /// Forgets the tail of a stream, in the moment in which a newer one in the tree is what counts.
    pub(super) fn forget_tail(&self, stream: &[u8]) {
        self.tails.remove(stream);
    }

    /// Takes over the rows that a write changed, in the moment in which it becomes visible: who has just come into a room
    /// is going to follow it.
    pub(super) fn written(&self, rows: Vec<(Vec<u8>, Option<Bytes>)>) {
        for (key, row) in rows {
            match row {
                Some(row) => self.rows.insert(key.into_boxed_slice(), row),
                None => drop(self.rows.remove(&key[..])),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Spot;
    use super::super::index::{RecentChunks, Tails};
    use super::*;
    use crate::domain::{Epoch, Mark, Position, Seq};

    const ROW: Bytes = Bytes::from_static(b"a row of about so many bytes");

    #[test]
    fn a_row_that_changed_while_it_was_read_is_not_kept() {
        let (recent, durable) = (Recent::new(8 << 20), durable());
        let at = durable.read().unwrap().at.clone();
        let mut change = Change::default();
        change.old.insert(b"changed".to_vec(), None);
        assert!(at.next.set(Arc::new(change)).is_ok());
        for key in ["changed", "another"] {
            recent.keep_row(&durable, &at, key.into(), ROW);
        }
        assert_eq!((recent.row(b"changed"), recent.row(b"another")), (None, Some(ROW)));
    }

    #[test]
    fn a_row_that_has_no_room_takes_the_one_before_it_away() {
        let recent = Recent::new(1 << 20);
        recent.written(vec![(b"key".to_vec(), Some(ROW))]);
        assert_eq!(recent.row(b"key"), Some(ROW));
        recent.written(vec![(b"key".to_vec(), Some(vec![0; 1 << 20].into()))]);
        assert_eq!(recent.row(b"key"), None);
    }

    #[test]
    fn a_tail_whose_stream_was_written_while_it_was_read_is_not_kept() {
        let (recent, durable) = (Recent::new(8 << 20), durable());
        let tail = |seq| Tail::after(None, Position { epoch: Epoch(1), seq: Seq(seq) }, Spot::new(seq, 16), 100).0;
        let known = |stream: &[u8]| recent.tail(&durable.read().unwrap(), stream);
        durable.write().unwrap().tails.insert(b"written"[..].into(), tail(2));
        recent.keep_tail(&durable, 0, b"written", tail(1));
        recent.keep_tail(&durable, 0, b"quiet", tail(1));
        assert_eq!((known(b"written"), known(b"quiet")), (Some(tail(2)), Some(tail(1))));
        // It goes to the tree, where the tail that was read is not any more.
        durable.write().unwrap().tails.turn();
        durable.write().unwrap().tails.paid(b"written");
        recent.keep_tail(&durable, 0, b"written", tail(1));
        assert_eq!((known(b"written"), known(b"quiet")), (None, Some(tail(1))));
    }

    #[test]
    fn rows_take_no_more_than_their_share() {
        let (recent, durable) = (Recent::new(8 << 20), durable());
        let at = durable.read().unwrap().at.clone();
        for number in 0..100_000_u32 {
            recent.keep_row(&durable, &at, number.to_be_bytes().repeat(10), ROW);
        }
        assert!(recent.rows.weight() <= 1 << 20, "{} bytes", recent.rows.weight());
        assert_eq!(recent.row(&99_999_u32.to_be_bytes().repeat(10)), Some(ROW));
    }

    fn durable() -> RwLock<Durable> {
        let chunks = RecentChunks::new(8 << 20, 1);
        RwLock::new(Durable { at: Arc::default(), mark: Mark(0), tails: Tails::default(), chunks })
    }
}
