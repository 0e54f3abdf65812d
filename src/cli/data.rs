//! `chinwag data …`: work on a data directory that no server uses.

use std::path::{Path, PathBuf};

use crate::config::DATA_DEFAULT;
use crate::store::files::Depth;
use crate::store::sled;

use super::failure::{Exit, Failure};

#[derive(clap::Subcommand)]
pub enum Command {
    Verify(Args),
}

/// Read everything in a data directory and check it against its checksums.
#[derive(clap::Args)]
#[command(after_help = "\
Changes nothing. Ends with 0 when all is well.

Example:
  chinwag data verify --data /srv/chat")]
pub struct Args {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// Read all files, too, and check them against their hashes, not their sizes alone
    #[arg(long)]
    hashes: bool,
}

pub fn verify(args: &Args) -> Result<(), Failure> {
    check(&args.data, if args.hashes { Depth::Hashes } else { Depth::Sizes })
}

/// Prints what the directory holds and what is wrong with it.
fn check(data: &Path, depth: Depth) -> Result<(), Failure> {
    let report =
        sled::verify(data, depth).map_err(|error| Failure::new(Exit::Of(error.exit_code()), error.to_string()))?;
    let sled::Report { chunks, records, streams, rows, files, leftovers, damage } = &report;
    println!("{records} records of {streams} streams in {chunks} chunks, {rows} rows, {files} files");
    for leftover in leftovers {
        println!("left over: {leftover}");
    }
    for damage in damage {
        println!("damaged: {damage}");
    }
    if report.is_whole() {
        return Ok(());
    }
    let advice = "keep a copy of the directory and restore a backup into another one";
    Err(Failure::new(Exit::Io, format!("{} damages were found; {advice}", damage.len())))
}
