//! `chinwag health`: whether a server takes commands now, for scripts and for whoever supervises it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::DATA_DEFAULT;

use super::admin::{Desk, ask};
use super::failure::{Exit, Failure};
use super::output;

/// Ask a running server whether it takes commands: ends with 0 if it does, with 1 if not.
#[derive(clap::Args)]
#[command(after_help = "\
Without --url the server is asked through the socket in its data directory.

Examples:
  chinwag health --data /srv/chat
  chinwag health --url https://chat.example")]
pub struct Args {
    /// The data directory of the server
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
    /// Where the server listens, to ask it over the network
    #[arg(long, value_name = "URL")]
    url: Option<reqwest::Url>,
}

/// How long an answer may take: supervisors ask every few seconds.
const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(args: &Args) -> Result<(), Failure> {
    let asked = ask(async {
        let asking = async {
            match &args.url {
                Some(url) => over_the_network(url).await,
                None => Desk::of(&args.data)?.get("/health").await.map(drop),
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(unwell("it does not answer")))
    });
    // Whatever the reason is, there is one answer for whoever supervises it.
    asked.map_err(|failure| Failure { exit: Exit::Unwell, ..failure })?;
    writeln!(io::stdout(), "ready").map_err(output::failed)
}

fn unwell(why: &str) -> Failure {
    Failure::new(Exit::Unwell, why)
}

async fn over_the_network(url: &reqwest::Url) -> Result<(), Failure> {
    let url = url.join("/readyz").map_err(|error| unwell(&error.to_string()))?;
    let answer = reqwest::get(url).await.map_err(|error| unwell(&described(&error)))?;
    let status = answer.status();
    let body = answer.text().await.map_err(|error| unwell(&described(&error)))?;
    if status.is_success() { Ok(()) } else { Err(unwell(&format!("not ready ({status}): {}", body.trim()))) }
}

/// An error with what is below it, where the reason is.
fn described(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text = format!("{text}: {error}");
        below = error.source();
    }
    text
}
