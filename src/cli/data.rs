//! `chinwag data …`: work on a data directory that no server uses.

use std::path::{Path, PathBuf};

use crate::config::DATA_DEFAULT;
use crate::store::files::Depth;
use crate::store::sled::{self, Options, Stage};

use super::failure::{Exit, Failure};

#[derive(clap::Subcommand)]
pub enum Command {
    Verify(Args),
    Compact(CompactArgs),
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

/// Write what is alive in a data directory anew, so that nothing is left of what was deleted.
#[derive(clap::Args)]
#[command(after_help = "\
Messages that were deleted, or were kept for long enough, are gone for everybody at once, but their bytes stay in the
log's files until these are used again. This writes all that is alive into a new log beside the old one, checks it, puts
it in its place, and removes the old one. The server has to be stopped. Uploaded files are not touched. As much space has
to be free as is alive, and half as much again; how much that is, is said before it begins. When it is cut short, the next
start of a server, or the next compact, goes on from the old log or with the new one; nothing is lost.

The blocks that the old log had on the disk are free then, and not overwritten; so are older backups.

Example:
  chinwag data compact --data /srv/chat")]
pub struct CompactArgs {
    /// The data directory
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
}

/// Compacts the directory, and says what it takes and what it has brought.
pub fn compact(args: &CompactArgs) -> Result<(), Failure> {
    let tell = |stage| match stage {
        Stage::Begins { alive, needed, free } => {
            println!("{alive} bytes are alive; up to {needed} are needed while they are written, and {free} are free");
        }
        Stage::Written => println!("what is alive has been written, and is as it was"),
        Stage::Whole | Stage::Between | Stage::Swapped | Stage::Removed => {}
    };
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let compacted = sled::compact(&args.data, options, tell);
    let compacted = compacted.map_err(|error| Failure::new(Exit::Of(error.exit_code()), error.to_string()))?;
    let sled::Compacted { before, after, report } = compacted;
    let sled::Report { chunks, records, streams, rows, .. } = &report;
    println!("{records} records of {streams} streams in {chunks} chunks, {rows} rows");
    println!("the log has {after} bytes; it had {before}");
    Ok(())
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
