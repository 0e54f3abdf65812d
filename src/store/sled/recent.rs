//! Rows and tails that were read of late, so that whoever asks for them again waits for no thread.
//!
//! What is here is what a read of the tree would show. Rows are kept by readers while nothing can become visible, and
//! only where no write after the one they saw has the key; what a write changed is forgotten in the moment in which
//! the write becomes visible. So with the tails of its streams; and a tail is kept only where none was paid to the tree
//! while it was read.
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
        // Nothing becomes visible while this is held, so that whatever changes the row later will forget it.
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

    /// Keeps a tail from the tree, of a stream that had no newer one in memory after so many payments, unless there
    /// is one now or may have been meanwhile.
    pub(super) fn keep_tail(&self, durable: &RwLock<Durable>, stream: &[u8], payments: u64, tail: Tail) {
        // Nothing becomes visible while this is held, so that whatever is written to the stream later will forget it.
        let durable = durable.read().unwrap_or_else(PoisonError::into_inner);
        if durable.payments == payments && durable.tails.get(stream).is_none() {
            self.tails.insert(stream.into(), tail);
        }
        drop(durable);
    }

    /// Forgets the tails of streams to which a write has added, in the moment in which it becomes visible.
    pub(super) fn forget_tails<'a>(&self, streams: impl Iterator<Item = &'a Arc<[u8]>>) {
        for stream in streams {
            self.tails.remove(&stream[..]);
        }
    }

    /// Forgets what a write changed, in the moment in which it becomes visible.
    pub(super) fn forget<'a>(&self, keys: impl Iterator<Item = &'a Vec<u8>>) {
        for key in keys {
            self.rows.remove(&key[..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::Tails;
    use super::*;
    use crate::domain::Mark;

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
        RwLock::new(Durable { at: Arc::default(), mark: Mark(0), tails: Tails::default(), payments: 0 })
    }
}
