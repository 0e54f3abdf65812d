//! `chinwag health`: whether a server takes commands now, for scripts and for whoever supervises it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::DATA_DEFAULT;
use crate::http::admin::SOCKET;

use super::failure::{Exit, Failure};

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

/// As much of an answer is looked at.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

pub fn run(args: &Args) -> Result<(), Failure> {
    let answer = match &args.url {
        Some(url) => over_the_network(url),
        None => through_the_socket(&args.data.join(SOCKET)),
    };
    match answer {
        Ok((200, _)) => {
            println!("ready");
            Ok(())
        }
        Ok((status, body)) => Err(unwell(&format!("not ready ({status}): {}", body.trim()))),
        Err(why) => Err(unwell(&why)),
    }
}

fn unwell(why: &str) -> Failure {
    Failure::new(Exit::Unwell, why)
}

fn through_the_socket(path: &Path) -> Result<(u16, String), String> {
    let trouble = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut stream = UnixStream::connect(path).map_err(trouble)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(trouble)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(trouble)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").map_err(trouble)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).map_err(trouble)?;
    parse(&answer).ok_or_else(|| format!("{}: what answers there does not speak HTTP", path.display()))
}

/// The status and the body of an answer.
fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.to_owned()))
}

fn over_the_network(url: &reqwest::Url) -> Result<(u16, String), String> {
    let ask = async {
        let url = url.join("/readyz").map_err(|error| error.to_string())?;
        let client = reqwest::Client::builder().timeout(PATIENCE).build().map_err(|error| error.to_string())?;
        let answer = client.get(url).send().await.map_err(|error| described(&error))?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await.map_err(|error| described(&error))?))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(ask)
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
