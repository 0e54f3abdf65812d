//! Standard output, a line at a time.

use std::io::{self, BufWriter, Stdout, Write};

use super::failure::{Exit, Failure};

/// Holds lines back until they are flushed, so that many at once are one write. Whoever waits for something flushes
/// first.
pub struct Output {
    out: BufWriter<Stdout>,
}

impl Output {
    pub fn new() -> Self {
        Self { out: BufWriter::with_capacity(64 * 1024, io::stdout()) }
    }

    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n")).map_err(failed)
    }

    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(failed)
    }

    /// Whether lines are held back.
    pub fn holds(&self) -> bool {
        !self.out.buffer().is_empty()
    }
}

/// A reader that went away, as `head` does, is no news to anybody.
fn failed(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::silent(Exit::Io);
    }
    Failure::new(Exit::Io, format!("cannot write to standard output: {error}"))
}
