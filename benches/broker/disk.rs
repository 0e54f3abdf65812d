//! What the disk itself takes: the same bytes written behind one another into one file, with one fdatasync per commit.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::figures::Times;

/// The file has its blocks before anything is measured, as most of a log's file has: otherwise each sync would pay for
/// one more block, and would be no limit. From its end the writing goes back to its beginning.
const FILE_BYTES: usize = 64 * 1024 * 1024;

/// Writes commits of `bytes` for `time`, waiting `pause` before each.
pub fn commits(folder: &Path, bytes: usize, time: Duration, pause: Duration) -> Outcome<Times> {
    let mut file = File::create(folder.join("limit"))?;
    file.write_all(&vec![0; FILE_BYTES])?;
    file.sync_all()?;
    file.seek(SeekFrom::Start(0))?;
    let (commit, mut at) = (vec![b'x'; bytes], 0);
    let (mut times, until) = (Times::default(), Instant::now() + time);
    while Instant::now() < until {
        if at + bytes > FILE_BYTES {
            at = 0;
            file.seek(SeekFrom::Start(0))?;
        }
        if !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
        let began = Instant::now();
        file.write_all(&commit)?;
        file.sync_data()?;
        times.add(began.elapsed());
        at += bytes;
    }
    Ok(times)
}
