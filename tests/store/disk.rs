//! What only a store with a disk has to keep: when things are synced, what is seen before, what happens when it fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io, thread};

use bytes::Bytes;
use chinwag::domain::Seq;
use chinwag::store::files::Depth;
use chinwag::store::sled::{Options, SledStore, verify};
use chinwag::store::{Commit, CommitError, Health, RECORD_BYTES_MAX, Store};
use futures_util::future::{join_all, poll_immediate};

use crate::support::{Gate, all, at, copy, open, options, post, posts, put, puts, room, said};

#[tokio::test]
async fn every_commit_is_synced_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = SledStore::open(dir.path(), gate.options()).unwrap();
    for seq in 0..5 {
        post(&store, &room(1), seq, &["a word"]).await.unwrap();
        assert_eq!(store.stats().syncs, seq + 1);
    }
    let _shut = gate.shut();
    let mut commit = store.commit(posts(store.epoch(), &room(1), 5, &["a word"]));
    gate.until_reached();
    assert_eq!(poll_immediate(&mut commit).await, None);
    assert_eq!(store.stats().syncs, 5);
    gate.open();
    assert_eq!(commit.await, Ok(()));
    assert_eq!(store.stats().syncs, 6);
}

#[tokio::test]
async fn nothing_is_read_before_it_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = SledStore::open(dir.path(), gate.options()).unwrap();
    let mut first = posts(store.epoch(), &room(1), 0, &["one", "two"]);
    first.puts = vec![put(&room(1), "changed", Some("old")), put(&room(1), "removed", Some("old"))];
    store.commit(first).await.unwrap();
    for key in [&b"changed"[..], b"removed"] {
        assert_eq!(store.get(&room(1), key).await.unwrap().unwrap(), "old", "it is in memory from now on");
    }

    let _shut = gate.shut();
    let mut second = posts(store.epoch(), &room(1), 2, &["three"]);
    second.erase = vec![Seq(1)];
    second.puts = vec![
        put(&room(1), "added", Some("new")),
        put(&room(1), "changed", Some("new")),
        put(&room(1), "removed", None),
    ];
    let second = store.commit(second);
    let elsewhere = store.commit(posts(store.epoch(), &room(2), 0, &["new"]));
    gate.until_reached();
    assert_eq!(seen(&store).await, [vec!["one", "two"], vec!["changed=old", "removed=old"]]);
    assert_eq!(store.head(&room(1)).await, Ok(at(store.epoch(), 2)));
    assert_eq!(store.head(&room(2)).await, Ok(None));
    assert_eq!(said(&store.read_back(&room(1), Seq(9), 9).await.unwrap().records), ["one", "two"]);
    assert_eq!(store.get(&room(1), b"added").await, Ok(None));
    assert_eq!(store.get(&room(1), b"changed").await.unwrap().unwrap(), "old");
    assert_eq!(store.get(&room(1), b"removed").await.unwrap().unwrap(), "old");
    assert_eq!(store.scan(&room(1), b"", None, 1).await.unwrap()[0].0, "changed");

    let peeked = [&b"added"[..], b"changed", b"removed"].map(|key| store.peek(&room(1), key));
    assert_eq!(peeked, [None, Some("old".into()), Some("old".into())]);
    gate.open();
    assert_eq!((second.await, elsewhere.await), (Ok(()), Ok(())));
    assert_eq!(seen(&store).await, [vec!["(erased)", "two", "three"], vec!["added=new", "changed=new"]]);
    assert_eq!(store.get(&room(1), b"removed").await, Ok(None));
    assert_eq!(store.get(&room(1), b"changed").await.unwrap().unwrap(), "new");
    let peeked = [&b"added"[..], b"changed", b"removed"].map(|key| store.peek(&room(1), key));
    assert_eq!(peeked, [Some("new".into()), Some("new".into()), None], "what has been written is in memory");
}

#[tokio::test]
async fn a_record_is_erased_by_a_commit_that_is_written_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = SledStore::open(dir.path(), gate.options()).unwrap();
    post(&store, &room(1), 0, &["one", "a secret"]).await.unwrap();
    let shut = gate.shut();
    let elsewhere = store.commit(posts(store.epoch(), &room(2), 0, &["elsewhere"]));
    gate.until_reached();
    // These two gather while the one before is being synced.
    let more = store.commit(posts(store.epoch(), &room(1), 2, &["three", "another secret", "five"]));
    let erase = vec![Seq(0), Seq(2), Seq(4), Seq(6), Seq(9)];
    let last = store.commit(Commit { erase, ..posts(store.epoch(), &room(1), 5, &["a third", "seven"]) });
    drop(shut);
    assert_eq!((elsewhere.await, more.await, last.await), (Ok(()), Ok(()), Ok(())));
    let expected = ["one", "(erased)", "three", "(erased)", "five", "(erased)", "seven"];
    assert_eq!(said(&all(&store, &room(1)).await), expected);
    drop(store);
    assert_eq!(said(&all(&open(dir.path()), &room(1)).await), expected);
}

/// Rows and heads are answered from memory where they have been read before: never older than what had been
/// acknowledged, never newer than what had been called.
#[test]
fn what_is_read_again_is_as_it_was_last_committed_while_others_write() {
    const ROUNDS: u64 = 600;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (called, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = runtime();
                loop {
                    let from = acknowledged.load(Ordering::SeqCst);
                    let row = runtime.block_on(store.get(&room(1), b"round")).unwrap();
                    let head = runtime.block_on(store.head(&room(1))).unwrap().map_or(0, |head| head.seq.0);
                    let to = called.load(Ordering::SeqCst);
                    assert!((from..=to).contains(&head), "a head of {head} between {from} and {to}");
                    let fits = |round: u64| row == row_of(round).map(Bytes::from);
                    assert!((from..=to).any(fits), "{row:?} between {from} and {to}");
                    if from == ROUNDS {
                        return;
                    }
                }
            });
        }
        let runtime = runtime();
        for round in 1..=ROUNDS {
            let mut commit = posts(store.epoch(), &room(1), round - 1, &["a word"]);
            commit.puts = vec![put(&room(1), "round", row_of(round).as_deref())];
            called.store(round, Ordering::SeqCst);
            runtime.block_on(store.commit(commit)).unwrap();
            acknowledged.store(round, Ordering::SeqCst);
        }
    });
}

/// What the row says after a round; now and then it is removed.
fn row_of(round: u64) -> Option<String> {
    (!round.is_multiple_of(5)).then(|| round.to_string())
}

#[test]
fn a_scan_sees_all_of_a_commit_or_nothing_while_others_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut scans = 0;
            while !done.load(Ordering::SeqCst) || scans == 0 {
                let rows = runtime.block_on(store.scan(&room(1), b"", None, 500)).unwrap();
                assert!(rows.windows(2).all(|rows| rows[0].1 == rows[1].1), "a scan saw half a commit");
                assert!(matches!(rows.len(), 0 | 200));
                scans += 1;
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for round in 0..200 {
            let value = (round % 3 > 0).then(|| round.to_string());
            let names: Vec<String> = (0..200).map(|name| format!("{name:03}")).collect();
            let rows: Vec<_> = names.iter().map(|name| (name.as_str(), value.as_deref())).collect();
            runtime.block_on(store.commit(puts(&room(1), None, &rows))).unwrap();
        }
        done.store(true, Ordering::SeqCst);
        reader.join().unwrap();
    });
}

#[tokio::test]
async fn a_nearly_full_disk_takes_what_frees_space() {
    let dir = tempfile::tempdir().unwrap();
    let (store, free, limit) = open_measured(dir.path());
    let mut first = posts(store.epoch(), &room(1), 0, &["one", "two", "three", "four"]);
    first.puts = vec![put(&room(1), "row", Some("value"))];
    store.commit(first).await.unwrap();

    free.store(limit - 1, Ordering::SeqCst);
    let says = |after, text| posts(store.epoch(), &room(1), after, &[text]);
    let same = |after| puts(&room(1), at(store.epoch(), after), &[]);
    let large = "x".repeat(5 * 1024);
    let refused = [
        says(4, "five"),
        Commit { erase: vec![Seq(2)], ..says(4, &large) },
        Commit { puts: vec![put(&room(1), "row", Some("another"))], ..same(4) },
        Commit { puts: vec![put(&room(1), "row", None), put(&room(1), "other", Some("value"))], ..same(4) },
        same(4),
    ];
    for commit in refused {
        assert_eq!(store.commit(commit).await, Err(CommitError::Full));
    }
    assert_eq!(store.commit(Commit { erase: vec![Seq(2)], ..says(4, "five") }).await, Ok(()));
    assert_eq!(store.commit(Commit { trim: Some(Seq(1)), ..says(5, "six") }).await, Ok(()));
    let less = [put(&room(1), "row", None), put(&room(1), "none", None), put(&room(1), "other", Some("value"))];
    assert_eq!(store.commit(Commit { puts: less.to_vec(), ..same(6) }).await, Ok(()));
    assert_eq!(said(&all(&store, &room(1)).await), ["(erased)", "three", "four", "five", "six"]);
    assert_eq!((store.get(&room(1), b"row").await, store.health()), (Ok(None), Health::Full));

    // What is left is for opening.
    free.store(limit / 2 - 1, Ordering::SeqCst);
    let trim = Commit { trim: Some(Seq(2)), ..says(6, "seven") };
    assert_eq!(store.commit(trim.clone()).await, Err(CommitError::Full));
    free.store(limit, Ordering::SeqCst);
    assert_eq!(store.commit(trim).await, Ok(()));
    assert_eq!(store.commit(says(7, "eight")).await, Ok(()));
}

#[tokio::test]
async fn what_is_trimmed_is_read_until_that_is_synced_and_gone_as_a_whole_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let gate = Gate::default();
    let store = SledStore::open(&live, gate.options()).unwrap();
    for seq in 0..50 {
        post(&store, &room(1), seq, &[&(seq + 1).to_string()]).await.unwrap();
    }
    let before: Vec<String> = (1..=50).map(|seq| seq.to_string()).collect();
    let shut = gate.shut();
    let trim = Commit { trim: Some(Seq(45)), ..posts(store.epoch(), &room(1), 50, &["51"]) };
    let trim = store.commit(trim);
    gate.until_reached();
    assert_eq!(said(&all(&store, &room(1)).await), before);
    let back = store.read_back(&room(1), Seq(40), 3).await.unwrap();
    assert_eq!((said(&back.records), back.complete), (before[36..39].to_vec(), false));
    assert_eq!(said(&store.records_at(&room(1), &[Seq(7)]).await.unwrap().records), ["7"]);
    copy(&live, &dead);
    drop(shut);
    assert_eq!(trim.await, Ok(()));
    let after: Vec<String> = (46..=51).map(|seq| seq.to_string()).collect();
    assert_eq!(said(&all(&store, &room(1)).await), after);
    let survived = said(&all(&open(&dead), &room(1)).await);
    assert!(survived == before || survived == after, "{survived:?}");
    assert!(verify(&dead, Depth::Sizes).unwrap().is_whole());
}

#[tokio::test]
async fn a_kill_between_write_and_sync_leaves_all_of_a_commit_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let gate = Gate::default();
    let store = SledStore::open(&live, gate.options()).unwrap();
    post(&store, &room(1), 0, &["one"]).await.unwrap();
    let _shut = gate.shut();
    let mut second = posts(store.epoch(), &room(1), 1, &["two", "three"]);
    second.puts.push(put(&room(1), "key", Some("value")));
    let second = store.commit(second);
    gate.until_reached();
    copy(&live, &dead);
    gate.open();
    second.await.unwrap();

    let survivor = open(&dead);
    let records = all(&survivor, &room(1)).await.len();
    let row = survivor.get(&room(1), b"key").await.unwrap().is_some();
    assert!(matches!((records, row), (1, false) | (3, true)), "{records} records, row: {row}");
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let store = open(&live);
    for seq in 0..100 {
        post(&store, &room(u128::from(seq % 7)), seq / 7, &["a word"]).await.unwrap();
    }
    copy(&live, &dead);
    let survivor = open(&dead);
    for number in 0..7 {
        assert_eq!(all(&survivor, &room(number)).await, all(&store, &room(number)).await);
    }
    assert_eq!(survivor.epoch(), store.epoch());
    assert_eq!(post(&survivor, &room(0), 15, &["a word"]).await, Ok(()));
}

#[tokio::test]
async fn commits_that_arrive_during_a_sync_share_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = SledStore::open(dir.path(), gate.options()).unwrap();
    let _shut = gate.shut();
    let first = store.commit(posts(store.epoch(), &room(0), 0, &["first"]));
    gate.until_reached();
    let rest = (1..=250).map(|number| store.commit(posts(store.epoch(), &room(number), 0, &["a word"])));
    let rest: Vec<_> = rest.collect();
    gate.open();
    assert_eq!(first.await, Ok(()));
    assert!(join_all(rest).await.iter().all(Result::is_ok));
    assert_eq!((store.stats().commits, store.stats().syncs), (251, 2));
}

#[tokio::test]
async fn callers_keep_their_places_when_the_queue_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = SledStore::open(dir.path(), gate.options()).unwrap();
    let _shut = gate.shut();
    let calls: Vec<_> =
        (0..10_000).map(|seq| store.commit(posts(store.epoch(), &room(1), seq, &[&seq.to_string()]))).collect();
    gate.until_reached();
    assert!(store.stats().waiting > 4096);
    gate.open();
    assert!(join_all(calls).await.iter().all(Result::is_ok));
    let expected: Vec<String> = (0..10_000).map(|seq| seq.to_string()).collect();
    assert_eq!(said(&all(&store, &room(1)).await), expected);
}

#[tokio::test]
async fn a_sync_that_fails_breaks_the_store_and_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let failing = Arc::new(AtomicU64::new(0));
    let mut options = options();
    let hook = failing.clone();
    options.hooks.before_sync = Some(Arc::new(move || match hook.load(Ordering::SeqCst) {
        0 => Ok(()),
        _ => Err(io::Error::other("the disk is gone")),
    }));
    let store = SledStore::open(dir.path(), options).unwrap();
    let mut health = store.watch();
    post(&store, &room(1), 0, &["one"]).await.unwrap();
    failing.store(1, Ordering::SeqCst);
    assert_eq!(post(&store, &room(1), 1, &["two"]).await, Err(CommitError::Unknown));
    failing.store(0, Ordering::SeqCst);
    let broken = health.wait_for(|health| matches!(health, Health::Broken { .. })).await.unwrap().clone();
    assert!(matches!(broken, Health::Broken { reason } if reason.contains("the disk is gone")));
    assert_eq!(post(&store, &room(2), 0, &["three"]).await, Err(CommitError::Failed));
    assert!(store.settle(&room(1)).await.is_err());
    assert_eq!(said(&all(&store, &room(1)).await), ["one"]);
    assert_eq!(store.stats().syncs, 1);
}

#[tokio::test]
async fn a_panic_of_the_committer_breaks_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options();
    options.hooks.before_sync = Some(Arc::new(|| panic!("as the test wants it")));
    let store = SledStore::open(dir.path(), options).unwrap();
    let calls = [1, 2].map(|number| store.commit(posts(store.epoch(), &room(number), 0, &["a word"])));
    for result in join_all(calls).await {
        assert!(matches!(result, Err(CommitError::Unknown | CommitError::Failed)));
    }
    let mut health = store.watch();
    health.wait_for(|health| matches!(health, Health::Broken { .. })).await.unwrap();
    assert_eq!(post(&store, &room(3), 0, &["a word"]).await, Err(CommitError::Failed));
    assert_eq!(store.head(&room(1)).await, Ok(None));
}

#[tokio::test]
async fn a_full_disk_refuses_commits_until_there_is_space_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, free, limit) = open_measured(dir.path());
    let mut health = store.watch();
    post(&store, &room(1), 0, &["one"]).await.unwrap();

    free.store(limit - 1, Ordering::SeqCst);
    assert_eq!(post(&store, &room(1), 1, &["two"]).await, Err(CommitError::Full));
    assert_eq!(store.health(), Health::Full);
    assert_eq!(said(&all(&store, &room(1)).await), ["one"]);
    assert_eq!(store.settle(&room(1)).await, Ok(at(store.epoch(), 1)));
    assert_eq!(store.stats().syncs, 1);

    free.store(limit, Ordering::SeqCst);
    // Nobody has to try a commit for that.
    health.wait_for(|health| *health == Health::Good).await.unwrap();
    assert_eq!(post(&store, &room(1), 1, &["two"]).await, Ok(()));
}

#[tokio::test]
async fn paging_through_a_long_stream_fetches_each_chunk_a_few_times_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let texts = vec!["a word"; 40];
    let mut seq = 0;
    // Two rooms in turn and a bystander: a chunk per group, and a run of each room in most of them.
    while seq < 100_000 {
        let calls = (0..12).map(|call| {
            let after = seq + call / 2 * texts.len() as u64;
            store.commit(posts(store.epoch(), &room(u128::from(call % 2)), after, &texts))
        });
        let calls: Vec<_> = calls.collect();
        assert!(join_all(calls).await.iter().all(Result::is_ok));
        seq += 6 * texts.len() as u64;
    }
    let chunks = verify_counts(&dir, store).await;
    let store = open(dir.path());
    let mut after = Seq::ZERO;
    let mut pages = 0;
    loop {
        let page = store.read(&room(0), after, 500).await.unwrap();
        after = page.records.last().unwrap().position.seq;
        pages += 1;
        if page.complete {
            break;
        }
    }
    assert!(after.0 >= 100_000);
    let reads = store.stats().chunk_reads;
    // Each page may walk over the sixteen runs of a stretch besides its own.
    assert!(reads <= chunks + pages * 17, "{reads} chunks were read for {pages} pages of {chunks} chunks");
    let back = store.stats().chunk_reads;
    assert_eq!(store.read_back(&room(0), Seq(50_000), 50).await.unwrap().records.len(), 50);
    assert!(store.stats().chunk_reads - back <= 20);
}

async fn verify_counts(dir: &tempfile::TempDir, store: SledStore) -> u64 {
    store.close().await;
    drop(store);
    let report = verify(dir.path(), Depth::Sizes).unwrap();
    assert_eq!(report.damage, [""; 0]);
    report.chunks
}

#[tokio::test]
async fn the_latest_page_of_a_busy_stream_fetches_only_its_own_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    post(&store, &room(1), 0, &["a word"; 3000]).await.unwrap();
    let before = store.stats().chunk_reads;
    assert_eq!(store.read_back(&room(1), Seq(u64::MAX), 50).await.unwrap().records.len(), 50);
    assert_eq!(store.stats().chunk_reads, before + 1);
}

#[tokio::test]
async fn quiet_streams_cost_no_memory() {
    const STREAMS: u128 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    // Two generations of tails at a kilobyte of the cache each, and what one write adds to them.
    let options = Options { cache_bytes: 4 * 1024 * 1024, ..options() };
    let store = SledStore::open(&live, options.clone()).unwrap();
    for seq in 0..2 {
        let calls = (0..STREAMS).map(|number| store.commit(posts(store.epoch(), &room(number), seq, &["a word"])));
        let calls: Vec<_> = calls.collect();
        assert!(join_all(calls).await.iter().all(Result::is_ok));
        assert!(store.stats().tails <= 2 * (4096 + 1024), "{} tails are in memory", store.stats().tails);
        for number in (0..STREAMS).step_by(777).chain((0..STREAMS).step_by(777)) {
            assert_eq!(store.head(&room(number)).await, Ok(at(store.epoch(), seq + 1)), "also when asked again");
        }
    }
    copy(&live, &dead);
    // Opened after a kill: most tails are in the tree, the latest in the chunks after the checkpoint.
    let store = SledStore::open(&dead, options).unwrap();
    assert!(store.stats().tails > 0);
    for number in (0..STREAMS).step_by(777).chain([STREAMS - 1]) {
        assert_eq!(store.head(&room(number)).await, Ok(at(store.epoch(), 2)));
        assert_eq!(said(&all(&store, &room(number)).await), ["a word", "a word"]);
    }
    assert_eq!(post(&store, &room(3), 2, &["another"]).await, Ok(()));
}

#[tokio::test]
async fn a_checkpoint_leaves_nothing_to_rebuild_after_a_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for number in 0..50 {
        post(&store, &room(number), 0, &["one"]).await.unwrap();
    }
    assert_eq!(store.stats().tails, 50);
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.stats().tails, 0);
    assert_eq!(said(&all(&store, &room(49)).await), ["one"]);
}

#[tokio::test]
async fn sled_keeps_nothing_in_files_that_it_does_not_sync() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = "x".repeat(RECORD_BYTES_MAX - 100);
    let value = "y".repeat(RECORD_BYTES_MAX);
    for seq in 0..120 {
        let mut commit = posts(store.epoch(), &room(1), seq, &[&large]);
        commit.puts.push(put(&room(1), &format!("{seq:03}"), Some(&value)));
        commit.erase = if seq > 60 { vec![Seq(seq - 60)] } else { Vec::new() };
        store.commit(commit).await.unwrap();
    }
    assert_eq!(fs::read_dir(dir.path().join("log/blobs")).unwrap().count(), 0);
}

#[tokio::test]
async fn records_that_an_erased_one_lay_before_are_found_where_they_are_now() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let store = SledStore::open(dir.path(), gate.options()).unwrap();
    let shut = gate.shut();
    let first = store.commit(posts(store.epoch(), &room(9), 0, &["alone"]));
    gate.until_reached();
    let together: Vec<_> = (1..=3).map(|n| store.commit(posts(store.epoch(), &room(n), 0, &["a secret"]))).collect();
    drop(shut);
    first.await.unwrap();
    for commit in together {
        commit.await.unwrap();
    }
    assert_eq!(store.stats().syncs, 2, "the three lie in one chunk");
    store.commit(Commit { erase: vec![Seq(1)], ..posts(store.epoch(), &room(1), 1, &["later"]) }).await.unwrap();
    post(&store, &room(2), 1, &["later"]).await.unwrap();

    let found = async |store: &SledStore| {
        for (number, expected) in [(1, &["(erased)", "later"][..]), (2, &["a secret", "later"]), (3, &["a secret"])] {
            assert_eq!(said(&all(store, &room(number)).await), expected);
        }
    };
    found(&store).await;
    drop(store);
    let report = verify(dir.path(), Depth::Sizes).unwrap();
    assert!(report.is_whole(), "{report:?}");
    let store = open(dir.path());
    found(&store).await;
    post(&store, &room(3), 1, &["later"]).await.unwrap();
    drop(store);
    assert!(verify(dir.path(), Depth::Sizes).unwrap().is_whole());
}

#[tokio::test]
async fn what_is_written_is_little_more_than_the_records() {
    const COMMITS: usize = 400;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let large = "x".repeat(RECORD_BYTES_MAX - 10_000);
    for seq in 0..COMMITS as u64 {
        post(&store, &room(1), seq, &[&large]).await.unwrap();
    }
    drop(store);
    let log = fs::read(dir.path().join("log/db")).unwrap();
    let used = log.iter().rposition(|&byte| byte != 0).unwrap();
    let written = COMMITS * large.len();
    assert!(used < written + written / 4, "{used} bytes of the log are used for {written} bytes of text");
}

#[tokio::test]
async fn rows_alone_are_synced_and_counted_by_the_high_water_mark() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(puts(&room(1), None, &[("key", Some("value"))])).await.unwrap();
    let nothing = Commit { ..puts(&room(1), None, &[]) };
    store.commit(nothing).await.unwrap();
    assert_eq!(store.stats().syncs, 2);
    assert_eq!(verify_counts(&dir, store).await, 2);
}

async fn seen(store: &SledStore) -> [Vec<String>; 2] {
    let rows = store.scan(&room(1), b"", None, 10).await.unwrap();
    let utf8 = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let rows = rows.iter().map(|(key, value)| format!("{}={}", utf8(key), utf8(value)));
    [said(&all(store, &room(1)).await), rows.collect()]
}

/// A store on a disk of which the test says how many bytes are free, looked at with every write; and how many have to be.
fn open_measured(dir: &Path) -> (SledStore, Arc<AtomicU64>, u64) {
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let mut options = Options { space_check_every: Duration::ZERO, ..options() };
    let hook = free.clone();
    options.hooks.free_bytes = Some(Arc::new(move || hook.load(Ordering::SeqCst)));
    let limit = options.free_bytes_min;
    (SledStore::open(dir, options).unwrap(), free, limit)
}
