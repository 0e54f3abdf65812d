//! Standard output, a line at a time.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncWriteExt, Stdout};

use super::failure::{Exit, Failure};

/// Holds lines back until they are flushed, so that many at once are one write. Whoever waits for something flushes
/// first. A reader that does not read makes the writer wait, and a wait can be given up: what was not written then is
/// still held.
pub struct Output {
    held: BytesMut,
    out: Stdout,
}

/// As much is held back at most, and one line.
const HELD_BYTES_MAX: usize = 64 * 1024;

impl Output {
    pub fn new() -> Self {
        Self { held: BytesMut::new(), out: tokio::io::stdout() }
    }

    pub async fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.held.extend_from_slice(line.as_bytes());
        self.held.extend_from_slice(b"\n");
        if self.held.len() < HELD_BYTES_MAX {
            return Ok(());
        }
        self.flush().await
    }

    pub async fn flush(&mut self) -> Result<(), Failure> {
        self.out.write_all_buf(&mut self.held).await.map_err(failed)?;
        self.out.flush().await.map_err(failed)
    }

    /// Whether lines are held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }
}

/// A reader that went away, as `head` does, is no news to anybody.
pub fn failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(Exit::Io);
    }
    Failure::new(Exit::Io, format!("cannot write to standard output: {error}"))
}
