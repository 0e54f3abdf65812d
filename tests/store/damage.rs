//! Harm done to a directory's files. Whatever it is, the store serves everything, or says what is wrong; it never
//! serves less without a word, and never takes away what is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chinwag::domain::{Record, Seq};
use chinwag::store::files::Depth;
use chinwag::store::sled::{Options, SledStore, verify};
use chinwag::store::{Store, StoreError};

use crate::directory::files;
use crate::support::{all, copy, open, options, post, room};

const ROOMS: u128 = 4;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Outcome {
    Harmless,
    Refused,
    /// It was opened, and reading what is harmed says so.
    Named,
}

#[tokio::test]
async fn damage_after_a_kill_is_harmless_or_refused_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let (live, whole) = (dir.path().join("live"), dir.path().join("whole"));
    // Opened twice, so that there is a snapshot, and a log after it.
    drop(fill(&live, 0).await);
    let store = fill(&live, 100).await;
    copy(&live, &whole);
    let expected = everything(&store).await;
    let mut outcomes = BTreeMap::new();
    for seed in 0..90 {
        let outcome = harm_and_open(&whole, &expected, seed, harm).await;
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    assert!(outcomes[&Outcome::Harmless] >= 5 && outcomes[&Outcome::Refused] >= 5, "{outcomes:?}");
}

#[tokio::test]
async fn damage_after_a_close_is_harmless_or_refused_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let store = fill(&whole, 0).await;
    let expected = everything(&store).await;
    drop(store);
    let mut outcomes = BTreeMap::new();
    for seed in 1000..1060 {
        let outcome = harm_and_open(&whole, &expected, seed, harm).await;
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    assert!(outcomes[&Outcome::Harmless] >= 5 && outcomes[&Outcome::Refused] >= 5, "{outcomes:?}");
}

#[tokio::test]
async fn damage_behind_a_snapshot_is_named_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let store = open(&whole);
    let large = "x".repeat(60_000);
    for seq in 0..150 {
        for number in 0..ROOMS {
            post(&store, &room(number), seq, &[&large]).await.unwrap();
        }
    }
    drop(store);
    // Opening writes a snapshot: sled does not read what is older again until it is asked for.
    let expected = everything(&open(&whole)).await;
    let mut outcomes = BTreeMap::new();
    for seed in 2000..2020 {
        let outcome = harm_and_open(&whole, &expected, seed, flip_in_use).await;
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    assert!(outcomes.get(&Outcome::Named).is_some_and(|&named| named >= 5), "{outcomes:?}");
}

/// Writes a hundred records into each room, after `after`.
async fn fill(path: &Path, after: u64) -> SledStore {
    let store = open(path);
    for seq in after..after + 100 {
        for number in 0..ROOMS {
            let words = format!("{number} {seq} {}", "word ".repeat(20));
            post(&store, &room(number), seq, &[&words]).await.unwrap();
        }
    }
    store
}

async fn everything(store: &SledStore) -> Vec<Vec<Record>> {
    let mut rooms = Vec::new();
    for number in 0..ROOMS {
        rooms.push(all(store, &room(number)).await);
    }
    rooms
}

async fn harm_and_open(
    whole: &Path,
    expected: &[Vec<Record>],
    seed: u64,
    harm: fn(&Path, &mut Random) -> String,
) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("harmed");
    copy(whole, &path);
    let what = harm(&path, &mut Random(seed));
    let before = files(&path.join("log"));
    let options = Options { open_time_max: Duration::from_secs(20), ..options() };
    let store = match SledStore::open(&path, options) {
        Ok(store) => store,
        Err(error) => {
            let newer = error.exit_code() == 65 && what.contains("FORMAT");
            assert!(error.exit_code() == 74 || newer, "seed {seed}, {what}: {error}");
            assert!(files(&path.join("log")) == before, "seed {seed}, {what}: evidence was changed");
            return Outcome::Refused;
        }
    };
    let mut outcome = Outcome::Harmless;
    for (number, expected) in (0..).zip(expected) {
        let mut records = Vec::new();
        loop {
            let after = records.last().map_or(Seq::ZERO, |record: &Record| record.position.seq);
            match store.read(&room(number), after, 1000).await {
                Ok(page) => records.extend(page.records),
                Err(StoreError::Damaged(_)) => {
                    outcome = Outcome::Named;
                    break;
                }
                Err(error) => panic!("seed {seed}, {what}: {error}"),
            }
            if records.len() as u64 == after.0 || records.len() == expected.len() {
                assert_eq!(records.len(), expected.len(), "seed {seed}, {what}: records are missing");
                break;
            }
        }
        assert_eq!(records, expected[..records.len()], "seed {seed}, {what}");
    }
    drop(store);
    if outcome == Outcome::Named {
        assert!(
            !verify(&path, Depth::Sizes).is_ok_and(|report| report.is_whole()),
            "seed {seed}, {what}: it passes for whole"
        );
    }
    outcome
}

/// Flips a bit in the younger half of the log, where most bytes are in use.
fn flip_in_use(path: &Path, random: &mut Random) -> String {
    let target = path.join("log/db");
    let mut bytes = fs::read(&target).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    let at = random.below(used / 2) + used / 2;
    bytes[at] ^= 1 << random.below(8);
    fs::write(target, bytes).unwrap();
    format!("a bit flipped at {at} of {used}")
}

/// Harms one file and says how.
fn harm(path: &Path, random: &mut Random) -> String {
    let mut targets: Vec<PathBuf> = files(path).into_keys().filter(|path| !path.ends_with("ballast")).collect();
    // Most of the harm goes where most of the bytes are.
    targets.extend(vec![path.join("log/db"); targets.len() * 2]);
    let target = &targets[random.below(targets.len())];
    let mut bytes = fs::read(target).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let at = random.below(used.max(1));
    let what = match random.below(8) {
        0 => {
            fs::remove_file(target).unwrap();
            return format!("{} deleted", target.display());
        }
        1 => {
            bytes.clear();
            "emptied".to_owned()
        }
        2 => {
            bytes.truncate(at);
            format!("cut at {at}")
        }
        3 => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
            format!("zeroed from {at}")
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
            format!("a bit flipped at {at} of {used}")
        }
    };
    fs::write(target, bytes).unwrap();
    format!("{} {what}", target.display())
}

/// SplitMix64: a seed gives the same harm every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}
