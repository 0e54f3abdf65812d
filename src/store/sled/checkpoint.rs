//! How the tails get into the tree: a generation at a time, bit by bit beside the commits, so that none waits for many.
//!
//! While a generation gathers, the one before is written, at the pace at which the new one fills. When that is full and
//! the last of the old one is written, a checkpoint says so: opening reads the chunks behind it, and these are of two
//! generations at most.

use std::sync::Arc;

use ::sled::IVec;

use super::index::{CHECKPOINT, Tail, Tails, seal, tail_key};

/// A generation's chunks, in number and in bytes: what opening has to read, some tenths of a second for two of them.
const CHUNKS_MAX: usize = 16 * 1024;
const BYTES_MAX: usize = 32 * 1024 * 1024;

/// What sled's cache may take for each stream of a generation: a tail takes less than a tenth of that.
const CACHE_BYTES_PER_STREAM: u64 = 1024;

pub(super) struct Checkpoint {
    streams_max: usize,
    /// The number of the last chunk before the generation.
    begun: u64,
    chunks: usize,
    bytes: usize,
    /// The generation's streams, in the order they came.
    streams: Vec<Arc<[u8]>>,
    /// What is owed of the generation before; the last comes first.
    owed: Vec<Arc<[u8]>>,
    owed_at_first: usize,
}

/// What a write pays.
pub(super) struct Payment {
    tails: usize,
    turns: bool,
}

impl Checkpoint {
    /// After opening: `tails` have changed in the `chunks` after `begun`.
    pub(super) fn new(cache_bytes: u64, begun: u64, chunks: usize, bytes: usize, tails: &Tails) -> Self {
        let streams_max = usize::try_from(cache_bytes / CACHE_BYTES_PER_STREAM).unwrap_or(usize::MAX).max(1);
        let streams = tails.iter().map(|(stream, _)| stream.clone()).collect();
        Self { streams_max, begun, chunks, bytes, streams, owed: Vec::new(), owed_at_first: 0 }
    }

    /// Adds to `writes` what is due: as large a part of what is owed as the generation is full.
    pub(super) fn pay(&self, tails: &Tails, writes: &mut Vec<(IVec, IVec)>) -> Payment {
        let parts = [(self.streams.len(), self.streams_max), (self.chunks, CHUNKS_MAX), (self.bytes, BYTES_MAX)];
        let turns = parts.iter().any(|(part, all)| part >= all);
        let due = parts.iter().map(|(part, all)| (self.owed_at_first * part).div_ceil(*all)).max().unwrap_or_default();
        let paid = self.owed_at_first - self.owed.len();
        let count = if turns { self.owed.len() } else { due.saturating_sub(paid).min(self.owed.len()) };
        for stream in self.next(count) {
            if let Some(tail) = tails.owed(stream) {
                put_tail(stream, tail, writes);
            }
        }
        if turns {
            put_checkpoint(self.begun, writes);
        }
        Payment { tails: count, turns }
    }

    /// The streams whose tails a payment brings to the tree.
    pub(super) fn paid_by(&self, payment: &Payment) -> &[Arc<[u8]>] {
        self.next(payment.tails)
    }

    /// Notes that a payment is on disk. `number` is the last chunk before the write that held it.
    pub(super) fn paid(&mut self, payment: &Payment, tails: &mut Tails, number: u64) {
        for stream in self.owed.drain(self.owed.len() - payment.tails..) {
            tails.paid(&stream);
        }
        if payment.turns {
            tails.turn();
            std::mem::swap(&mut self.streams, &mut self.owed);
            self.owed_at_first = self.owed.len();
            (self.begun, self.chunks, self.bytes) = (number, 0, 0);
        }
    }

    /// Notes what a write added to the log, and the tails after it.
    pub(super) fn add(&mut self, chunks: u64, bytes: usize, new: Vec<(Arc<[u8]>, Tail)>, tails: &mut Tails) {
        self.chunks = self.chunks.saturating_add(usize::try_from(chunks).unwrap_or(usize::MAX));
        self.bytes = self.bytes.saturating_add(bytes);
        for (stream, tail) in new {
            if tails.insert(stream.clone(), tail) {
                self.streams.push(stream);
            }
        }
    }

    fn next(&self, count: usize) -> &[Arc<[u8]>] {
        &self.owed[self.owed.len() - count..]
    }
}

/// Adds all that the tree does not know to `writes`: `number` is the last chunk.
pub(super) fn settle(tails: &Tails, number: u64, writes: &mut Vec<(IVec, IVec)>) {
    for (stream, tail) in tails.iter() {
        put_tail(stream, tail, writes);
    }
    put_checkpoint(number, writes);
}

fn put_tail(stream: &[u8], tail: &Tail, writes: &mut Vec<(IVec, IVec)>) {
    let key = tail_key(stream);
    let value = seal(&key, &tail.encode());
    writes.push((key.into(), value.into()));
}

fn put_checkpoint(number: u64, writes: &mut Vec<(IVec, IVec)>) {
    writes.push((CHECKPOINT.into(), seal(CHECKPOINT, &number.to_le_bytes()).into()));
}

#[cfg(test)]
mod tests {
    use super::super::chunk::Spot;
    use super::*;
    use crate::domain::{Epoch, Position, Seq};

    #[test]
    fn no_write_pays_much_more_than_it_brings_and_all_is_paid_when_a_generation_is_full() {
        const STREAMS: u64 = 1000;
        let mut tails = Tails::default();
        let mut checkpoint = Checkpoint::new(STREAMS * CACHE_BYTES_PER_STREAM, 0, 0, 0, &tails);
        let (mut number, mut turns) = (0, Vec::new());
        for stream in 0..10 * STREAMS {
            let payment = checkpoint.pay(&tails, &mut Vec::new());
            assert!(payment.tails <= 2, "{} tails at stream {stream}", payment.tails);
            if payment.turns {
                turns.push(stream);
                assert_eq!(checkpoint.begun, stream.saturating_sub(STREAMS));
            }
            checkpoint.paid(&payment, &mut tails, number);
            number += 1;
            checkpoint.add(1, 100, vec![(stream.to_be_bytes().into(), tail(number))], &mut tails);
            assert!(u64::try_from(tails.len()).unwrap() <= 2 * STREAMS);
        }
        assert_eq!(turns, (1..10).map(|generation| generation * STREAMS).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_owed_is_what_was_on_disk_when_the_generation_ended() {
        let stream: Arc<[u8]> = b"stream"[..].into();
        let mut tails = Tails::default();
        let mut checkpoint = Checkpoint::new(CACHE_BYTES_PER_STREAM, 0, 0, 0, &tails);
        checkpoint.add(1, 100, vec![(stream.clone(), tail(1))], &mut tails);
        let payment = checkpoint.pay(&tails, &mut Vec::new());
        assert!(payment.turns);
        checkpoint.paid(&payment, &mut tails, 1);
        checkpoint.add(1, 100, vec![(stream.clone(), tail(2))], &mut tails);
        assert_eq!((tails.get(&stream), tails.owed(&stream)), (Some(tail(2)), Some(&tail(1))));
        assert_eq!((tails.len(), tails.iter().collect::<Vec<_>>()), (2, vec![(&stream, &tail(2))]));
    }

    fn tail(number: u64) -> Tail {
        Tail::after(None, Position { epoch: Epoch(1), seq: Seq(number) }, Spot::new(number, 16), 100).0
    }
}
