//! Checks the bytes of files against the rows that name them.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use super::{FileStore, SHARDS};
use crate::domain::file::Hash;
use crate::domain::{File, FileId};
use crate::store::StoreError;
use crate::store::codec::damage;
use crate::store::rows::{self, Filed, Row, Unfinished};

/// How closely content is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Depth {
    /// That it is there, and as large as it was.
    #[default]
    Sizes,
    /// All of it is read, and has to have its hash.
    Hashes,
}

/// Looks at the rows of all files, one after the other.
pub struct Check {
    disk: FileStore,
    depth: Depth,
    files: u64,
    contents: HashSet<Hash>,
    uploads: HashSet<FileId>,
}

impl Check {
    /// Of the files in a data directory. Changes nothing there.
    pub fn of(data: &Path, depth: Depth) -> Self {
        let (contents, uploads) = (HashSet::new(), HashSet::new());
        Self { disk: FileStore::at(data, 0), depth, files: 0, contents, uploads }
    }

    /// Looks at what one of the rows names; other rows are passed over.
    pub fn row(&mut self, key: &[u8], row: &[u8]) -> Result<(), StoreError> {
        if key.starts_with(rows::FILES) {
            let Filed { file, .. } = Filed::decode(row)?;
            self.files += 1;
            self.uploads.insert(file.id);
            return if self.contents.insert(file.hash) { self.content(&file) } else { Ok(()) };
        }
        if key.starts_with(rows::UPLOADS) {
            let Unfinished { id, offset, .. } = Unfinished::decode(row)?;
            self.uploads.insert(id);
            let came = self.disk.came(id).map_err(|error| failed(&format!("upload {id}"), &error))?;
            if came < offset {
                return Err(damage(format!("upload {id} has {came} bytes, and {offset} were acknowledged")));
            }
        }
        Ok(())
    }

    fn content(&self, file: &File) -> Result<(), StoreError> {
        let File { id, hash, size, .. } = file;
        let of_file = |error: io::Error| failed(&format!("file {id}"), &error);
        // What was complete when the process ended is put in its place by the next start.
        let bytes = match self.disk.content(hash) {
            Ok(content) => content.size().map_err(of_file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let came = self.disk.came(*id).map_err(of_file)?;
                let there = came == *size;
                return if there { Ok(()) } else { Err(damage(format!("file {id}: its content {hash} is missing"))) };
            }
            Err(error) => return Err(of_file(error)),
        };
        if bytes != *size {
            return Err(damage(format!("file {id}: its content {hash} has {bytes} bytes and should have {size}")));
        }
        if self.depth == Depth::Hashes && self.disk.digest(hash).map_err(of_file)?.0 != *hash {
            return Err(damage(format!("file {id}: its content {hash} is not what it was")));
        }
        Ok(())
    }

    /// How many files there are, and what lies on the disk and belongs to none: no damage, a server throws it away.
    pub fn finish(self) -> io::Result<(u64, Vec<String>)> {
        let mut leftovers = Vec::new();
        for id in self.disk.uploads()? {
            if !self.uploads.contains(&id) {
                leftovers.push(format!("upload {id}"));
            }
        }
        for shard in 0..SHARDS {
            let unknown = self.disk.contents(shard)?.into_iter().filter(|(hash, _)| !self.contents.contains(hash));
            leftovers.extend(unknown.map(|(hash, bytes)| format!("content {hash} of {bytes} bytes")));
        }
        Ok((self.files, leftovers))
    }
}

fn failed(what: &str, error: &io::Error) -> StoreError {
    damage(format!("{what} cannot be read: {error}"))
}
