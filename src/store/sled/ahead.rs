//! Room ahead of the log: zeros that are in the file before sled writes there.
//!
//! A sync of a file that has grown waits for the file system's journal too; one of a file that has not waits for the
//! data alone. So the file is kept a segment longer than what sled uses. Zeros are what sled itself writes behind its
//! last message when it opens, and to it a segment of zeros is a free one.
//!
//! Only the end of the file is ever appended to, which the system does in one step with finding it. So whatever sled
//! does meanwhile, written by another thread or cut off, nothing of it is overwritten.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// How much is appended beside one commit: about as much again as its own sync takes.
const PIECE: usize = 256 * 1024;

/// A group that writes more pays more for the zeros than for the growth.
pub(super) const GROUP_BYTES_MAX: usize = 32 * 1024;

/// sled begins a segment with a header that is never all zeros.
const SEGMENT_HEADER: usize = 20;

pub(super) struct Ahead {
    file: File,
    segment: u64,
    /// Not on this disk, or not any more.
    given_up: bool,
}

impl Ahead {
    pub(super) fn open(file: &Path, segment: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).open(file)?;
        Ok(Self { file, segment: segment as u64, given_up: false })
    }

    /// Appends a piece, unless there is a whole segment that has not been begun.
    pub(super) fn extend(&mut self) {
        if self.given_up {
            return;
        }
        if let Err(error) = self.try_extend() {
            // The log is as well off without; whether it can be written is for its own writes to say.
            tracing::warn!(%error, "the log's file is not lengthened ahead any more");
            self.given_up = true;
        }
    }

    fn try_extend(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        let begun = len % self.segment;
        if begun == 0 && len > 0 && !self.is_begun(len - self.segment)? {
            return Ok(());
        }
        let left = usize::try_from(self.segment - begun).unwrap_or(PIECE);
        self.file.write_all(&ZEROS[..left.min(PIECE)])
    }

    fn is_begun(&self, segment: u64) -> io::Result<bool> {
        let mut header = [0; SEGMENT_HEADER];
        self.file.read_exact_at(&mut header, segment)?;
        Ok(header != [0; SEGMENT_HEADER])
    }
}

static ZEROS: [u8; PIECE] = [0; PIECE];

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: usize = 3 * PIECE;

    #[test]
    fn the_file_ends_with_one_segment_that_is_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, [7; 100]).unwrap();
        let mut ahead = Ahead::open(&path, SEGMENT).unwrap();
        for _ in 0..20 {
            ahead.extend();
        }
        let len = || usize::try_from(std::fs::metadata(&path).unwrap().len()).unwrap();
        assert_eq!(len(), 2 * SEGMENT);
        ahead.extend();
        assert_eq!(len(), 2 * SEGMENT);

        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[7; 100], SEGMENT as u64).unwrap();
        ahead.extend();
        assert_eq!(len(), 2 * SEGMENT + PIECE);
        for _ in 0..20 {
            ahead.extend();
        }
        assert_eq!(len(), 3 * SEGMENT);
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((&bytes[..100], &bytes[SEGMENT..SEGMENT + 100]), (&[7; 100][..], &[7; 100][..]));
        assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 200);
    }

    #[test]
    fn a_file_that_is_cut_off_is_lengthened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, vec![7; SEGMENT]).unwrap();
        let mut ahead = Ahead::open(&path, SEGMENT).unwrap();
        for cut in [2 * SEGMENT, SEGMENT, SEGMENT / 2] {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(cut as u64).unwrap();
            for _ in 0..20 {
                ahead.extend();
            }
            assert_eq!(std::fs::metadata(&path).unwrap().len(), 2 * SEGMENT as u64);
        }
    }
}
