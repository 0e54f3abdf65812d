//! What a log costs as it grows: space, the time it takes to open, memory, and reading the latest. Each step has a
//! process of its own, so that memory and caches are those of a server that does only that.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chinwag::store::Store;
use tempfile::TempDir;

use crate::kept::{Figure, Kept, TIMES_KEPT};
use crate::load::{Drive, Writer, encoded, micros, open, percentile, runtime};
use crate::speed::latest;

/// Rooms that take turns while the log grows, records of each commit, and commits under way.
const ROOMS: u64 = 1000;
const PER_COMMIT: usize = 4;
const AT_ONCE: usize = 128;

pub fn grow(dir: &Path, sizes: &[u64], kept: &mut Kept) {
    println!();
    println!("a log as it grows: {ROOMS} rooms in turn, {PER_COMMIT} records per commit, {AT_ONCE} commits under way");
    println!(
        "{:>9} {:>9} {:>6} {:>8} {:>8} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "records",
        "logical",
        "space",
        "fill/s",
        "fill MB",
        "open s",
        "MB",
        "killed s",
        "MB",
        "50 p50",
        "50 p99",
        "again",
        "MB"
    );
    for &records in sizes {
        let home = TempDir::new_in(dir).expect("the directory can be written to");
        let data = home.path().join("store");
        let filled = step("fill", &data, records, false);
        let (logical, space) = (filled[0], space(&data));
        let opened = step("open", &data, records, true);
        let killed = step("open", &data, records, false);
        let read = step("read", &data, records, false);
        println!(
            "{records:>9} {:>6.0} MB {:>6.2} {:>8.0} {:>8.0} {:>9.2} {:>8.0} {:>8.2} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>8.0}",
            logical / 1e6,
            space / logical,
            filled[1],
            filled[2],
            opened[0],
            opened[1],
            killed[0],
            killed[1],
            read[0],
            read[1],
            read[2],
            read[3],
        );
        let costs = [
            ("space, times the records", space / logical),
            ("MB resident while filled", filled[2]),
            ("MB resident after opening", opened[1]),
        ];
        for (what, cost) in costs {
            let lost = kept.hold(&format!("append: {records} records, {what}"), Figure::Cost(cost, TIMES_KEPT));
            lost.into_iter().for_each(|lost| println!("{:>9} {what}: {lost}", ""));
        }
    }
    println!("space: of the disk, in times of the records' own bytes; MB: resident, at the end of the step");
    println!(
        "killed: opened after kill -9 behind a hundred more commits; 50: the latest 50 of a room in microseconds,"
    );
    println!("the first time and again");
}

/// Runs one step, and returns the figures that it prints. With `kill` it is ended as soon as it has printed them.
fn step(name: &str, data: &Path, records: u64, kill: bool) -> Vec<f64> {
    let own = std::env::current_exe().expect("a process knows its own program");
    let mut child = Command::new(own)
        .arg("--child")
        .arg(name)
        .arg(data)
        .args([records.to_string(), ROOMS.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this very program starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("it was piped");
    BufReader::new(out).read_line(&mut line).expect("a step prints one line");
    let figures = line.split_whitespace().map(|figure| figure.parse().expect("a step prints numbers")).collect();
    end(child, kill);
    figures
}

fn end(mut child: Child, kill: bool) {
    if kill {
        child.kill().expect("it waits for its standard input");
    }
    drop(child.stdin.take());
    let status = child.wait().expect("it was started here");
    assert!(kill || status.success(), "a step failed");
}

/// What the directory takes on the disk.
fn space(dir: &Path) -> f64 {
    let mut blocks = 0;
    for entry in fs::read_dir(dir).expect("the store has made it").flatten() {
        let data = entry.metadata().expect("nobody else is there");
        // The ballast is a reserve of a fixed size, and not of the log.
        if data.is_dir() {
            blocks += space_blocks(&entry.path());
        } else if entry.file_name() != "ballast" {
            blocks += data.blocks();
        }
    }
    blocks_to_bytes(blocks)
}

fn space_blocks(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).expect("the store has made it").flatten();
    files
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => space_blocks(&entry.path()),
            Ok(data) => data.blocks(),
            Err(_) => 0,
        })
        .sum()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn blocks_to_bytes(blocks: u64) -> f64 {
    (blocks * 512) as f64
}

/// One step: prints its figures in one line, and ends with its standard input.
pub fn child(step: &str, data: &Path, records: u64, rooms: u64) {
    let runtime = runtime();
    let began = Instant::now();
    let store = open(data);
    let opened = began.elapsed().as_secs_f64();
    let mut out = std::io::stdout();
    match step {
        "fill" => {
            let mut writer = Writer::new(store.epoch());
            let logical = encoded(&Writer::new(store.epoch()).commit(0, 1))[0].len();
            let mut left = usize::try_from(records).expect("records fit in memory");
            let mut took = Duration::ZERO;
            while left > 0 {
                let commits = (left / PER_COMMIT).clamp(1, 50_000);
                let drive = Drive { rooms, at_once: AT_ONCE, per_commit: PER_COMMIT, commits };
                took += drive.run(&runtime, &store, &mut writer).took;
                left = left.saturating_sub(commits * PER_COMMIT);
            }
            #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
            let (logical, records) = (logical as f64 * records as f64, records as f64);
            writeln!(out, "{logical} {} {}", records / took.as_secs_f64(), resident()).expect("the parent listens");
        }
        "open" => {
            let figures = (opened, resident());
            let mut writer = Writer::new(store.epoch());
            // Rooms that the log has not seen, so that their heads are known.
            for at in 0..100 {
                let commit = writer.commit(rooms + at + u64::from(std::process::id()) * 1000, 1);
                runtime.block_on(store.commit(commit)).expect("a healthy store takes what follows the head");
            }
            writeln!(out, "{} {}", figures.0, figures.1).expect("the parent listens");
        }
        "read" => {
            let reads = u32::try_from(rooms).expect("a thousand");
            let mut first = latest(&runtime, &store, rooms, reads);
            let mut again = latest(&runtime, &store, rooms, 4 * reads);
            let figures = [percentile(&mut first, 0.5), percentile(&mut first, 0.99), percentile(&mut again, 0.99)];
            let [p50, p99, again] = figures.map(micros);
            writeln!(out, "{p50} {p99} {again} {}", resident()).expect("the parent listens");
        }
        other => panic!("no step is called {other}"),
    }
    out.flush().expect("the parent listens");
    // The parent closes it when it has read the line, or kills.
    std::io::stdin().read_line(&mut String::new()).expect("it is a pipe");
    runtime.block_on(store.close());
}

/// What this process has in memory, in millions of bytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().expect("Linux tells a number");
    kilobytes * 1024.0 / 1e6
}
