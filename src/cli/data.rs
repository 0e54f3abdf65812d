//! `chinwag data …`: work on a data directory that no server uses.

use std::path::{Path, PathBuf};

use crate::config::DATA_DEFAULT;

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
}

pub fn verify(args: &Args) -> Result<(), Failure> {
    check(&args.data)
}

/// Hands over to the store.
fn check(_data: &Path) -> Result<(), Failure> {
    Err(Failure::new(Exit::Fault, "this build has no store"))
}
