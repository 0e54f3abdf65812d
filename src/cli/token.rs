//! `chinwag token`: mint a token with the secret of a data directory, look into one, check one, revoke. None takes the
//! directory's lock, so a server may be running.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::auth::claims::Unverified;
use crate::auth::{Claims, Identity, Keyring, LIFETIME_MAX, Secrets, TOKEN_BYTES_MAX};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DATA_DEFAULT, Flags};
use crate::domain::{Principal, TenantId, TokenId, UserId};
use crate::store::sled;

use super::admin::{Desk, ask};
use super::failure::{Exit, Failure};
use super::output;

#[derive(clap::Subcommand)]
pub enum Command {
    Create(Args),
    Inspect(Inspect),
    Verify(Verify),
    Revoke(Revoke),
}

/// Carries out a command about tokens.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(args),
        Command::Inspect(args) => inspect(args),
        Command::Verify(args) => verify(args),
        Command::Revoke(args) => revoke(&args),
    }
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

fn create(args: Args) -> Result<(), Failure> {
    // A secret in a folder of somebody else's makes tokens that no server takes.
    sled::check_owner(&args.data).map_err(|error| Failure::new(Exit::Of(error.exit_code()), error.to_string()))?;
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
        login: None,
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

/// Show what a token says, without checking that it is true.
#[derive(clap::Args)]
pub struct Inspect {
    /// The token; - reads it from standard input, where no list of processes shows it
    #[arg(value_name = "TOKEN")]
    token: String,
}

fn inspect(args: Inspect) -> Result<(), Failure> {
    let token = read(args.token)?;
    let unverified = Unverified::read(&token).map_err(|error| Failure::new(Exit::Refused, error.to_string()))?;
    let now = SystemClock.now().0 / 1000;
    let mut shown =
        String::from("NOT VERIFIED: anybody can write a token that says this. See `chinwag token verify`.\n");
    let header = serde_json::to_value(unverified.header()).unwrap_or_default();
    for (name, value) in header.as_object().into_iter().flatten() {
        shown.push_str(&format!("header {name}: {value}\n"));
    }
    for (name, value) in unverified.claims().iter() {
        let told = match (name.as_str(), value.as_i64()) {
            ("exp" | "iat" | "nbf", Some(seconds)) => format!("  ({})", at(seconds, now)),
            _ => String::new(),
        };
        shown.push_str(&format!("{name}: {value}{told}\n"));
    }
    io::stdout().write_all(shown.as_bytes()).map_err(output::failed)
}

/// Check a token as a server with this data directory does: say whose it is, or exit with 77 and say why not.
#[derive(clap::Args)]
pub struct Verify {
    /// The token; - reads it from standard input, where no list of processes shows it
    #[arg(value_name = "TOKEN")]
    token: String,
    /// The data directory of the server [default: that of its configuration, or chinwag-data]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// The server's configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn verify(args: Verify) -> Result<(), Failure> {
    let token = read(args.token)?;
    let flags = Flags { data: args.data, ..Flags::default() };
    let config = Config::load(&flags, std::env::vars_os(), args.config.as_deref())
        .map_err(|mistakes| Failure::new(Exit::Config, format!("the configuration is wrong\n{mistakes}")))?;
    let data = &config.server.data;
    if !data.is_dir() {
        let what = format!("there is no data directory at {}; name the server's with --data", data.display());
        return Err(Failure::new(Exit::Io, what));
    }
    let secrets = Secrets::open(data).map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
    let identity = Identity::new(&config.auth, secrets.token, std::sync::Arc::new(SystemClock))
        .map_err(|error| Failure::new(Exit::Config, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Fault, format!("cannot start: {error}")))?;
    let now = SystemClock.now();
    let verified = runtime.block_on(identity.verify(&token, now));
    let principal = verified
        .map_err(|error| Failure::new(Exit::Token, format!("the token is no good: {error} ({})", error.code())))?;
    let revoked = match ask(async { Desk::of(data)?.get("/revocations").await }) {
        Ok(list) if denied(&list, &principal) => {
            return Err(Failure::new(Exit::Token, "the token is no good: it has been revoked (token_revoked)"));
        }
        Ok(_) => "no",
        Err(_) => "not known, because no server runs on this directory",
    };
    let ends = principal.expires_at.0 / 1000;
    let id = principal.token.as_ref().map_or("none", TokenId::as_str);
    let shown = format!(
        "tenant: {}\nuser: {}\nid: {id}\naccepted until: {}\nrevoked: {revoked}\n",
        principal.tenant.as_str(),
        principal.user.as_str(),
        at(ends, now.0 / 1000),
    );
    io::stdout().write_all(shown.as_bytes()).map_err(output::failed)
}

/// Whether the server's list of revocations has one that is about `principal`.
fn denied(list: &Value, principal: &Principal) -> bool {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list["revocations"].as_array().into_iter().flatten().any(|revocation| {
        if let Some(token) = text(&revocation["token"]) {
            return principal.token.as_ref().is_some_and(|id| id.as_str() == token);
        }
        if let Some(login) = text(&revocation["login"]) {
            return principal.login.is_some_and(|id| id.to_string() == login);
        }
        let since = revocation["since"].as_i64().unwrap_or(i64::MAX);
        text(&revocation["tenant"]).as_deref() == Some(principal.tenant.as_str())
            && text(&revocation["user"]).is_none_or(|user| user == principal.user.as_str())
            && principal.issued_at.0.div_euclid(1000) <= since.div_euclid(1000)
    })
}

/// Have a running server deny tokens from now on, and end the connections that stand on them.
#[derive(clap::Args)]
#[command(override_usage = "chinwag token revoke <--id JTI | --user ID [--tenant T] | --tenant T> [--data DIR]")]
#[command(group(clap::ArgGroup::new("whose").args(["id", "user", "tenant"]).multiple(true).required(true)))]
#[command(after_help = "\
When this has answered, no frame leaves the server for whoever is meant. A user's or a tenant's tokens are denied that \
were issued up to now: tokens that are made a second later are good again, so keep the issuer from making more, too.

Examples:
  chinwag token revoke --user ann
  chinwag token revoke --id 0b7c2a52-6f6c-4b1c-9f3a-8a2f5d1f4c11
  chinwag token revoke --tenant harbour")]
pub struct Revoke {
    /// One token, by its id: the claim jti, which `token inspect` shows
    #[arg(long, value_name = "JTI", value_parser = TokenId::new, conflicts_with_all = ["user", "tenant"])]
    id: Option<TokenId>,
    /// All tokens of a user
    #[arg(long, value_name = "ID", value_parser = UserId::new)]
    user: Option<UserId>,
    /// The user's tenant; without a user, everybody in it
    #[arg(long, value_name = "T", value_parser = TenantId::new)]
    tenant: Option<TenantId>,
    /// The data directory of the server
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
}

fn revoke(args: &Revoke) -> Result<(), Failure> {
    let mut body = json!({});
    for (name, value) in [
        ("token", args.id.as_ref().map(TokenId::as_str)),
        ("user", args.user.as_ref().map(UserId::as_str)),
        ("tenant", args.tenant.as_ref().map(TenantId::as_str)),
    ] {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    let done = ask(async { Desk::of(&args.data)?.post("/revocations", &body).await })?;
    let connections = done["connections"].as_u64().unwrap_or(0);
    writeln!(io::stdout(), "revoked; connections ended: {connections}").map_err(output::failed)
}

fn read(token: String) -> Result<Zeroizing<String>, Failure> {
    if token != "-" {
        return Ok(Zeroizing::new(token));
    }
    let mut text = Zeroizing::new(String::new());
    // One byte more than a token may have, and the end of its line.
    io::stdin()
        .take(TOKEN_BYTES_MAX as u64 + 3)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Exit::Io, format!("cannot read standard input: {error}")))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A time in seconds since 1970, as people read it.
fn at(seconds: i64, now: i64) -> String {
    let Ok(since) = u64::try_from(seconds) else { return "before 1970".to_owned() };
    // Beyond what a calendar of four digits can say.
    let Some(time) = UNIX_EPOCH.checked_add(Duration::from_secs(since)).filter(|_| since < 253_402_300_800) else {
        return "after the year 9999".to_owned();
    };
    let apart = humantime::format_duration(Duration::from_secs(seconds.abs_diff(now)));
    let told = match seconds.cmp(&now) {
        std::cmp::Ordering::Less => format!("{apart} ago"),
        std::cmp::Ordering::Equal => "now".to_owned(),
        std::cmp::Ordering::Greater => format!("in {apart}"),
    };
    format!("{}, {told}", humantime::format_rfc3339_seconds(time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_read_them() {
        assert_eq!(at(1_767_225_600, 1_767_225_600), "2026-01-01T00:00:00Z, now");
        assert_eq!(at(1_767_225_600, 1_767_225_660), "2026-01-01T00:00:00Z, 1m ago");
        assert_eq!(at(1_767_225_600, 1_767_225_599), "2026-01-01T00:00:00Z, in 1s");
        assert_eq!(at(-1, 0), "before 1970");
        assert_eq!(at(i64::MAX, 0), "after the year 9999");
    }

    #[test]
    fn a_list_of_revocations_is_read_as_the_server_reads_it() {
        let principal = Principal {
            tenant: TenantId::default_tenant(),
            user: UserId::new("ann").unwrap(),
            token: Some(TokenId::new("t1").unwrap()),
            login: None,
            issued_at: crate::domain::Timestamp(50_000),
            expires_at: crate::domain::Timestamp(60_000),
        };
        let about = |revocation: Value| denied(&json!({ "revocations": [revocation] }), &principal);
        assert!(about(json!({ "token": "t1", "since": 0 })));
        assert!(!about(json!({ "token": "t2", "since": 90_000 })));
        assert!(about(json!({ "tenant": "default", "user": "ann", "since": 50_000 })));
        assert!(!about(json!({ "tenant": "default", "user": "ann", "since": 49_999 })));
        assert!(!about(json!({ "tenant": "default", "user": "bob", "since": 90_000 })));
        assert!(about(json!({ "tenant": "default", "since": 90_000 })));
        assert!(!about(json!({ "tenant": "hill", "since": 90_000 })));
    }
}
