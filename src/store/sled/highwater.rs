//! The high-water mark: how far the log had come, kept outside of sled, so that a log that comes back shorter is
//! noticed.
//!
//! Two slots of 512 bytes, a disk's smallest unit, are written in turn, so that a torn write never harms both. A slot
//! is written with every write of the log, after the log's own sync, and synced at least every second: after a kill it
//! is exact, after a power cut at most a second behind.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::Epoch;

const SLOT: usize = 512;
const MAGIC: &[u8; 8] = b"chinwagH";
/// Magic, serial, chunk, epoch, length, state and boot.
const SEALED: usize = 57;

/// How long a mark may stay unsynced: so much of a lost log may go unnoticed after a power cut, and no more.
pub(super) const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What a slot says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// The last chunk that was on disk.
    pub(super) chunk: u64,
    pub(super) epoch: Epoch,
    /// The length of sled's file, where the log was closed in order.
    pub(super) closed: Option<u64>,
}

pub(super) struct HighWater {
    file: File,
    serial: u64,
    mark: Mark,
    boot: Uuid,
    written_in_this_boot: bool,
    synced_at: Instant,
    dirty: bool,
}

impl HighWater {
    /// Writes the first mark into a new file.
    pub(super) fn create(path: &Path, mark: Mark) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
        file.write_all_at(&slot(1, mark, boot()), SLOT as u64)?;
        file.write_all_at(&[0; SLOT], 0)?;
        file.sync_all()
    }

    /// Opens the file and reads the later of its marks; `None` where neither slot is whole.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let Some((serial, mark, written_in)) = latest(&file)? else { return Ok(None) };
        let boot = boot();
        let written_in_this_boot = !boot.is_nil() && written_in == boot;
        Ok(Some(Self { file, serial, mark, boot, written_in_this_boot, synced_at: Instant::now(), dirty: false }))
    }

    /// Reads the later of the marks and leaves the file alone.
    pub(super) fn peek(path: &Path) -> io::Result<Option<Mark>> {
        Ok(latest(&File::open(path)?)?.map(|(_, mark, _)| mark))
    }

    pub(super) fn mark(&self) -> Mark {
        self.mark
    }

    /// Whether the mark that was found had been written since the machine was started: then there was no power cut,
    /// and what was written is in the file, synced or not.
    pub(super) fn written_in_this_boot(&self) -> bool {
        self.written_in_this_boot
    }

    /// Writes `mark` over the older slot.
    pub(super) fn write(&mut self, mark: Mark) -> io::Result<()> {
        self.serial += 1;
        self.mark = mark;
        self.dirty = true;
        let place = (self.serial % 2) * SLOT as u64;
        self.file.write_all_at(&slot(self.serial, mark, self.boot), place)
    }

    /// When the mark has to be synced at the latest; `None` where nothing is to be synced.
    pub(super) fn due(&self) -> Option<Instant> {
        self.dirty.then_some(self.synced_at + SYNC_EVERY)
    }

    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.synced_at = Instant::now();
        self.dirty = false;
        Ok(())
    }
}

/// The id of this run of the machine; nil where the system does not tell.
fn boot() -> Uuid {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Uuid::try_parse(text.trim()).unwrap_or_default()
}

fn slot(serial: u64, mark: Mark, boot: Uuid) -> [u8; SLOT] {
    let mut bytes = [0; SLOT];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&serial.to_le_bytes());
    bytes[16..24].copy_from_slice(&mark.chunk.to_le_bytes());
    bytes[24..32].copy_from_slice(&mark.epoch.0.to_le_bytes());
    bytes[32..40].copy_from_slice(&mark.closed.unwrap_or_default().to_le_bytes());
    bytes[40] = u8::from(mark.closed.is_some());
    bytes[41..SEALED].copy_from_slice(boot.as_bytes());
    let crc = crc32c::crc32c(&bytes[..SEALED]);
    bytes[SEALED..SEALED + 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn latest(file: &File) -> io::Result<Option<(u64, Mark, Uuid)>> {
    let mut bytes = [0; 2 * SLOT];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(bytes.chunks(SLOT).filter_map(parse).max_by_key(|(serial, ..)| *serial))
}

fn parse(slot: &[u8]) -> Option<(u64, Mark, Uuid)> {
    let number = |at: usize| Some(u64::from_le_bytes(*slot.get(at..)?.first_chunk()?));
    let crc = u32::from_le_bytes(*slot.get(SEALED..)?.first_chunk()?);
    if slot.get(..8)? != MAGIC || crc != crc32c::crc32c(&slot[..SEALED]) {
        return None;
    }
    let closed = if slot[40] == 1 { Some(number(32)?) } else { None };
    let mark = Mark { chunk: number(16)?, epoch: Epoch(number(24)?), closed };
    Some((number(8)?, mark, Uuid::from_slice(&slot[41..SEALED]).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_mark_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("highwater");
        HighWater::create(&path, mark(0)).unwrap();
        let mut water = HighWater::open(&path).unwrap().unwrap();
        water.write(mark(1)).unwrap();
        water.write(mark(2)).unwrap();
        assert_eq!(HighWater::peek(&path).unwrap(), Some(mark(2)));
        water.file.write_all_at(&[7; 40], SLOT as u64).unwrap();
        assert_eq!(HighWater::peek(&path).unwrap(), Some(mark(1)));
        water.file.write_all_at(&[7; 40], 0).unwrap();
        assert_eq!(HighWater::peek(&path).unwrap(), None);
    }

    fn mark(chunk: u64) -> Mark {
        Mark { chunk, epoch: Epoch(1), closed: None }
    }
}
