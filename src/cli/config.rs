//! `chinwag config …`: check a configuration, show what holds, begin a file.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::auth::{Identity, IdentityError, Secret};
use crate::clock::{self, SystemClock};
use crate::config::{Config, Flags, Mistakes, render};
use crate::tls::Certificate;

use super::failure::{Exit, Failure};
use super::output;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Check a configuration as `serve` would, and tell every mistake
    Check(Source),
    /// Show what holds, as a file
    Show {
        #[command(flatten)]
        source: Source,
        /// Say of each value where it comes from
        #[arg(long)]
        origin: bool,
    },
    /// Print a file with every setting, its default and what it is for
    Default,
    /// Print a JSON Schema of the file, for editors
    Schema,
}

/// What `serve` is going to be given.
#[derive(clap::Args)]
pub struct Source {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As for `serve`
    #[arg(long)]
    dev: bool,
    /// As for `serve`
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// As for `serve`
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Check(source) => check(source),
        Command::Show { source, origin } => print(&render::shown(&load(source)?, *origin)),
        Command::Default => print(&render::defaults()),
        Command::Schema => print(&render::schema()),
    }
}

/// How a command ends that was given a configuration with mistakes.
pub fn wrong(mistakes: &Mistakes) -> Failure {
    Failure::new(Exit::Config, format!("the configuration is wrong\n{mistakes}"))
}

fn check(source: &Source) -> Result<(), Failure> {
    let config = load(source)?;
    let mut mistakes = Vec::new();
    if let Some(files) = &config.tls {
        mistakes.extend(Certificate::load(files).err().map(|error| error.to_string()));
    }
    // Whose secret it is does not matter here: that of a data directory is not needed to check the keys of others.
    let secret = Secret::new(clock::random_wide().to_le_bytes().repeat(2)).expect("32 bytes are enough");
    if let Err(IdentityError(wrong)) = Identity::new(&config.auth, secret, Arc::new(SystemClock)) {
        mistakes.extend(wrong);
    }
    if !mistakes.is_empty() {
        return Err(wrong(&Mistakes(mistakes)));
    }
    print("the configuration is right\n")
}

fn load(source: &Source) -> Result<Config, Failure> {
    let flags = Flags { listen: source.listen.clone(), data: source.data.clone(), dev: source.dev };
    Config::load(&flags, std::env::vars_os(), source.config.as_deref()).map_err(|mistakes| wrong(&mistakes))
}

fn print(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(output::failed)
}
