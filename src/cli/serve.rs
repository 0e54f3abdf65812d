//! `chinwag serve`: from a command line to a checked configuration and a running server.

use std::path::PathBuf;

use crate::config::{Config, Flags};

use super::failure::{Exit, Failure};

/// Run a server.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  chinwag serve --dev                                   try it out on this machine
  chinwag serve --listen 0.0.0.0:7700 --data /srv/chat  for others to reach
  chinwag serve --config /etc/chinwag.toml
  CHINWAG_STORE__CACHE_MB=256 chinwag serve             any setting, from the environment

Flags stand over the environment (CHINWAG_SECTION__KEY), that over the file, that over the defaults.")]
pub struct Args {
    /// For trying out on this machine: loopback addresses only; the data directory stays
    #[arg(long)]
    dev: bool,
    /// Where to listen [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// The data directory; it is made when it is not there [default: chinwag-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// A configuration file in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<(), Failure> {
    let flags = Flags { listen: args.listen.clone(), data: args.data.clone(), dev: args.dev };
    let config = Config::load(&flags, std::env::vars_os(), args.config.as_deref())
        .map_err(|mistakes| Failure::new(Exit::Config, format!("the configuration is wrong\n{mistakes}")))?;
    serve(config)
}

/// Hands over to the server and stays until it has ended.
fn serve(_config: Config) -> Result<(), Failure> {
    Err(Failure::new(Exit::Fault, "this build has no server"))
}
