//! The data directory: which files make it up, whose it is, and who has it open.
//!
//! ```text
//! FORMAT      written last when the directory is made: with it, the directory is complete
//! CREATING    there while the directory is being made
//! lock        held by the process that has it open; holds its pid
//! highwater   how far the log had come
//! ballast     room to open in when the disk is full
//! log/        sled's files
//! log.before/ a copy of them while they are being opened; log.copying/ while it is being made
//! log.compacting/ what is alive of it, while it is being written anew; log.compacted/ when that is whole; log.replaced/
//!             the log in whose place that has come
//! quarantine/ snapshot files that sled could not read
//! files/      the bytes of files: `store::files`
//! secrets/    not the store's, and kept, as any other file in a complete directory is
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation};

use super::OpenError;

/// The format that this program reads and writes. Of those before, all of before a release, 1 made no blanks for chunks
/// ahead, and 2 said only in which chunk a run lies.
const FORMAT: u32 = 3;

const FORMAT_LINE: &str = "chinwag data directory, format ";

/// What others put into a directory before it is made, and what a file system puts there by itself.
const NOT_OURS: [&str; 2] = ["secrets", "lost+found"];

/// What is made before `FORMAT` is written; removed when the making has to begin anew.
const MADE: [&str; 6] = ["log", "log.before", "log.copying", "highwater", "ballast", "FORMAT.new"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Absent, empty, or never completed.
    New,
    Complete,
}

/// Says whose directory it is, and changes nothing.
pub(super) fn inspect(dir: &Path) -> Result<State, OpenError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::New),
        Err(error) => return Err(OpenError::io(dir, error)),
    };
    let names: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(|error| OpenError::io(dir, error))?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has("FORMAT") {
        return check_format(dir).map(|()| State::Complete);
    }
    if has("CREATING") || names.iter().all(|name| name == "lock" || NOT_OURS.contains(&&**name)) {
        return Ok(State::New);
    }
    if has("log") && has("highwater") {
        return Err(OpenError::damaged(dir, "its file FORMAT is missing"));
    }
    Err(OpenError::Foreign { dir: dir.into() })
}

/// Refuses a directory that holds what is not ours, or is of a newer program; one that is absent or empty is fine.
/// Takes no lock and changes nothing.
pub fn check_owner(dir: &Path) -> Result<(), OpenError> {
    inspect(dir).map(drop)
}

fn check_format(dir: &Path) -> Result<(), OpenError> {
    let path = dir.join("FORMAT");
    let mut text = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(4096).read_to_end(&mut text));
    read.map_err(|error| OpenError::io(&path, error))?;
    let text = String::from_utf8_lossy(&text);
    let Some(number) = text.strip_prefix(FORMAT_LINE) else {
        // Ours with a harmed FORMAT has the other files, too.
        let ours = dir.join("log").join("db").exists() && dir.join("highwater").exists();
        return Err(if ours {
            OpenError::damaged(dir, "its file FORMAT can not be read")
        } else {
            OpenError::Foreign { dir: dir.into() }
        });
    };
    match number.trim_end().parse() {
        Ok(FORMAT) => Ok(()),
        Ok(found @ 1..) => Err(OpenError::Format { dir: dir.into(), found, known: FORMAT }),
        Ok(_) | Err(_) => Err(OpenError::damaged(dir, "its file FORMAT can not be read")),
    }
}

/// Makes the directory itself, for its owner only.
pub(super) fn make(dir: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| OpenError::io(dir, error))
}

/// Begins, or begins anew, to fill a directory that is not complete.
pub(super) fn begin(dir: &Path) -> io::Result<()> {
    private_file(&dir.join("CREATING"))?.sync_all()?;
    sync_dir(dir)?;
    for name in MADE {
        remove(&dir.join(name))?;
    }
    Ok(())
}

/// Completes a directory: everything else in it is on disk already.
pub(super) fn complete(dir: &Path) -> io::Result<()> {
    let new = dir.join("FORMAT.new");
    let mut file = private_file(&new)?;
    writeln!(file, "{FORMAT_LINE}{FORMAT}")?;
    file.sync_all()?;
    sync_dir(dir)?;
    fs::rename(&new, dir.join("FORMAT"))?;
    sync_dir(dir)?;
    remove(&dir.join("CREATING"))
}

pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

/// Removes a file or a folder, if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The bytes of all files in a folder.
pub(super) fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// Copies a folder; where the file system can share blocks between files, the copy costs nothing.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Brings a compaction to its end that was cut short: one that had not begun to put the new log in its place has never
/// been, any other is gone through with.
pub(super) fn finish_compaction(dir: &Path) -> io::Result<()> {
    let [log, whole, old] = ["log", "log.compacted", "log.replaced"].map(|name| dir.join(name));
    if !log.exists() && old.exists() && whole.exists() {
        fs::rename(&whole, &log)?;
        sync_dir(dir)?;
    }
    if log.exists() {
        for left in [dir.join("log.compacting"), whole, old] {
            remove(&left)?;
        }
    }
    Ok(())
}

/// The folder that has the log, also while it is in no place of its own.
pub(super) fn log_of(dir: &Path) -> PathBuf {
    let names = ["log", "log.compacted", "log.before"].map(|name| dir.join(name));
    names.iter().find(|folder| folder.exists()).unwrap_or(&names[0]).clone()
}

/// The half-written snapshots that a kill during sled's start leaves, and that sled can not open with.
pub(super) fn remove_half_snapshots(log: &Path) -> io::Result<()> {
    for path in snapshots(log)? {
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Moves sled's snapshots out of its way; it then reads its whole log.
pub(super) fn quarantine_snapshots(log: &Path, quarantine: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(quarantine)?;
    for path in snapshots(log)? {
        let name = path.file_name().unwrap_or_default();
        fs::rename(&path, quarantine.join(name))?;
    }
    Ok(())
}

pub(super) fn snapshots(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(log)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("snap.") {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// One process per directory. Ends with the process, however that ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let io = |error| OpenError::io(&path, error);
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = opened.map_err(io)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                file.take(32).read_to_string(&mut pid).map_err(io)?;
                return Err(OpenError::Locked { dir: dir.into(), pid: pid.trim().into() });
            }
            Err(error) => return Err(io(error.into())),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// A file that takes up room which is given back when the disk is too full to open the log: sled can not be opened,
/// not even for reading, without writing.
#[derive(Debug)]
pub(super) struct Ballast {
    path: PathBuf,
    bytes: u64,
    there: bool,
}

impl Ballast {
    pub(super) fn at(dir: &Path, bytes: u64) -> Self {
        let path = dir.join("ballast");
        let there = path.exists();
        Self { path, bytes, there }
    }

    /// Gives the room back; the committer takes it again when there is enough.
    pub(super) fn give_up(self) -> io::Result<()> {
        remove(&self.path)
    }

    /// Takes the room again, once there is enough beside it.
    pub(super) fn restore(&mut self, free: u64, free_bytes_min: u64) {
        let enough = free_bytes_min.saturating_add(self.bytes.saturating_mul(2));
        if self.there || self.bytes == 0 || free < enough {
            return;
        }
        // Not every file system can reserve; without a ballast nothing else changes.
        let reserved = private_file(&self.path)
            .and_then(|file| Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes)?));
        if let Err(error) = reserved {
            tracing::warn!(%error, "no room can be kept in reserve on this file system");
            let _ = remove(&self.path);
        }
        self.there = true;
    }
}

/// The bytes that are free for us on the file system of `dir`.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
