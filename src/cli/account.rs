//! `chinwag user …` and `chinwag invite …`: who may log in, as the operator decides it on a running server.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::admin::{Desk, ask};
use super::failure::Failure;
use super::output;
use super::room::escaped;
use crate::config::DATA_DEFAULT;
use crate::domain::account::{INVITE_LIFE_MAX_MS, INVITE_USES_MAX, Rank};
use crate::domain::{TenantId, UserId};

#[derive(clap::Subcommand)]
pub enum User {
    Add(Add),
    List(List),
    Reset(Reset),
    Disable(Disable),
    Rank(ChangeRank),
    Ban(Ban),
    Unban(Unban),
    Bans(Bans),
}

#[derive(clap::Subcommand)]
pub enum Invite {
    Create(Create),
    List(Invites),
    Revoke(Revoke),
}

/// Which server, and whose accounts.
#[derive(clap::Args)]
struct Where {
    /// The tenant whose accounts are meant
    #[arg(long, value_name = "T", value_parser = TenantId::new, default_value = "default")]
    tenant: TenantId,
    /// The data directory of the server, which has to be running
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
}

/// Make an account, and print a code by which its user chooses a password.
#[derive(clap::Args)]
#[command(after_help = "\
The code is good once, for 15 minutes; `chinwag user reset` makes another. Give it over a safe way: whoever has it is the
user. It is used with POST /v1/resets, as {\"name\":...,\"code\":...,\"password\":...}.

Example:
  chinwag user add ann --rank admin")]
pub struct Add {
    /// The name, which is the user id
    #[arg(value_name = "NAME", value_parser = UserId::new)]
    name: UserId,
    /// What the account may do to others: member, admin or owner
    #[arg(long, value_name = "RANK", value_parser = rank, default_value = "member")]
    rank: Rank,
    #[command(flatten)]
    at: Where,
}

/// List the accounts of a tenant: name, rank, whether disabled, with tabs between.
#[derive(clap::Args)]
pub struct List {
    #[command(flatten)]
    at: Where,
    /// Print each account as an object of JSON
    #[arg(long)]
    json: bool,
}

/// Print a code that sets another password and ends all logins; good once, for 15 minutes.
#[derive(clap::Args)]
pub struct Reset {
    /// The name of the account
    #[arg(value_name = "NAME", value_parser = UserId::new)]
    name: UserId,
    #[command(flatten)]
    at: Where,
}

/// Disable an account: nobody comes in as its user, and its devices and tokens are out when this has answered.
#[derive(clap::Args)]
pub struct Disable {
    /// The name of the account
    #[arg(value_name = "NAME", value_parser = UserId::new)]
    name: UserId,
    /// Enable it again
    #[arg(long)]
    undo: bool,
    #[command(flatten)]
    at: Where,
}

/// Decide what an account may do to others: member, admin or owner.
#[derive(clap::Args)]
pub struct ChangeRank {
    /// The name of the account
    #[arg(value_name = "NAME", value_parser = UserId::new)]
    name: UserId,
    /// The rank that it is to have
    #[arg(value_name = "RANK", value_parser = rank)]
    rank: Rank,
    #[command(flatten)]
    at: Where,
}

/// Ban a user from a tenant, with an account or without: nothing reaches the user when this has answered.
#[derive(clap::Args)]
#[command(after_help = "\
Memberships stay. Nobody can ban the last owner.

Example:
  chinwag user ban mallory --for 7days --reason spam")]
pub struct Ban {
    /// The user id
    #[arg(value_name = "USER", value_parser = UserId::new)]
    user: UserId,
    /// How long it lasts; without it for good
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// What the user is told
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    at: Where,
}

/// Let a user in again who is banned from a tenant.
#[derive(clap::Args)]
pub struct Unban {
    /// The user id
    #[arg(value_name = "USER", value_parser = UserId::new)]
    user: UserId,
    #[command(flatten)]
    at: Where,
}

/// List who is banned from a tenant: user, end in milliseconds since 1970 or null, who banned, reason, with tabs between.
#[derive(clap::Args)]
pub struct Bans {
    #[command(flatten)]
    at: Where,
    /// Print each ban as an object of JSON
    #[arg(long)]
    json: bool,
}

/// Make an invite, and print its code.
#[derive(clap::Args)]
#[command(after_help = "\
Whoever has the code makes an account with it, with POST /v1/accounts, as {\"name\":...,\"password\":...,\"invite\":CODE}.

Examples:
  chinwag invite create --rank owner --life 30m    for yourself, to begin with
  chinwag invite create --uses 20                  for a group")]
pub struct Create {
    /// What the accounts may do to others: member, admin or owner
    #[arg(long, value_name = "RANK", value_parser = rank, default_value = "member")]
    rank: Rank,
    /// How many accounts it makes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(INVITE_USES_MAX)), default_value_t = 1)]
    uses: u32,
    /// How long it is good: 30days at most
    #[arg(long, value_name = "TIME", value_parser = life, default_value = "7days")]
    life: Duration,
    #[command(flatten)]
    at: Where,
}

/// List the invites that are open: id, rank, uses left, who made it, with tabs between. Codes are not kept.
#[derive(clap::Args)]
pub struct Invites {
    #[command(flatten)]
    at: Where,
    /// Print each invite as an object of JSON
    #[arg(long)]
    json: bool,
}

/// Take an invite back.
#[derive(clap::Args)]
pub struct Revoke {
    /// Its id, as `chinwag invite list` prints it
    #[arg(value_name = "ID")]
    invite: Uuid,
    #[command(flatten)]
    at: Where,
}

pub fn user(command: User) -> Result<(), Failure> {
    ask(async {
        match command {
            User::Add(args) => {
                let body = json!({ "name": args.name.as_str(), "rank": args.rank.as_str() });
                print(&text(&args.at.post("accounts", &body).await?["code"]))
            }
            User::List(args) => list(&args.at, "accounts", &["user", "rank", "disabled"], args.json).await,
            User::Reset(args) => {
                let path = format!("accounts/{}/reset", escaped(args.name.as_str()));
                print(&text(&args.at.post(&path, &json!({})).await?["code"]))
            }
            User::Disable(args) => {
                let path = format!("accounts/{}", escaped(args.name.as_str()));
                print(&args.at.post(&path, &json!({ "disabled": !args.undo })).await?.to_string())
            }
            User::Rank(args) => {
                let path = format!("accounts/{}", escaped(args.name.as_str()));
                print(&args.at.post(&path, &json!({ "rank": args.rank.as_str() })).await?.to_string())
            }
            User::Ban(args) => {
                let body = json!({ "user": args.user.as_str(), "until": args.time.map(ends), "reason": args.reason });
                print(&args.at.post("bans", &body).await?.to_string())
            }
            User::Unban(args) => {
                let path = format!("bans/{}/revoke", escaped(args.user.as_str()));
                print(&args.at.post(&path, &json!({})).await?.to_string())
            }
            User::Bans(args) => list(&args.at, "bans", &["user", "until", "by", "reason"], args.json).await,
        }
    })
}

pub fn invite(command: Invite) -> Result<(), Failure> {
    ask(async {
        match command {
            Invite::Create(args) => {
                let life_ms = i64::try_from(args.life.as_millis()).unwrap_or(INVITE_LIFE_MAX_MS);
                let body = json!({ "rank": args.rank.as_str(), "uses": args.uses, "life_ms": life_ms });
                print(&text(&args.at.post("invites", &body).await?["code"]))
            }
            Invite::List(args) => {
                let listed = args.at.get("invites").await?;
                let members = ["invite", "rank", "uses_left", "by"];
                listed["invites"].as_array().into_iter().flatten().try_for_each(|one| line(one, &members, args.json))
            }
            Invite::Revoke(args) => {
                let path = format!("invites/{}/revoke", args.invite);
                print(&args.at.post(&path, &json!({})).await?.to_string())
            }
        }
    })
}

/// Prints `members` of all of what is listed under this name, page by page.
async fn list(at: &Where, name: &str, members: &[&str], as_json: bool) -> Result<(), Failure> {
    let mut after = String::new();
    loop {
        let page = at.get(&format!("{name}?limit=1000{after}")).await?;
        for one in page[name].as_array().into_iter().flatten() {
            line(one, members, as_json)?;
        }
        let Some(next) = page["after"].as_str() else { return Ok(()) };
        after = format!("&after={}", escaped(next));
    }
}

impl Where {
    async fn get(&self, path: &str) -> Result<Value, Failure> {
        Desk::of(&self.data)?.get(&format!("/tenants/{}/{path}", self.tenant)).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        Desk::of(&self.data)?.post(&format!("/tenants/{}/{path}", self.tenant), body).await
    }
}

fn line(object: &Value, members: &[&str], as_json: bool) -> Result<(), Failure> {
    if as_json {
        return print(&object.to_string());
    }
    let columns: Vec<_> = members.iter().map(|member| text(&object[*member])).collect();
    print(&columns.join("\t"))
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn rank(text: &str) -> Result<Rank, String> {
    Rank::parse(text).ok_or_else(|| "a rank is member, admin or owner".to_owned())
}

fn life(text: &str) -> Result<Duration, String> {
    let life = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let is_within = i64::try_from(life.as_millis()).is_ok_and(|millis| (1..=INVITE_LIFE_MAX_MS).contains(&millis));
    if is_within { Ok(life) } else { Err("an invite is good for 30days at most".to_owned()) }
}

/// When something ends that begins now and lasts so long.
fn ends(time: Duration) -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.saturating_add(time).as_millis()).unwrap_or(i64::MAX)
}

fn print(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(output::failed)
}
