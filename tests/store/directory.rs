//! Whose directory it is, and what opening it does to it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chinwag::domain::Seq;
use chinwag::store::files::Depth;
use chinwag::store::sled::{OpenError, Options, SledStore, verify};
use chinwag::store::{Commit, Store};

use crate::support::{all, copy, open, options, post, posts, room, said};

#[test]
fn an_absent_directory_is_made_for_its_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/data");
    drop(open(&path));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(path.join("FORMAT").is_file());
    assert!(!path.join("CREATING").exists());
}

#[test]
fn a_foreign_directory_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
    refused(dir.path(), 65, "not a data directory");
}

#[test]
fn a_directory_with_a_foreign_format_file_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("FORMAT"), "something else's format 1\n").unwrap();
    refused(dir.path(), 65, "not a data directory");
}

#[test]
fn a_directory_of_a_newer_format_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("FORMAT"), "chinwag data directory, format 4\n").unwrap();
    refused(dir.path(), 65, "format 4");
}

#[test]
fn a_directory_of_an_older_format_is_refused_and_not_touched() {
    for format in ["1", "2"] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()));
        fs::write(dir.path().join("FORMAT"), format!("chinwag data directory, format {format}\n")).unwrap();
        refused(dir.path(), 65, &format!("format {format}"));
    }
}

#[test]
fn a_directory_that_lost_its_format_file_is_refused_and_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    refused(dir.path(), 74, "FORMAT is missing");
}

#[tokio::test]
async fn a_directory_that_was_never_completed_is_completed() {
    let whole = tempfile::tempdir().unwrap();
    drop(open(whole.path()));
    for missing in [&["FORMAT"][..], &["FORMAT", "highwater"], &["FORMAT", "highwater", "log/db"]] {
        let dir = tempfile::tempdir().unwrap();
        let half = dir.path().join("half");
        copy(whole.path(), &half);
        fs::write(half.join("CREATING"), "").unwrap();
        for file in missing {
            fs::remove_file(half.join(file)).unwrap();
        }
        let store = open(&half);
        post(&store, &room(1), 0, &["one"]).await.unwrap();
    }
}

#[tokio::test]
async fn secrets_that_were_there_first_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("secrets")).unwrap();
    fs::write(dir.path().join("secrets/key"), "secret").unwrap();
    let store = open(dir.path());
    post(&store, &room(1), 0, &["one"]).await.unwrap();
    store.close().await;
    drop(store);
    fs::write(dir.path().join("notes.txt"), "somebody else's").unwrap();
    assert_eq!(said(&all(&open(dir.path()), &room(1)).await), ["one"]);
    assert_eq!(fs::read_to_string(dir.path().join("secrets/key")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "somebody else's");
}

#[test]
fn a_directory_in_use_is_refused_and_its_user_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = refusal(dir.path());
    assert_eq!(error.exit_code(), 75);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(verify(dir.path(), Depth::Sizes).unwrap_err().exit_code(), 75);
    drop(store);
    drop(open(dir.path()));
}

#[tokio::test]
async fn a_killed_process_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let holder = Command::new(env::current_exe().unwrap())
        .args(["directory::a_process_that_is_killed", "--exact", "--nocapture", "--ignored"])
        .env("HELD_DIRECTORY", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut holder = holder.unwrap();
    let lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("holding")));
    let error = refusal(dir.path());
    assert!(error.to_string().contains(&format!("process {}", holder.id())), "{error}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(said(&all(&open(dir.path()), &room(1)).await), ["one"]);
}

/// The other process of the test above.
#[tokio::test]
#[ignore = "started by another test"]
async fn a_process_that_is_killed() {
    let Some(dir) = env::var_os("HELD_DIRECTORY") else { return };
    let store = open(Path::new(&dir));
    post(&store, &room(1), 0, &["one"]).await.unwrap();
    println!("holding");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[tokio::test]
async fn a_half_written_snapshot_does_not_prevent_opening() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    fs::write(dir.path().join("log/snap.00000000000000FF.generating"), "half").unwrap();
    assert_eq!(said(&all(&open(dir.path()), &room(1)).await).len(), 20);
}

#[tokio::test]
async fn a_damaged_snapshot_is_put_aside_and_the_log_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    // Opening writes a snapshot.
    drop(open(dir.path()));
    let snapshot = files(&dir.path().join("log")).into_keys().find(|path| path.to_string_lossy().contains("snap."));
    let snapshot = snapshot.unwrap();
    fs::write(&snapshot, "not a snapshot, to be sure").unwrap();
    assert_eq!(said(&all(&open(dir.path()), &room(1)).await).len(), 20);
    let aside = dir.path().join("quarantine").join(snapshot.file_name().unwrap());
    assert_eq!(fs::read_to_string(aside).unwrap(), "not a snapshot, to be sure");
}

#[tokio::test]
async fn a_log_that_comes_back_shorter_is_refused_and_accepting_that_begins_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let (live, old) = (dir.path().join("live"), dir.path().join("old"));
    let store = open(&live);
    post(&store, &room(1), 0, &["one"]).await.unwrap();
    copy(&live, &old);
    post(&store, &room(1), 1, &["two"]).await.unwrap();
    let epoch = store.epoch();
    fs::copy(live.join("highwater"), old.join("highwater")).unwrap();

    let before = files(&old.join("log"));
    let error = refusal(&old);
    assert_eq!(error.exit_code(), 74);
    assert!(matches!(error, OpenError::Lost { .. }), "{error}");
    assert!(error.to_string().contains("--accept-data-loss"));
    assert_eq!(files(&old.join("log")), before);
    // Asking twice does not wear the refusal out.
    assert_eq!(refusal(&old).exit_code(), 74);
    assert!(!verify(&old, Depth::Sizes).unwrap().is_whole());

    let accepted = SledStore::open(&old, Options { accept_data_loss: true, ..options() }).unwrap();
    assert!(accepted.epoch() > epoch);
    assert!(accepted.epoch().0 < 1 << 53);
    let head = accepted.head(&room(1)).await.unwrap();
    assert_eq!(head.unwrap().epoch, epoch);
    let mut next = posts(accepted.epoch(), &room(1), 1, &["another two"]);
    next.expected = head;
    assert_eq!(accepted.commit(next).await, Ok(()));
    let later = accepted.epoch();
    drop(accepted);
    let store = open(&old);
    assert_eq!(store.epoch(), later);
    assert_eq!(said(&all(&store, &room(1)).await), ["one", "another two"]);
}

#[tokio::test]
async fn accepting_a_loss_where_nothing_is_lost_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let epoch = open(dir.path()).epoch();
    let store = SledStore::open(dir.path(), Options { accept_data_loss: true, ..options() }).unwrap();
    assert_eq!(store.epoch(), epoch);
    assert_eq!(all(&store, &room(1)).await.len(), 20);
}

#[tokio::test]
async fn a_missing_high_water_mark_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let epoch = open(dir.path()).epoch();
    fs::remove_file(dir.path().join("highwater")).unwrap();
    refused(dir.path(), 74, "highwater");
    let store = SledStore::open(dir.path(), Options { accept_data_loss: true, ..options() }).unwrap();
    assert!(store.epoch() > epoch);
    assert_eq!(all(&store, &room(1)).await.len(), 20);
}

#[tokio::test]
async fn an_emptied_log_is_refused_and_not_started_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let store = open(&live);
    post(&store, &room(1), 0, &["one"]).await.unwrap();
    copy(&live, &dead);
    for path in files(&dead.join("log")).into_keys() {
        if path.is_file() && !path.ends_with("conf") {
            fs::remove_file(path).unwrap();
        }
    }
    fs::write(dead.join("log/db"), "").unwrap();
    let before = files(&dead.join("log"));
    assert_eq!(refusal(&dead).exit_code(), 74);
    assert_eq!(files(&dead.join("log")), before);
    fs::remove_file(dead.join("log/db")).unwrap();
    assert_eq!(refusal(&dead).exit_code(), 74);
    assert!(!dead.join("log/db").exists());
}

#[tokio::test]
async fn a_start_that_was_cut_short_leaves_the_log_as_it_was_before_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let (log, copy_before) = (dir.path().join("log"), dir.path().join("log.before"));
    // Cut short while sled recovered, and while the copy was put back.
    copy(&log, &copy_before);
    fs::create_dir(dir.path().join("log.copying")).unwrap();
    fs::remove_dir_all(log.join("blobs")).unwrap();
    let half = fs::read(log.join("db")).unwrap()[..1000].to_vec();
    fs::write(log.join("db"), half).unwrap();
    let highwater = fs::read(dir.path().join("highwater")).unwrap();
    assert_eq!(refusal(dir.path()).exit_code(), 74);
    fs::remove_dir_all(&log).unwrap();
    fs::write(dir.path().join("highwater"), highwater).unwrap();
    let store = open(dir.path());
    assert_eq!(all(&store, &room(1)).await.len(), 20);
    assert!(!copy_before.exists() && !dir.path().join("log.copying").exists());
}

#[test]
fn the_ballast_makes_room_to_open_on_a_full_disk() {
    let dir = tempfile::tempdir().unwrap();
    let ballast = dir.path().join("ballast");
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let mut options = Options { ballast_bytes: 1 << 20, ..options() };
    let (hook, there) = (free.clone(), ballast.clone());
    options.hooks.free_bytes = Some(Arc::new(move || match hook.load(Ordering::SeqCst) {
        0 if there.exists() => 0,
        0 => 1 << 26,
        free => free,
    }));
    drop(SledStore::open(dir.path(), options.clone()).unwrap());
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 1 << 20);
    free.store(0, Ordering::SeqCst);
    drop(SledStore::open(dir.path(), options.clone()).unwrap());
    assert!(!ballast.exists());
    free.store(1, Ordering::SeqCst);
    assert_eq!(SledStore::open(dir.path(), options.clone()).err().unwrap().exit_code(), 73);
    free.store(u64::MAX, Ordering::SeqCst);
    drop(SledStore::open(dir.path(), options).unwrap());
    assert!(ballast.exists());
}

#[tokio::test]
async fn verifying_counts_everything_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path()).await;
    let before = files(dir.path());
    let report = verify(dir.path(), Depth::Sizes).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.records, report.streams, report.rows), (40, 2, 1));
    assert!(report.chunks > 0);
    assert_eq!(files(dir.path()), before);
}

#[tokio::test]
async fn verifying_takes_a_log_in_which_something_was_erased_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    post(&store, &room(1), 0, &["a secret"]).await.unwrap();
    let erase = Commit { erase: vec![Seq(1)], ..posts(store.epoch(), &room(1), 1, &["later"]) };
    store.commit(erase).await.unwrap();
    store.close().await;
    let report = verify(dir.path(), Depth::Sizes).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

/// After a close, after a kill, and after a start that had to read everything again.
#[tokio::test]
async fn what_has_been_trimmed_is_missing_by_right() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let store = open(&live);
    for seq in 0..60 {
        for number in 1..=3 {
            let trim = (seq > 40 && number > 1).then(|| Seq(if number == 2 { seq } else { seq - 17 }));
            let commit = Commit { trim, ..posts(store.epoch(), &room(number), seq, &["a word"]) };
            store.commit(commit).await.unwrap();
        }
    }
    copy(&live, &dead);
    let kept = async |store: &SledStore| {
        let mut counts = Vec::new();
        for number in 1..=3 {
            counts.push(all(store, &room(number)).await.len());
        }
        counts
    };
    assert_eq!(kept(&store).await, [60, 1, 18]);
    store.close().await;
    drop(store);
    for path in [&live, &dead] {
        for _ in 0..2 {
            let report = verify(path, Depth::Sizes).unwrap();
            assert!(report.is_whole() && report.records == 79, "{report:?}");
            let store = open(path);
            assert_eq!(kept(&store).await, [60, 1, 18]);
            store.close().await;
        }
    }
}

#[test]
fn verifying_what_is_not_a_data_directory_is_refused_and_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("absent");
    assert_eq!(verify(&path, Depth::Sizes).unwrap_err().exit_code(), 66);
    assert!(!path.exists());
}

/// Two rooms with twenty records each, and a row.
async fn write(path: &Path) {
    let store = open(path);
    for seq in 0..20 {
        for number in 1..=2 {
            post(&store, &room(number), seq, &[&format!("word {seq}")]).await.unwrap();
        }
    }
    let head = store.head(&room(1)).await.unwrap();
    store.commit(crate::support::puts(&room(1), head, &[("key", Some("value"))])).await.unwrap();
    store.close().await;
}

fn refusal(path: &Path) -> OpenError {
    match SledStore::open(path, options()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// Holds opening to refuse with this exit code and these words, and to leave everything as it is.
fn refused(path: &Path, exit_code: u8, words: &str) {
    let before = files(path);
    let error = refusal(path);
    assert_eq!(error.exit_code(), exit_code, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(files(path), before);
}

/// Every file below `path` with its bytes, apart from the lock, whose pid changes.
pub fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("lock") {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}
