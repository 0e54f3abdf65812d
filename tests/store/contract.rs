//! The contract, run against every store.

use chinwag::domain::{Epoch, Event, Mark, Position, RoomEvent, RoomKey, Seq};
use chinwag::store::memory::MemoryStore;
use chinwag::store::{At, Commit, CommitError, Health, PAGE_BYTES, Page, RECORD_BYTES_MAX, Store, StoreError};

use crate::support::{all, at, open, post, posts, put, puts, records, room, said, user};

/// Runs each of the named promises against each store.
macro_rules! contract {
    ($($promise:ident)*) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::MemoryStore::new()).await;
            })*
        }

        mod sled {
            $(#[tokio::test]
            async fn $promise() {
                let dir = tempfile::tempdir().unwrap();
                super::$promise(&super::open(dir.path())).await;
            })*
        }
    };
}

contract! {
    an_empty_stream_has_no_head_and_no_records
    what_was_committed_is_read_back_as_it_was
    a_stream_is_paged_forwards
    a_stream_is_paged_backwards
    a_page_ends_with_the_record_that_fills_it
    records_are_read_by_their_seqs_in_the_order_asked
    records_by_their_seqs_end_with_the_one_that_fills_the_page
    streams_do_not_mix
    a_commit_that_does_not_follow_the_head_is_a_conflict
    a_conflict_writes_nothing
    records_of_another_epoch_or_place_are_a_conflict
    a_record_that_is_too_large_is_refused_and_nothing_with_it_is_written
    commits_called_together_are_carried_out_in_order
    settling_waits_for_every_commit_before_it
    rows_and_records_are_committed_together
    rows_are_found_by_prefix_in_the_order_of_their_keys
    a_removed_row_is_gone
    the_last_put_of_a_key_counts
    a_row_may_be_filed_under_another_stream
    an_erased_record_keeps_its_place
    a_record_is_erased_in_the_commit_that_appends_it
    erasing_what_has_no_content_changes_nothing
    what_is_trimmed_is_gone_and_what_is_behind_it_stays
    all_that_was_before_a_commit_may_be_trimmed_by_it
    a_stream_keeps_its_last_record
    what_is_trimmed_is_neither_trimmed_nor_erased_again
    a_trimmed_stream_goes_on_as_any_other
    a_mark_below_what_is_kept_stands_for_no_place
    rooms_are_listed_page_by_page
    a_closed_store_refuses_everything
    a_large_commit_is_read_back_whole
    a_mark_stands_for_the_places_that_all_streams_had_reached
    a_mark_in_the_middle_of_a_long_stream_is_found
}

async fn an_empty_stream_has_no_head_and_no_records(store: &dyn Store) {
    assert_eq!(store.head(&room(1)).await, Ok(None));
    assert_eq!(store.settle(&room(1)).await, Ok(None));
    let empty = Page { records: Vec::new(), complete: true };
    assert_eq!(store.read(&room(1), Seq::ZERO, 10).await, Ok(empty.clone()));
    assert_eq!(store.read_back(&room(1), Seq(u64::MAX), 10).await, Ok(empty));
    assert_eq!(store.get(&room(1), b"key").await, Ok(None));
    assert_eq!(store.scan(&room(1), b"", None, 10).await, Ok(Vec::new()));
    assert_eq!(store.health(), Health::Good);
}

async fn what_was_committed_is_read_back_as_it_was(store: &dyn Store) {
    let written = records(store.epoch(), 0, &["one", "two", "three"]);
    let commit = Commit { records: written.clone(), ..posts(store.epoch(), &room(1), 0, &[]) };
    assert_eq!(store.commit(commit).await, Ok(()));
    assert_eq!(store.head(&room(1)).await, Ok(at(store.epoch(), 3)));
    let page = store.read(&room(1), Seq::ZERO, 10).await.unwrap();
    assert_eq!(page, Page { records: written, complete: true });
}

async fn a_stream_is_paged_forwards(store: &dyn Store) {
    for seq in 0..100 {
        post(store, &room(1), seq, &[&(seq + 1).to_string()]).await.unwrap();
    }
    for after in 0..=101 {
        let page = store.read(&room(1), Seq(after), 7).await.unwrap();
        let expected: Vec<String> = (after + 1..=100).take(7).map(|seq| seq.to_string()).collect();
        assert_eq!(said(&page.records), expected);
        assert_eq!(page.complete, after + 7 >= 100, "after {after}");
    }
    let none = store.read(&room(1), Seq(3), 0).await.unwrap();
    assert_eq!(none, Page { records: Vec::new(), complete: false });
}

async fn a_stream_is_paged_backwards(store: &dyn Store) {
    for seq in 0..100 {
        post(store, &room(1), seq, &[&(seq + 1).to_string()]).await.unwrap();
    }
    for before in 0..=102 {
        let page = store.read_back(&room(1), Seq(before), 7).await.unwrap();
        let end = before.saturating_sub(1).min(100);
        let expected: Vec<String> = (end.saturating_sub(6).max(1)..=end).map(|seq| seq.to_string()).collect();
        assert_eq!(said(&page.records), expected, "before {before}");
        assert_eq!(page.complete, end <= 7, "before {before}");
    }
    let latest = store.read_back(&room(1), Seq(u64::MAX), 2).await.unwrap();
    assert_eq!(said(&latest.records), ["99", "100"]);
}

async fn a_page_ends_with_the_record_that_fills_it(store: &dyn Store) {
    let large = "x".repeat(PAGE_BYTES / 4);
    for seq in 0..10 {
        post(store, &room(1), seq, &[&large]).await.unwrap();
    }
    let page = store.read(&room(1), Seq(1), 10).await.unwrap();
    assert_eq!((page.records.len(), page.complete), (4, false));
    let page = store.read_back(&room(1), Seq(10), 10).await.unwrap();
    assert_eq!((page.records.len(), page.complete), (4, false));
    assert_eq!(page.records[0].position.seq, Seq(6));
}

async fn records_are_read_by_their_seqs_in_the_order_asked(store: &dyn Store) {
    let none = Page { records: Vec::new(), complete: true };
    assert_eq!(store.records_at(&room(1), &[Seq(1)]).await, Ok(none.clone()));
    // Some runs of one record and some of three, and more of them than there are between two noted places.
    let mut head = 0;
    for commit in 0..60 {
        let texts: Vec<String> = (head + 1..=head + 1 + commit % 2 * 2).map(|seq: u64| seq.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        post(store, &room(1), head, &texts).await.unwrap();
        post(store, &room(2), commit, &["in two"]).await.unwrap();
        head += texts.len() as u64;
    }
    for seqs in [vec![1, 2, 3, 60, 61, 119, 120], vec![120, 5, 6, 5, 1, 119], vec![0, 121, 7, u64::MAX], vec![]] {
        let asked: Vec<Seq> = seqs.iter().copied().map(Seq).collect();
        let page = store.records_at(&room(1), &asked).await.unwrap();
        let there: Vec<u64> = seqs.into_iter().filter(|seq| (1..=120).contains(seq)).collect();
        assert_eq!(said(&page.records), there.iter().map(u64::to_string).collect::<Vec<_>>());
        assert_eq!(page.records.iter().map(|record| record.position.seq.0).collect::<Vec<_>>(), there);
        assert!(page.complete);
    }
}

async fn records_by_their_seqs_end_with_the_one_that_fills_the_page(store: &dyn Store) {
    let large = "x".repeat(PAGE_BYTES / 4);
    for seq in 0..10 {
        post(store, &room(1), seq, &[&large]).await.unwrap();
    }
    for (asked, complete) in [(vec![9, 7, 5, 3, 1], false), (vec![9, 7, 5, 3, 0, 11], true)] {
        let asked: Vec<Seq> = asked.into_iter().map(Seq).collect();
        let page = store.records_at(&room(1), &asked).await.unwrap();
        assert_eq!(page.records.iter().map(|record| record.position.seq).collect::<Vec<_>>(), asked[..4]);
        assert_eq!(page.complete, complete);
    }
}

async fn streams_do_not_mix(store: &dyn Store) {
    post(store, &room(1), 0, &["in one"]).await.unwrap();
    post(store, &room(2), 0, &["in two"]).await.unwrap();
    store.commit(puts(&user("ann"), None, &[("key", Some("ann's"))])).await.unwrap();
    store.commit(puts(&user("anna"), None, &[("key", Some("anna's"))])).await.unwrap();
    assert_eq!(said(&all(store, &room(1)).await), ["in one"]);
    assert_eq!(said(&all(store, &room(2)).await), ["in two"]);
    assert_eq!(store.get(&user("ann"), b"key").await.unwrap().unwrap(), "ann's");
    let (anns, bobs) = (Some("ann's".into()), None);
    assert_eq!(store.get_all(&user("ann"), &[b"other", b"key"]).await, Ok(vec![bobs.clone(), anns.clone()]));
    assert_eq!(store.get_all(&user("bob"), &[b"key"]).await, Ok(vec![bobs]));
    assert_eq!(store.peek(&user("ann"), b"key"), anns, "it has been read");
    assert_eq!(store.scan(&user("ann"), b"", None, 10).await.unwrap().len(), 1);
}

async fn a_commit_that_does_not_follow_the_head_is_a_conflict(store: &dyn Store) {
    post(store, &room(1), 0, &["one"]).await.unwrap();
    assert_eq!(post(store, &room(1), 0, &["again"]).await, Err(CommitError::Conflict));
    assert_eq!(post(store, &room(1), 2, &["too far"]).await, Err(CommitError::Conflict));
    let rows = puts(&room(1), None, &[("key", Some("value"))]);
    assert_eq!(store.commit(rows).await, Err(CommitError::Conflict));
    assert_eq!(said(&all(store, &room(1)).await), ["one"]);
}

async fn a_conflict_writes_nothing(store: &dyn Store) {
    post(store, &room(1), 0, &["one"]).await.unwrap();
    let mut commit = posts(store.epoch(), &room(1), 0, &["again"]);
    commit.puts.push(put(&room(1), "key", Some("value")));
    commit.erase.push(Seq(1));
    assert_eq!(store.commit(commit).await, Err(CommitError::Conflict));
    assert_eq!(said(&all(store, &room(1)).await), ["one"]);
    assert_eq!(store.get(&room(1), b"key").await, Ok(None));
}

async fn records_of_another_epoch_or_place_are_a_conflict(store: &dyn Store) {
    let elsewhere = Epoch(store.epoch().0 + 1);
    assert_eq!(store.commit(posts(elsewhere, &room(1), 0, &["one"])).await, Err(CommitError::Conflict));
    let mut commit = posts(store.epoch(), &room(1), 0, &["one", "two"]);
    commit.records[1].position.seq = Seq(3);
    assert_eq!(store.commit(commit).await, Err(CommitError::Conflict));
    assert_eq!(store.head(&room(1)).await, Ok(None));
}

async fn a_record_that_is_too_large_is_refused_and_nothing_with_it_is_written(store: &dyn Store) {
    let large = "x".repeat(RECORD_BYTES_MAX);
    assert_eq!(post(store, &room(1), 0, &["small", &large]).await, Err(CommitError::TooLarge));
    assert_eq!(store.commit(puts(&room(1), None, &[("key", Some(&(large + "x")))])).await, Err(CommitError::TooLarge));
    assert_eq!(store.head(&room(1)).await, Ok(None));
    let fits = "x".repeat(RECORD_BYTES_MAX - 100);
    assert_eq!(post(store, &room(1), 0, &["small", &fits, "small"]).await, Ok(()));
    assert_eq!(said(&all(store, &room(1)).await), ["small", &fits, "small"]);
}

async fn commits_called_together_are_carried_out_in_order(store: &dyn Store) {
    let calls: Vec<_> =
        (0..500).map(|seq| store.commit(posts(store.epoch(), &room(1), seq, &[&seq.to_string()]))).collect();
    // The last one may be asked for first.
    for call in calls.into_iter().rev() {
        assert_eq!(call.await, Ok(()));
    }
    let expected: Vec<String> = (0..500).map(|seq| seq.to_string()).collect();
    assert_eq!(said(&all(store, &room(1)).await), expected);
}

async fn settling_waits_for_every_commit_before_it(store: &dyn Store) {
    // Nobody waits for these.
    for seq in 0..50 {
        drop(store.commit(posts(store.epoch(), &room(1), seq, &["a word"])));
    }
    assert_eq!(store.settle(&room(1)).await, Ok(at(store.epoch(), 50)));
    assert_eq!(store.head(&room(1)).await, Ok(at(store.epoch(), 50)));
}

async fn rows_and_records_are_committed_together(store: &dyn Store) {
    let mut commit = posts(store.epoch(), &room(1), 0, &["one"]);
    commit.puts.push(put(&room(1), "key", Some("value")));
    store.commit(commit).await.unwrap();
    assert_eq!(store.get(&room(1), b"key").await.unwrap().unwrap(), "value");
    assert_eq!(said(&all(store, &room(1)).await), ["one"]);
}

async fn rows_are_found_by_prefix_in_the_order_of_their_keys(store: &dyn Store) {
    let rows = ["a", "b1", "b2", "b3", "b30", "c"].map(|key| (key, Some(key)));
    store.commit(puts(&room(1), None, &rows)).await.unwrap();
    let keys = async |prefix: &str, after: Option<&str>, limit| {
        let after = after.map(str::as_bytes);
        let rows = store.scan(&room(1), prefix.as_bytes(), after, limit).await.unwrap();
        rows.iter().map(|(key, _)| String::from_utf8(key.to_vec()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(keys("b", None, 10).await, ["b1", "b2", "b3", "b30"]);
    assert_eq!(keys("b", None, 2).await, ["b1", "b2"]);
    assert_eq!(keys("b", Some("b2"), 10).await, ["b3", "b30"]);
    assert_eq!(keys("b", Some("b3"), 10).await, ["b30"]);
    assert_eq!(keys("b", Some("a"), 1).await, ["b1"]);
    assert_eq!(keys("b", Some("c"), 10).await, [""; 0]);
    assert_eq!(keys("", None, 10).await.len(), 6);
    assert_eq!(keys("", None, 0).await, [""; 0]);
}

async fn a_removed_row_is_gone(store: &dyn Store) {
    store.commit(puts(&room(1), None, &[("key", Some("value"))])).await.unwrap();
    store.commit(puts(&room(1), None, &[("key", None), ("other", None)])).await.unwrap();
    assert_eq!(store.get(&room(1), b"key").await, Ok(None));
    assert_eq!(store.scan(&room(1), b"", None, 10).await, Ok(Vec::new()));
}

async fn the_last_put_of_a_key_counts(store: &dyn Store) {
    store.commit(puts(&room(1), None, &[("key", Some("one")), ("key", Some("two"))])).await.unwrap();
    assert_eq!(store.get(&room(1), b"key").await.unwrap().unwrap(), "two");
    let calls = ["three", "four"].map(|value| store.commit(puts(&room(1), None, &[("key", Some(value))])));
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(store.get(&room(1), b"key").await.unwrap().unwrap(), "four");
}

async fn a_row_may_be_filed_under_another_stream(store: &dyn Store) {
    let mut commit = posts(store.epoch(), &room(1), 0, &["one"]);
    commit.puts.push(put(&user("ann"), "room-1", Some("a member")));
    store.commit(commit).await.unwrap();
    assert_eq!(store.get(&user("ann"), b"room-1").await.unwrap().unwrap(), "a member");
    assert_eq!(store.get(&room(1), b"room-1").await, Ok(None));
    assert_eq!(store.head(&user("ann")).await, Ok(None));
}

async fn an_erased_record_keeps_its_place(store: &dyn Store) {
    post(store, &room(1), 0, &["one", "two", "three"]).await.unwrap();
    post(store, &room(1), 3, &["four"]).await.unwrap();
    let before = all(store, &room(1)).await;
    let erase = Commit { erase: vec![Seq(2), Seq(4)], ..posts(store.epoch(), &room(1), 4, &["five"]) };
    store.commit(erase).await.unwrap();
    let after = all(store, &room(1)).await;
    assert_eq!(said(&after), ["one", "(erased)", "three", "(erased)", "five"]);
    let erased = Event::Room(RoomEvent::MessageErased);
    let mut expected = before[1].clone();
    expected.event = erased;
    assert_eq!(after[1], expected);
    assert_eq!(said(&store.read_back(&room(1), Seq(4), 2).await.unwrap().records), ["(erased)", "three"]);
}

async fn a_record_is_erased_in_the_commit_that_appends_it(store: &dyn Store) {
    let first = store.commit(posts(store.epoch(), &room(1), 0, &["zero"]));
    let own = Commit { erase: vec![Seq(3)], ..posts(store.epoch(), &room(1), 1, &["one", "two", "three"]) };
    let (own, next) = (store.commit(own), posts(store.epoch(), &room(1), 4, &["four"]));
    let next = store.commit(Commit { erase: vec![Seq(1), Seq(4)], ..next });
    assert_eq!((first.await, own.await, next.await), (Ok(()), Ok(()), Ok(())));
    assert_eq!(said(&all(store, &room(1)).await), ["(erased)", "one", "(erased)", "(erased)", "four"]);
}

async fn erasing_what_has_no_content_changes_nothing(store: &dyn Store) {
    post(store, &room(1), 0, &["one"]).await.unwrap();
    for _ in 0..2 {
        let erase = vec![Seq(0), Seq(1), Seq(7), Seq(u64::MAX)];
        store.commit(Commit { erase, ..posts(store.epoch(), &room(1), 1, &[]) }).await.unwrap();
        assert_eq!(said(&all(store, &room(1)).await), ["(erased)"]);
    }
}

async fn what_is_trimmed_is_gone_and_what_is_behind_it_stays(store: &dyn Store) {
    let mut head = 0;
    for commit in 0..60 {
        let texts: Vec<String> = (head + 1..=head + 1 + commit % 3).map(|seq: u64| seq.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let other = posts(store.epoch(), &room(2), commit, &["another room's"]);
        let (one, two) = tokio::join!(store.commit(posts(store.epoch(), &room(1), head, &texts)), store.commit(other));
        assert_eq!((one, two), (Ok(()), Ok(())));
        head += texts.len() as u64;
    }
    assert_eq!(head, 120);
    for (until, count) in [(1, 119), (2, 118), (3, 117), (40, 80), (41, 79), (118, 2)] {
        let commit = Commit { trim: Some(Seq(until)), ..puts(&room(1), at(store.epoch(), head), &[]) };
        assert_eq!(store.commit(commit).await, Ok(()));
        let left: Vec<String> = (until + 1..=head).map(|seq| seq.to_string()).collect();
        assert_eq!((said(&all(store, &room(1)).await), left.len()), (left.clone(), count));
        for after in [0, 1, until - 1, until, until + 1] {
            let page = store.read(&room(1), Seq(after), 2).await.unwrap();
            let next: Vec<String> = (after.max(until) + 1..=head).take(2).map(|seq| seq.to_string()).collect();
            assert_eq!((said(&page.records), page.complete), (next.clone(), until + 2 >= head), "{until}, {after}");
        }
        for (before, limit) in [(1, 5), (until, 5), (until + 1, 5), (until + 2, 5), (head + 1, 200), (head + 1, 1)] {
            let page = store.read_back(&room(1), Seq(before), limit).await.unwrap();
            let end = before - 1;
            let first = (end + 1).saturating_sub(limit as u64).max(until + 1);
            let expected: Vec<String> = (first..=end).map(|seq| seq.to_string()).collect();
            assert_eq!(said(&page.records), expected, "{until}, {before}");
            assert_eq!(page.complete, first == until + 1 || end <= until, "{until}, {before}");
        }
        let asked = [Seq(until), Seq(until + 1), Seq(1), Seq(head)];
        let page = store.records_at(&room(1), &asked).await.unwrap();
        assert_eq!(said(&page.records), [(until + 1).to_string(), head.to_string()]);
        assert!(page.complete);
        assert_eq!(all(store, &room(2)).await.len(), 60);
    }
}

async fn all_that_was_before_a_commit_may_be_trimmed_by_it(store: &dyn Store) {
    for seq in 0..40 {
        post(store, &room(1), seq, &["gone"]).await.unwrap();
    }
    let commit = Commit { trim: Some(Seq(99)), ..posts(store.epoch(), &room(1), 40, &["a", "b"]) };
    assert_eq!(store.commit(commit).await, Ok(()));
    assert_eq!(said(&all(store, &room(1)).await), ["a", "b"]);
    let back = store.read_back(&room(1), Seq(99), 9).await.unwrap();
    assert_eq!((said(&back.records), back.complete), (vec!["a".to_owned(), "b".to_owned()], true));
    assert_eq!(store.head(&room(1)).await, Ok(at(store.epoch(), 42)));
}

async fn a_stream_keeps_its_last_record(store: &dyn Store) {
    post(store, &room(1), 0, &["one", "two"]).await.unwrap();
    let commit = Commit { trim: Some(Seq(2)), ..puts(&room(1), at(store.epoch(), 2), &[]) };
    assert_eq!(store.commit(commit.clone()).await, Ok(()));
    assert_eq!(store.commit(commit).await, Ok(()));
    assert_eq!(said(&all(store, &room(1)).await), ["two"]);
    let nothing = Commit { trim: Some(Seq(2)), ..puts(&room(2), None, &[("row", Some("here"))]) };
    assert_eq!(store.commit(nothing).await, Ok(()));
    assert_eq!((store.head(&room(2)).await, all(store, &room(2)).await.len()), (Ok(None), 0));
}

async fn what_is_trimmed_is_neither_trimmed_nor_erased_again(store: &dyn Store) {
    for seq in 0..8 {
        post(store, &room(1), seq, &["a word"]).await.unwrap();
    }
    let same = || puts(&room(1), at(store.epoch(), 8), &[]);
    let calls = [
        store.commit(Commit { trim: Some(Seq(5)), ..same() }),
        store.commit(Commit { trim: Some(Seq(5)), erase: vec![Seq(4), Seq(6)], ..same() }),
        store.commit(Commit { trim: Some(Seq(2)), erase: vec![Seq(1)], ..same() }),
        store.commit(Commit { trim: Some(Seq(6)), ..same() }),
    ];
    for call in calls {
        assert_eq!(call.await, Ok(()));
    }
    assert_eq!(store.commit(Commit { erase: vec![Seq(3), Seq(8)], ..same() }).await, Ok(()));
    assert_eq!(said(&all(store, &room(1)).await), ["a word", "(erased)"]);
}

async fn a_trimmed_stream_goes_on_as_any_other(store: &dyn Store) {
    let mut kept = 0;
    for seq in 0..200 {
        let trim = (seq % 7 == 6).then(|| Seq(seq - seq % 5));
        kept = trim.map_or(kept, |until| until.0);
        let commit = Commit { trim, ..posts(store.epoch(), &room(1), seq, &[&(seq + 1).to_string()]) };
        assert_eq!(store.commit(commit).await, Ok(()));
        let page = store.read(&room(1), Seq::ZERO, 1).await.unwrap();
        assert_eq!(page.records[0].position.seq, Seq(kept + 1));
    }
    let expected: Vec<String> = (kept + 1..=200).map(|seq| seq.to_string()).collect();
    assert_eq!(said(&all(store, &room(1)).await), expected);
}

async fn a_mark_below_what_is_kept_stands_for_no_place(store: &dyn Store) {
    let mut marks = vec![store.mark()];
    for commit in 0..50 {
        post(store, &room(1), commit * 2, &["one", "two"]).await.unwrap();
        marks.push(store.mark());
    }
    for until in [1, 2, 21, 40, 60] {
        let commit = Commit { trim: Some(Seq(until)), ..puts(&room(1), at(store.epoch(), 100), &[]) };
        store.commit(commit).await.unwrap();
        for (commits, mark) in marks.iter().enumerate() {
            let stood = 2 * commits as u64;
            let seq = if stood < until { Seq::ZERO } else { Seq(stood) };
            let at = At { head: at(store.epoch(), 100), seq };
            assert_eq!(store.positions_at(vec![room(1)], *mark).await, Ok(vec![at]), "{until}, {commits}");
        }
    }
    let commit = Commit { trim: Some(Seq(100)), ..posts(store.epoch(), &room(1), 100, &["last"]) };
    store.commit(commit).await.unwrap();
    let places = [marks[49], marks[50], store.mark()].map(|mark| store.positions_at(vec![room(1)], mark));
    for (place, seq) in places.into_iter().zip([0, 100, 101]) {
        assert_eq!(place.await.unwrap()[0].seq, Seq(seq));
    }
}

async fn rooms_are_listed_page_by_page(store: &dyn Store) {
    assert_eq!(store.rooms(None, 10).await, Ok(Vec::new()));
    for number in 1..=25 {
        post(store, &room(number), 0, &["here"]).await.unwrap();
    }
    post(store, &user("ann"), 0, &["no room"]).await.unwrap();
    store.commit(puts(&room(99), None, &[("row", Some("no record"))])).await.unwrap();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.rooms(after, 4).await.unwrap();
        after = page.last().cloned();
        if after.is_none() {
            break;
        }
        assert!(page.len() <= 4);
        listed.extend(page);
    }
    assert_eq!(listed.iter().map(RoomKey::stream).collect::<Vec<_>>(), (1..=25).map(room).collect::<Vec<_>>());
}

async fn a_closed_store_refuses_everything(store: &dyn Store) {
    store.commit(puts(&room(2), None, &[("key", Some("value"))])).await.unwrap();
    assert_eq!(store.get(&room(2), b"key").await.unwrap().unwrap(), "value");
    let before = store.commit(posts(store.epoch(), &room(1), 0, &["one"]));
    store.close().await;
    assert_eq!(before.await, Ok(()));
    assert_eq!(post(store, &room(1), 1, &["two"]).await, Err(CommitError::Failed));
    assert_eq!(store.head(&room(1)).await, Err(StoreError::Closed));
    assert_eq!(store.settle(&room(1)).await, Err(StoreError::Closed));
    assert_eq!(store.read(&room(1), Seq::ZERO, 1).await, Err(StoreError::Closed));
    assert_eq!(store.get(&room(1), b"key").await, Err(StoreError::Closed));
    assert_eq!(store.get(&room(2), b"key").await, Err(StoreError::Closed), "also what is in memory");
    store.close().await;
}

async fn a_large_commit_is_read_back_whole(store: &dyn Store) {
    let texts: Vec<String> = (0..2000).map(|n| format!("{n} {}", "x".repeat(n % 900))).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    post(store, &room(1), 0, &texts).await.unwrap();
    assert_eq!(store.head(&room(1)).await, Ok(Some(Position { epoch: store.epoch(), seq: Seq(2000) })));
    assert_eq!(said(&all(store, &room(1)).await), texts);
}

async fn a_mark_stands_for_the_places_that_all_streams_had_reached(store: &dyn Store) {
    let streams = || vec![room(1), room(2), room(3)];
    let places = async |mark| {
        let at = store.positions_at(streams(), mark).await.unwrap();
        at.iter().map(|at| (at.head.map_or(0, |head| head.seq.0), at.seq.0)).collect::<Vec<_>>()
    };
    assert_eq!(store.mark(), Mark(0));
    post(store, &room(1), 0, &["one", "two"]).await.unwrap();
    let first = store.mark();
    post(store, &room(2), 0, &["one"]).await.unwrap();
    let second = store.mark();
    post(store, &room(1), 2, &["three"]).await.unwrap();
    let third = store.mark();
    assert!(Mark(0) < first && first < second && second < third);
    assert_eq!(places(Mark(0)).await, [(3, 0), (1, 0), (0, 0)]);
    assert_eq!(places(first).await, [(3, 2), (1, 0), (0, 0)]);
    assert_eq!(places(second).await, [(3, 2), (1, 1), (0, 0)]);
    assert_eq!(places(third).await, [(3, 3), (1, 1), (0, 0)]);
    // Rows alone, and what is erased, move nobody.
    store.commit(Commit { erase: vec![Seq(1)], ..puts(&room(1), at(store.epoch(), 3), &[]) }).await.unwrap();
    assert_eq!(places(first).await, [(3, 2), (1, 0), (0, 0)]);
    assert_eq!(places(store.mark()).await, [(3, 3), (1, 1), (0, 0)]);
    assert_eq!(store.positions_at(Vec::new(), third).await, Ok(Vec::<At>::new()));
}

async fn a_mark_in_the_middle_of_a_long_stream_is_found(store: &dyn Store) {
    let mut marks = vec![store.mark()];
    let large = "x".repeat(9_000);
    for seq in 0..300 {
        // The other room's records see to it that marks go on where this one's do not.
        post(store, &room(2), seq, &["elsewhere"]).await.unwrap();
        let text = if seq % 5 == 0 { &large } else { "a word" };
        post(store, &room(1), seq, &[text]).await.unwrap();
        marks.push(store.mark());
    }
    for (seq, mark) in marks.into_iter().enumerate() {
        for at in store.positions_at(vec![room(1), room(2)], mark).await.unwrap() {
            assert_eq!((at.head.unwrap().seq, at.seq), (Seq(300), Seq(seq as u64)));
        }
    }
}
