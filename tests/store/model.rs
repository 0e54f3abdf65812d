//! Random commits against a plain model.

use std::collections::BTreeMap;

use chinwag::domain::{Event, Mark, Record, RoomEvent, Seq, StreamId};
use chinwag::store::files::Depth;
use chinwag::store::memory::MemoryStore;
use chinwag::store::sled::verify;
use chinwag::store::{Commit, CommitError, Put, Store};
use proptest::prelude::*;

use crate::support::{all, open, put, records, room};

const STREAMS: u128 = 3;

#[derive(Clone, Debug)]
enum Step {
    Commit {
        stream: u128,
        texts: Vec<usize>,
        rows: Vec<(u8, Option<u8>)>,
        erase: Vec<u64>,
        trim: Option<u64>,
    },
    /// A commit that follows another head than the stream's.
    Conflict {
        stream: u128,
    },
    Read {
        stream: u128,
        after: u64,
        limit: usize,
    },
    ReadAt {
        stream: u128,
        seqs: Vec<u64>,
    },
    ReadBack {
        stream: u128,
        before: u64,
        limit: usize,
    },
    Scan {
        stream: u128,
        after: Option<u8>,
        limit: usize,
    },
    /// Where all streams stood at one of the marks so far.
    At {
        mark: prop::sample::Index,
    },
    Reopen,
}

#[derive(Default)]
struct Model {
    /// How long each stream was at each mark.
    marks: Vec<(Mark, BTreeMap<u128, u64>)>,
    streams: BTreeMap<u128, Vec<Record>>,
    /// Up to where they have been trimmed.
    trimmed: BTreeMap<u128, u64>,
    rows: BTreeMap<(u128, String), String>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_sled_store_agrees_with_a_plain_model(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        run(&steps, || Box::new(open(dir.path())));
        let report = verify(dir.path(), Depth::Sizes).unwrap();
        assert!(report.is_whole(), "{report:?}");
    }

    #[test]
    fn the_memory_store_agrees_with_a_plain_model(steps in prop::collection::vec(step(), 1..60)) {
        let store = MemoryStore::new();
        run(&steps, || Box::new(store.in_epoch(MemoryStore::EPOCH)));
    }
}

fn run(steps: &[Step], open: impl Fn() -> Box<dyn Store>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut store = open();
        let mut model = Model::default();
        for step in steps {
            if let Step::Reopen = step {
                store.close().await;
                drop(store);
                store = open();
            } else {
                model.check(&*store, step).await;
            }
        }
        for stream in 0..STREAMS {
            assert_eq!(all(&*store, &room(stream)).await, model.records(stream));
        }
    });
}

impl Model {
    fn records(&self, stream: u128) -> &[Record] {
        self.streams.get(&stream).map_or(&[], Vec::as_slice)
    }

    fn head(&self, stream: u128) -> u64 {
        self.records(stream).last().map_or(0, |record| record.position.seq.0)
    }

    fn trimmed(&self, stream: u128) -> u64 {
        self.trimmed.get(&stream).copied().unwrap_or(0)
    }

    async fn check(&mut self, store: &dyn Store, step: &Step) {
        match step {
            Step::Commit { stream, texts, rows, erase, trim } => {
                let commit = self.commit(store, *stream, texts, rows, erase, *trim);
                assert_eq!(store.commit(commit).await, Ok(()));
                let head = self.records(*stream).last().map(|record| record.position);
                assert_eq!(store.head(&room(*stream)).await, Ok(head));
                let lengths = self.streams.keys().map(|stream| (*stream, self.head(*stream))).collect();
                self.marks.push((store.mark(), lengths));
            }
            Step::Conflict { stream } => {
                let head = self.head(*stream);
                let commit = crate::support::posts(store.epoch(), &room(*stream), head + 1, &["no"]);
                assert_eq!(store.commit(commit).await, Err(CommitError::Conflict));
            }
            Step::Read { stream, after, limit } => {
                let page = store.read(&room(*stream), Seq(*after), *limit).await.unwrap();
                let records = self.records(*stream).iter().filter(|record| record.position.seq.0 > *after);
                let expected: Vec<Record> = records.take(*limit).cloned().collect();
                assert_eq!(page.records, expected);
            }
            Step::ReadBack { stream, before, limit } => {
                let page = store.read_back(&room(*stream), Seq(*before), *limit).await.unwrap();
                let records = self.records(*stream);
                let end = records.partition_point(|record| record.position.seq.0 < *before);
                assert_eq!(page.records, records[end.saturating_sub(*limit)..end]);
                if *limit > 0 {
                    assert_eq!(page.complete, end <= *limit);
                }
            }
            Step::ReadAt { stream, seqs } => {
                let seqs: Vec<Seq> = seqs.iter().copied().map(Seq).collect();
                let page = store.records_at(&room(*stream), &seqs).await.unwrap();
                let at = |seq: &Seq| self.records(*stream).iter().find(|record| record.position.seq == *seq).cloned();
                assert_eq!(page.records, seqs.iter().filter_map(at).collect::<Vec<_>>());
            }
            Step::Scan { stream, after, limit } => {
                let after = after.map(key);
                let after_bytes = after.as_deref().map(str::as_bytes);
                let rows = store.scan(&room(*stream), b"k", after_bytes, *limit).await.unwrap();
                let wanted = self
                    .rows
                    .iter()
                    .filter(|((owner, key), _)| owner == stream && after.as_ref().is_none_or(|after| key > after));
                let expected: Vec<_> =
                    wanted.take(*limit).map(|((_, key), value)| (key.clone(), value.clone())).collect();
                let found: Vec<_> = rows.iter().map(|(key, value)| (utf8(key), utf8(value))).collect();
                assert_eq!(found, expected);
            }
            Step::At { mark } if !self.marks.is_empty() => {
                let (mark, lengths) = &self.marks[mark.index(self.marks.len())];
                let at = store.positions_at((0..STREAMS).map(room).collect(), *mark).await.unwrap();
                for (stream, at) in (0..STREAMS).zip(at) {
                    let stood = lengths.get(&stream).copied().unwrap_or(0);
                    let stood = if stood < self.trimmed(stream) { 0 } else { stood };
                    assert_eq!(at.seq.0, stood, "{stream} at {mark:?}");
                    assert_eq!(at.head, self.records(stream).last().map(|record| record.position));
                }
            }
            Step::At { .. } | Step::Reopen => {}
        }
    }

    fn commit(
        &mut self,
        store: &dyn Store,
        stream: u128,
        texts: &[usize],
        rows: &[(u8, Option<u8>)],
        erase: &[u64],
        trim: Option<u64>,
    ) -> Commit {
        let id: StreamId = room(stream);
        let head = self.head(stream);
        let known = self.streams.entry(stream).or_default();
        let expected = known.last().map(|record| record.position);
        let texts: Vec<String> = texts.iter().map(|len| "x".repeat(*len)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let new = records(store.epoch(), head, &texts);
        known.extend(new.iter().cloned());
        for seq in erase {
            if let Some(record) = known.iter_mut().find(|record| record.position.seq.0 == *seq) {
                record.event = Event::Room(RoomEvent::MessageErased);
            }
        }
        if let Some(until) = trim {
            let until = until.min(if new.is_empty() { head.saturating_sub(1) } else { head });
            known.retain(|record| record.position.seq.0 > until);
            let trimmed = self.trimmed.entry(stream).or_default();
            *trimmed = until.max(*trimmed);
        }
        let mut puts: Vec<Put> = Vec::new();
        for (name, value) in rows {
            let value = value.map(|value| value.to_string());
            puts.push(put(&id, &key(*name), value.as_deref()));
            match value {
                Some(value) => drop(self.rows.insert((stream, key(*name)), value)),
                None => drop(self.rows.remove(&(stream, key(*name)))),
            }
        }
        Commit {
            stream: id,
            expected,
            records: new,
            puts,
            erase: erase.iter().copied().map(Seq).collect(),
            trim: trim.map(Seq),
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    let texts = prop::collection::vec(prop_oneof![8 => 0..200_usize, 1 => 20_000..60_000_usize], 0..20);
    let rows = prop::collection::vec((0..20_u8, prop::option::weighted(0.7, any::<u8>())), 0..6);
    let erase = prop::collection::vec(0..60_u64, 0..3);
    let trim = prop::option::weighted(0.3, 0..60_u64);
    prop_oneof![
        6 => (stream.clone(), texts, rows, erase, trim)
            .prop_map(|(stream, texts, rows, erase, trim)| Step::Commit { stream, texts, rows, erase, trim }),
        1 => stream.clone().prop_map(|stream| Step::Conflict { stream }),
        // Two records of the largest size never fill a page.
        2 => (stream.clone(), 0..80_u64, 0..3_usize)
            .prop_map(|(stream, after, limit)| Step::Read { stream, after, limit }),
        2 => (stream.clone(), 0..80_u64, 0..3_usize)
            .prop_map(|(stream, before, limit)| Step::ReadBack { stream, before, limit }),
        2 => (stream.clone(), prop::collection::vec(0..80_u64, 0..3))
            .prop_map(|(stream, seqs)| Step::ReadAt { stream, seqs }),
        2 => (stream, prop::option::of(0..20_u8), 0..30_usize)
            .prop_map(|(stream, after, limit)| Step::Scan { stream, after, limit }),
        2 => any::<prop::sample::Index>().prop_map(|mark| Step::At { mark }),
        1 => Just(Step::Reopen),
    ]
}

fn key(name: u8) -> String {
    format!("k{name:03}")
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
