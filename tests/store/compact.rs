//! Compacting: what is alive stays as it was, and nothing else stays.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chinwag::domain::{Epoch, Mark, Record, Seq};
use chinwag::store::files::Depth;
use chinwag::store::sled::{OpenError, Stage, compact, verify};
use chinwag::store::{At, Commit, Store};

use crate::support::{all, at, copy, open, options, post, put, puts, room, user};

const SECRETS: [&str; 5] = ["erased-e5a1", "trimmed-7b02", "row-before-c3d4", "removed-row-90fe", "profile-1f77"];

#[tokio::test]
async fn nothing_is_left_of_what_was_taken_away_and_all_else_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mark) = (dir.path().join("data"), fill(&dir.path().join("data")).await);
    let before = contents(&data, mark).await;
    assert!(SECRETS.iter().all(|secret| holds(&data, secret)), "sled keeps what was there before");

    let compacted = compact(&data, options(), |_| ()).unwrap();
    assert!(compacted.after < compacted.before, "{compacted:?}");
    for secret in SECRETS {
        assert!(!holds(&data, secret), "{secret}");
    }
    assert!(holds(&data, "kept-word-17"));
    assert!(verify(&data, Depth::Sizes).unwrap().is_whole());
    assert_eq!(contents(&data, mark).await, before);
    let store = open(&data);
    post(&store, &room(1), 40, &["it goes on"]).await.unwrap();
    drop(store);
    compact(&data, options(), |_| ()).unwrap();
    assert_eq!(all(&open(&data), &room(1)).await.len(), before.0[0].len() + 1);
}

/// The directory as it is at each moment, opened as it would be after a kill: by a server, by `data verify`, and by another
/// compaction.
#[tokio::test]
async fn a_kill_at_any_point_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data, mark) = (dir.path().join("data"), fill(&dir.path().join("data")).await);
    let before = contents(&data, mark).await;
    let stages = Arc::new(Mutex::new(Vec::new()));
    let (live, killed, noted) = (data.clone(), dir.path().to_owned(), Arc::clone(&stages));
    compact(&data, options(), move |stage| {
        let mut stages = noted.lock().unwrap();
        copy(&live, &killed.join(format!("killed-{}", stages.len())));
        stages.push(stage);
    })
    .unwrap();
    let stages = stages.lock().unwrap().clone();
    assert!(matches!(
        stages[..],
        [Stage::Begins { .. }, Stage::Written, Stage::Whole, Stage::Between, Stage::Swapped, Stage::Removed]
    ));
    for (n, stage) in stages.into_iter().enumerate() {
        let killed = |how: &str| {
            let copied = dir.path().join(format!("killed-{n}-{how}"));
            copy(&dir.path().join(format!("killed-{n}")), &copied);
            copied
        };
        let (opened, verified, again) = (killed("opened"), killed("verified"), killed("again"));
        assert_eq!(contents(&opened, mark).await, before, "{stage:?}");
        let left: Vec<_> = names(&opened).into_iter().filter(|name| name.starts_with("log")).collect();
        assert_eq!(left, ["log"], "{stage:?}");
        assert!(verify(&verified, Depth::Sizes).unwrap().is_whole(), "{stage:?}");
        assert_eq!(contents(&verified, mark).await, before, "{stage:?}");
        compact(&again, options(), |_| ()).unwrap();
        assert!(SECRETS.iter().all(|secret| !holds(&again, secret)), "{stage:?}");
        assert_eq!(contents(&again, mark).await, before, "{stage:?}");
    }
}

#[tokio::test]
async fn what_may_not_be_compacted_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path, free: u64| {
        let mut options = options();
        options.hooks.free_bytes = Some(Arc::new(move || free));
        compact(path, options, |stage| panic!("{stage:?}")).unwrap_err()
    };
    assert_eq!(refusal(&dir.path().join("absent"), u64::MAX).exit_code(), 66);
    let data = dir.path().join("data");
    let store = open(&data);
    post(&store, &room(1), 0, &["here"]).await.unwrap();
    let locked = refusal(&data, u64::MAX);
    assert!(matches!(locked, OpenError::Locked { .. }) && locked.exit_code() == 75, "{locked}");
    store.close().await;
    drop(store);
    let full = refusal(&data, 60 * 1024 * 1024);
    assert!(matches!(full, OpenError::NoRoom { .. }) && full.exit_code() == 73, "{full}");
    assert_eq!(names(&data), ["FORMAT", "highwater", "lock", "log"]);
    assert_eq!(all(&open(&data), &room(1)).await.len(), 1);
}

/// What a directory reads as: three rooms, rows, and where the rooms stood at a mark.
async fn contents(path: &Path, mark: Mark) -> (Vec<Vec<Record>>, Vec<(bytes::Bytes, bytes::Bytes)>, Vec<At>, Epoch) {
    let store = open(path);
    let mut records = Vec::new();
    for number in 1..=3 {
        records.push(all(&store, &room(number)).await);
    }
    let rows = store.scan(&user("ann"), b"", None, 1000).await.unwrap();
    let places = store.positions_at((1..=3).map(room).collect(), mark).await.unwrap();
    let epoch = store.epoch();
    store.close().await;
    (records, rows, places, epoch)
}

/// Returns a mark in the middle.
async fn fill(path: &Path) -> Mark {
    let store = open(path);
    let mut mark = store.mark();
    let epoch = store.epoch();
    for seq in 0..40 {
        let text = if seq == 3 { SECRETS[1].to_owned() } else { format!("kept-word-{seq}") };
        post(&store, &room(1), seq, &[&text]).await.unwrap();
        let text = if seq == 20 { SECRETS[0] } else { "of another room" };
        post(&store, &room(2), seq, &[text]).await.unwrap();
        if seq == 12 {
            mark = store.mark();
        }
    }
    post(&store, &room(3), 0, &["a room that has been trimmed but for its last record", "last"]).await.unwrap();
    let rows = [("changed", Some(SECRETS[2])), ("removed", Some(SECRETS[3])), ("profile", Some(SECRETS[4]))];
    store.commit(puts(&user("ann"), None, &rows)).await.unwrap();
    let rows = [("changed", Some("value")), ("removed", None), ("profile", Some("value"))];
    store.commit(puts(&user("ann"), None, &rows)).await.unwrap();
    let many: Vec<_> = (0..200).map(|n| put(&user("ann"), &format!("row {n:03}"), Some("a value"))).collect();
    store.commit(Commit { puts: many, ..puts(&user("ann"), None, &[]) }).await.unwrap();
    let erase = Commit { erase: vec![Seq(21)], ..puts(&room(2), at(epoch, 40), &[]) };
    store.commit(erase).await.unwrap();
    let trim = |number, until, head| Commit { trim: Some(Seq(until)), ..puts(&room(number), at(epoch, head), &[]) };
    store.commit(trim(1, 10, 40)).await.unwrap();
    store.commit(trim(3, 1, 2)).await.unwrap();
    store.close().await;
    mark
}

/// Whether any file of the directory has these bytes in it.
fn holds(path: &Path, text: &str) -> bool {
    fs::read_dir(path).unwrap().any(|entry| {
        let entry = entry.unwrap();
        let path: PathBuf = entry.path();
        if entry.file_type().unwrap().is_dir() {
            return holds(&path, text);
        }
        fs::read(&path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}

fn names(path: &Path) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
