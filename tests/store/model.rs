//! Random commits against a plain model.

use std::collections::BTreeMap;

use chinwag::domain::{Event, Mark, Record, RoomEvent, Seq, StreamId};
use chinwag::store::memory::MemoryStore;
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
    rows: BTreeMap<(u128, String), String>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_sled_store_agrees_with_a_plain_model(steps in prop::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        run(&steps, || Box::new(open(dir.path())));
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

    async fn check(&mut self, store: &dyn Store, step: &Step) {
        match step {
            Step::Commit { stream, texts, rows, erase } => {
                let commit = self.commit(store, *stream, texts, rows, erase);
                assert_eq!(store.commit(commit).await, Ok(()));
                let head = self.records(*stream).last().map(|record| record.position);
                assert_eq!(store.head(&room(*stream)).await, Ok(head));
                let lengths = self.streams.iter().map(|(stream, records)| (*stream, records.len() as u64)).collect();
                self.marks.push((store.mark(), lengths));
            }
            Step::Conflict { stream } => {
                let head = self.records(*stream).len() as u64;
                let commit = crate::support::posts(store.epoch(), &room(*stream), head + 1, &["no"]);
                assert_eq!(store.commit(commit).await, Err(CommitError::Conflict));
            }
            Step::Read { stream, after, limit } => {
                let page = store.read(&room(*stream), Seq(*after), *limit).await.unwrap();
                let records = self.records(*stream).iter().skip(usize::try_from(*after).unwrap());
                let expected: Vec<Record> = records.take(*limit).cloned().collect();
                assert_eq!(page.records, expected);
            }
            Step::ReadBack { stream, before, limit } => {
                let page = store.read_back(&room(*stream), Seq(*before), *limit).await.unwrap();
                let records = self.records(*stream);
                let end = usize::try_from(before.saturating_sub(1)).unwrap().min(records.len());
                assert_eq!(page.records, records[end.saturating_sub(*limit)..end]);
                assert_eq!(page.complete, end <= *limit && !(end > 0 && *limit == 0));
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
                    assert_eq!(at.seq.0, lengths.get(&stream).copied().unwrap_or(0), "{stream} at {mark:?}");
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
    ) -> Commit {
        let id: StreamId = room(stream);
        let known = self.streams.entry(stream).or_default();
        let expected = known.last().map(|record| record.position);
        let texts: Vec<String> = texts.iter().map(|len| "x".repeat(*len)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let new = records(store.epoch(), known.len() as u64, &texts);
        known.extend(new.iter().cloned());
        for seq in erase {
            let at = usize::try_from(*seq).unwrap().checked_sub(1);
            if let Some(record) = at.and_then(|at| known.get_mut(at)) {
                record.event = Event::Room(RoomEvent::MessageErased);
            }
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
        Commit { stream: id, expected, records: new, puts, erase: erase.iter().copied().map(Seq).collect() }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    let texts = prop::collection::vec(prop_oneof![8 => 0..200_usize, 1 => 20_000..60_000_usize], 0..20);
    let rows = prop::collection::vec((0..20_u8, prop::option::weighted(0.7, any::<u8>())), 0..6);
    let erase = prop::collection::vec(0..60_u64, 0..3);
    prop_oneof![
        6 => (stream.clone(), texts, rows, erase)
            .prop_map(|(stream, texts, rows, erase)| Step::Commit { stream, texts, rows, erase }),
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
