//! `chinwag token create`: mint a token with the secret of a data directory. Takes no lock, so a server may be running.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use uuid::Uuid;

use crate::auth::{Claims, Keyring, LIFETIME_MAX, Secrets};
use crate::clock::{Clock, SystemClock};
use crate::config::DATA_DEFAULT;
use crate::domain::{TenantId, UserId};

use super::failure::{Exit, Failure};
use super::output;

#[derive(clap::Subcommand)]
pub enum Command {
    Create(Args),
}

/// Make a token for a user, and print it.
#[derive(clap::Args)]
#[command(after_help = "\
Whoever has the token is that user until it ends, so give it over a safe way and do not write it into a log. \
The secret it is signed with is in the data directory; it is made when there is none yet.

Examples:
  chinwag token create --user ann
  export CHINWAG_TOKEN=$(chinwag token create --user ann --ttl 24h --data /srv/chat)")]
pub struct Args {
    /// Who the bearer is
    #[arg(long, value_name = "ID", value_parser = UserId::new)]
    user: UserId,
    /// The tenant the user belongs to
    #[arg(long, value_name = "T", value_parser = TenantId::new, default_value = "default")]
    tenant: TenantId,
    /// How long the token lives: 24h at most
    #[arg(long, value_name = "TIME", value_parser = lifetime, default_value = "12h")]
    ttl: Duration,
    /// The data directory of the server
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
}

pub fn create(args: Args) -> Result<(), Failure> {
    let secrets = Secrets::open(&args.data).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    if secrets.made {
        eprintln!(
            "chinwag: made a new secret in {}; a token is good for a server that uses this directory",
            args.data.display()
        );
    }
    let claims = Claims {
        tenant: args.tenant,
        user: args.user,
        issued_at: SystemClock.now(),
        lifetime: args.ttl,
        id: Uuid::new_v4(),
    };
    let token = Keyring::new(&secrets.token)
        .mint(&claims)
        .map_err(|error| Failure::new(Exit::Fault, format!("cannot mint a token: {error}")))?;
    writeln!(io::stdout(), "{token}").map_err(output::failed)
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if lifetime > LIFETIME_MAX {
        return Err("a token lives for at most 24h; whoever needs one for longer asks for a new one".to_owned());
    }
    if lifetime < Duration::from_secs(1) {
        return Err("a token has to live for at least 1s".to_owned());
    }
    Ok(lifetime)
}
