//! The bytes of files: beside the log, in plain files that are named by what they hold.
//!
//! ```text
//! files/incoming/<id>             what is being uploaded
//! files/content/<2 hex>/<64 hex>  what has been, once for the same content, by its SHA-256
//! ```
//!
//! Everything here waits for a disk and knows nobody: whoever calls sees to it that it is called on a thread that may
//! wait, and that no two calls concern the same upload, or the same content, at once. Which files there are is in rows of
//! the log; what lies here and is in no row is a leftover.

mod check;
mod sniff;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

pub use self::check::{Check, Depth};

use crate::domain::file::Hash;
use crate::domain::{FileId, MediaType};

/// What the folder is called in a data directory.
pub const FOLDER: &str = "files";

/// So much of a file is looked at to find out what it is.
const HEAD_BYTES: usize = 8 * 1024;

/// So much is read at once where a whole file is read.
const READ_BYTES: usize = 256 * 1024;

/// How many folders content is spread over.
pub const SHARDS: usize = 256;

/// Says how many bytes are free.
pub type Free = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The folder of files in one data directory.
pub struct FileStore {
    folder: PathBuf,
    free_bytes_min: u64,
    /// Where tests take the place of the disk.
    free: Option<Free>,
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileStore").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// An upload as far as it has come. Held by one at a time.
#[derive(Debug)]
pub struct Incoming {
    folder: PathBuf,
    file: File,
    bytes: u64,
    /// `None` where not all of it was written here.
    digested: Option<Digested>,
}

/// What is known of content while it comes.
struct Digested {
    hash: Context,
    head: Vec<u8>,
}

/// What a complete upload turned out to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    pub hash: Hash,
    pub size: u64,
    pub media: MediaType,
}

/// Content that is being read.
#[derive(Debug)]
pub struct Content(File);

impl std::fmt::Debug for Digested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digested").finish_non_exhaustive()
    }
}

impl FileStore {
    /// Makes the folder where it is not there. Below `free_bytes_min` bytes of free space nothing is taken in.
    pub fn open(data: &Path, free_bytes_min: u64) -> io::Result<Self> {
        let store = Self::at(data, free_bytes_min);
        for folder in [store.folder.clone(), store.incoming(), store.folder.join("content")] {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        }
        sync(&store.folder)?;
        sync(data)?;
        Ok(store)
    }

    /// The folder as it is, if it is there.
    fn at(data: &Path, free_bytes_min: u64) -> Self {
        Self { folder: data.join(FOLDER), free_bytes_min, free: None }
    }

    /// The same, on a disk of which `free` says how much is free.
    pub fn measured_by(self, free: Free) -> Self {
        Self { free: Some(free), ..self }
    }

    /// Whether there is space for so many bytes more.
    pub fn has_space(&self, bytes: u64) -> io::Result<bool> {
        let free = match &self.free {
            Some(free) => free(),
            None => {
                let stat = rustix::fs::statvfs(&self.folder)?;
                stat.f_bavail.saturating_mul(stat.f_frsize)
            }
        };
        Ok(free >= self.free_bytes_min.saturating_add(bytes))
    }

    /// Begins an upload, or goes on with one of which so many bytes have been acknowledged: what came after them is
    /// thrown away, because nobody knows whether it survived what broke the upload off.
    pub fn resume(&self, id: FileId, bytes: u64) -> io::Result<Incoming> {
        let path = self.incoming().join(id.to_string());
        let opened = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(&path);
        let mut file = opened?;
        if file.metadata()?.len() < bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an upload has lost what was acknowledged"));
        }
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        let digested = (bytes == 0).then(Digested::default);
        Ok(Incoming { folder: self.incoming(), file, bytes, digested })
    }

    /// Throws away what has come of an upload, if anything has.
    pub fn abandon(&self, id: FileId) -> io::Result<()> {
        gone(fs::remove_file(self.incoming().join(id.to_string())))
    }

    /// Keeps a complete upload as content. When it returns that is on disk; the same content is kept once. May be done
    /// again where it was broken off.
    pub fn keep(&self, id: FileId, hash: &Hash, size: u64) -> io::Result<()> {
        let (path, shard) = (self.path_of(hash), self.shard_of(hash));
        DirBuilder::new().recursive(true).mode(0o700).create(&shard)?;
        let known = fs::metadata(&path).is_ok_and(|known| known.len() == size);
        if !known {
            fs::rename(self.incoming().join(id.to_string()), &path)?;
        }
        // Also where it was there: what put it there may have been broken off before this.
        sync(&self.folder.join("content"))?;
        sync(&shard)?;
        if known { self.abandon(id) } else { Ok(()) }
    }

    /// Opens content for reading.
    pub fn content(&self, hash: &Hash) -> io::Result<Content> {
        File::open(self.path_of(hash)).map(Content)
    }

    /// Throws content away, if it is there.
    pub fn remove(&self, hash: &Hash) -> io::Result<()> {
        gone(fs::remove_file(self.path_of(hash)))
    }

    /// How much of an upload lies here.
    fn came(&self, id: FileId) -> io::Result<u64> {
        match fs::metadata(self.incoming().join(id.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            known => known.map(|known| known.len()),
        }
    }

    /// The uploads of which anything lies here.
    pub fn uploads(&self) -> io::Result<Vec<FileId>> {
        let names = names(&self.incoming())?;
        Ok(names.iter().filter_map(|name| Uuid::try_parse(name).ok()).map(FileId).collect())
    }

    /// The content in one of the [`SHARDS`] folders, with its sizes.
    pub fn contents(&self, shard: usize) -> io::Result<Vec<(Hash, u64)>> {
        let folder = self.folder.join("content").join(format!("{shard:02x}"));
        let mut found = Vec::new();
        for name in names(&folder)? {
            let Some(hash) = parse(&name) else { continue };
            // It may have been removed meanwhile.
            if let Ok(known) = fs::metadata(folder.join(&name)) {
                found.push((hash, known.len()));
            }
        }
        Ok(found)
    }

    /// Reads content from end to end; its hash as it is, and how much there is.
    pub fn digest(&self, hash: &Hash) -> io::Result<(Hash, u64)> {
        let mut file = File::open(self.path_of(hash))?;
        let (digested, bytes) = digest(&mut file)?;
        Ok((digested.finish().0, bytes))
    }

    fn incoming(&self) -> PathBuf {
        self.folder.join("incoming")
    }

    fn shard_of(&self, hash: &Hash) -> PathBuf {
        self.folder.join("content").join(format!("{:02x}", hash.0[0]))
    }

    fn path_of(&self, hash: &Hash) -> PathBuf {
        self.shard_of(hash).join(hash.to_string())
    }
}

impl Incoming {
    /// How much of it has come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends; it is on disk after the next [`Incoming::sync`].
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)?;
        self.bytes += piece.len() as u64;
        if let Some(digested) = &mut self.digested {
            digested.add(piece);
        }
        Ok(())
    }

    /// Takes back what came after the first so many bytes.
    pub fn rewind(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.file.seek(SeekFrom::Start(bytes))?;
        self.bytes = bytes;
        self.digested = (bytes == 0).then(Digested::default);
        Ok(())
    }

    /// Has the disk have all of it, and know that there is such an upload.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()?;
        sync(&self.folder)
    }

    /// Says what it is, now that all of it has come, and has the disk have it. Reads it once more where it came in
    /// parts.
    pub fn complete(&mut self) -> io::Result<Found> {
        self.sync()?;
        let digested = match self.digested.take() {
            Some(digested) => digested,
            None => {
                self.file.seek(SeekFrom::Start(0))?;
                let (digested, bytes) = digest(&mut self.file)?;
                if bytes != self.bytes {
                    return Err(io::Error::other("an upload is not as long as what was written"));
                }
                digested
            }
        };
        let (hash, head) = digested.finish();
        Ok(Found { hash, size: self.bytes, media: sniff::media_type(&head) })
    }
}

impl Content {
    /// Fills `piece` with what lies at `at`.
    pub fn read(&self, at: u64, piece: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(piece, at)
    }

    pub fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Default for Digested {
    fn default() -> Self {
        Self { hash: Context::new(&SHA256), head: Vec::new() }
    }
}

impl Digested {
    fn add(&mut self, piece: &[u8]) {
        self.hash.update(piece);
        let missing = HEAD_BYTES - self.head.len();
        self.head.extend_from_slice(&piece[..missing.min(piece.len())]);
    }

    fn finish(self) -> (Hash, Vec<u8>) {
        let hash = self.hash.finish();
        (Hash(hash.as_ref().try_into().expect("SHA-256 has 32 bytes")), self.head)
    }
}

fn digest(file: &mut File) -> io::Result<(Digested, u64)> {
    let (mut digested, mut bytes, mut piece) = (Digested::default(), 0, vec![0; READ_BYTES]);
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok((digested, bytes));
        }
        digested.add(&piece[..read]);
        bytes += read as u64;
    }
}

/// The names in a folder; none where there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(name: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if name.len() != 64 || name.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(Hash(hash))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// What is not there is gone as well.
fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_kept_once_and_known_by_its_hash() {
        let (dir, store) = store();
        let (one, other) = (whole(&store, 1, b"hello"), whole(&store, 2, b"hello"));
        assert_eq!(one, other);
        assert_eq!(one.hash.to_string(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(store.uploads().unwrap(), []);
        assert_eq!(store.contents(0x2c).unwrap(), [(one.hash, 5)]);
        let mut piece = [0; 3];
        store.content(&one.hash).unwrap().read(1, &mut piece).unwrap();
        assert_eq!(&piece, b"ell");
        store.remove(&one.hash).unwrap();
        store.remove(&one.hash).unwrap();
        assert_eq!(store.contents(0x2c).unwrap(), []);
        drop(dir);
    }

    #[test]
    fn an_upload_goes_on_where_it_was_acknowledged_and_hashes_the_same() {
        let (_dir, store) = store();
        let mut incoming = store.resume(id(1), 0).unwrap();
        incoming.write(b"hello, and what nobody has acknowledged").unwrap();
        drop(incoming);
        let mut incoming = store.resume(id(1), 5).unwrap();
        assert_eq!(incoming.bytes(), 5);
        incoming.write(b", wor").unwrap();
        incoming.rewind(7).unwrap();
        incoming.write(b"world").unwrap();
        let found = incoming.complete().unwrap();
        assert_eq!(found, whole(&store, 2, b"hello, world"));
        assert!(store.resume(id(1), 13).is_err(), "what was acknowledged is not there");
        store.abandon(id(1)).unwrap();
        assert_eq!(store.uploads().unwrap(), []);
    }

    #[test]
    fn content_that_was_cut_short_is_healed_by_the_next_upload_of_it() {
        let (_dir, store) = store();
        let found = whole(&store, 1, b"hello");
        fs::write(store.path_of(&found.hash), b"hel").unwrap();
        assert_ne!(store.digest(&found.hash).unwrap(), (found.hash, 5));
        whole(&store, 2, b"hello");
        assert_eq!(store.digest(&found.hash).unwrap(), (found.hash, 5));
    }

    #[test]
    fn nothing_is_taken_in_beyond_the_space_that_is_kept_free() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileStore::open(dir.path(), 0).unwrap().has_space(1).unwrap());
        assert!(!FileStore::open(dir.path(), u64::MAX).unwrap().has_space(1).unwrap());
        assert!(!FileStore::open(dir.path(), 0).unwrap().has_space(u64::MAX).unwrap());
    }

    fn whole(store: &FileStore, number: u128, content: &[u8]) -> Found {
        let mut incoming = store.resume(id(number), 0).unwrap();
        incoming.write(content).unwrap();
        let found = incoming.complete().unwrap();
        store.keep(id(number), &found.hash, found.size).unwrap();
        found
    }

    fn id(number: u128) -> FileId {
        FileId(Uuid::from_u128(number))
    }

    fn store() -> (tempfile::TempDir, FileStore) {
        let dir = tempfile::tempdir().unwrap();
        let store = FileStore::open(dir.path(), 0).unwrap();
        (dir, store)
    }
}
