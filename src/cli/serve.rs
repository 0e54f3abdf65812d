//! `chinwag serve`: from a command line to a checked configuration and a running server.

use std::io::Write;
use std::path::PathBuf;

use crate::config::{Config, Flags, Mistakes};
use crate::logs;
use crate::server::{self, Process, Started};

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
    /// Start although acknowledged records are missing; clients are told, because a new epoch begins
    #[arg(long)]
    accept_data_loss: bool,
    /// A configuration file in TOML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What somebody who tries it out does after `serve --dev`.
const NEXT: &str = "next: chinwag token create --user ann; then chinwag pub and chinwag sub (see their --help)";

pub fn run(args: &Args) -> Result<(), Failure> {
    let flags = Flags { listen: args.listen.clone(), data: args.data.clone(), dev: args.dev };
    let read = || Config::load(&flags, std::env::vars_os(), args.config.as_deref());
    let config = read().map_err(|mistakes| super::config::wrong(&mistakes))?;
    serve(&config, args.accept_data_loss, &read)
}

/// Runs the server and stays until it has ended.
fn serve(
    config: &Config,
    accept_data_loss: bool,
    read_again: &dyn Fn() -> Result<Config, Mistakes>,
) -> Result<(), Failure> {
    let process = Process { accept_data_loss, logs: logs::start(&config.log), read_again };
    let data = config.server.data.display().to_string();
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let ready = |started: &Started| {
        let address = started.address;
        // Whoever started us may have closed the other end; that is no reason not to serve.
        let mut out = std::io::stdout();
        let _ = writeln!(out, "listening on {scheme}://{address}").and_then(|()| out.flush());
        if config.server.dev {
            let _ = writeln!(out, "{NEXT}").and_then(|()| out.flush());
        }
        if let Some(link) = &started.owner {
            let told = "whoever opens this within 30 minutes, once, becomes the owner:";
            let _ = writeln!(out, "{told}\n{link}").and_then(|()| out.flush());
        }
        tracing::info!(%address, data, "ready");
    };
    server::run(config, &process, ready).map_err(|error| Failure::new(Exit::Of(error.exit_code()), error.to_string()))
}
