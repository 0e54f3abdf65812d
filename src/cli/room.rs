//! `chinwag room …`: what the operator asks of a running server about its rooms.

use std::io::{self, Write};
use std::path::PathBuf;

use serde_json::{Value, json};

use super::admin::{Desk, ask};
use super::failure::Failure;
use super::output;
use crate::config::DATA_DEFAULT;
use crate::domain::{RoomName, TenantId};

#[derive(clap::Subcommand)]
pub enum Command {
    List(List),
    Show(Show),
    Archive(Archive),
    Audit(Audit),
}

/// Which server, and whose rooms.
#[derive(clap::Args)]
struct Where {
    /// The tenant whose rooms are meant
    #[arg(long, value_name = "T", value_parser = TenantId::new, default_value = "default")]
    tenant: TenantId,
    /// The data directory of the server, which has to be running
    #[arg(long, value_name = "DIR", env = "CHINWAG_SERVER__DATA", default_value = DATA_DEFAULT)]
    data: PathBuf,
}

/// List the rooms of a tenant.
#[derive(clap::Args)]
#[command(after_help = "\
A line per room: its id, num, kind, records, alias and name, with tabs between. --json prints an object per line.

Examples:
  chinwag room list
  chinwag room list --tenant harbour --json | jq -r 'select(.archived).room'")]
pub struct List {
    #[command(flatten)]
    at: Where,
    /// Print each room as an object of JSON
    #[arg(long)]
    json: bool,
}

/// Show a room and its members.
#[derive(clap::Args)]
#[command(after_help = "\
Prints one object of JSON, with the first thousand members.

Example:
  chinwag room show lobby")]
pub struct Show {
    /// The room: its alias, its number or its uuid
    #[arg(value_name = "ROOM", value_parser = room)]
    room: String,
    #[command(flatten)]
    at: Where,
}

/// Archive a room for good: it can be read from then on, and not changed.
#[derive(clap::Args)]
#[command(after_help = "\
Its followers see the record, whose author is chinwag:operator. There is no way back.

Example:
  chinwag room archive lobby")]
pub struct Archive {
    /// The room: its alias, its number or its uuid
    #[arg(value_name = "ROOM", value_parser = room)]
    room: String,
    #[command(flatten)]
    at: Where,
}

/// Print what has been decided in a room, and reported of it; without a room, in the tenant and its direct rooms.
#[derive(clap::Args)]
#[command(after_help = "\
A line per entry of the room's audit room: when, who, what, about whom or what, and why or to which rank, with tabs
between; the time is in milliseconds since 1970 UTC. Without a room these are the entries of the tenant's: what has been
decided about its accounts, invites and bans. --json prints the records as the room's readers see them, an object per line,
and all of them.

Examples:
  chinwag room audit lobby
  chinwag room audit --tenant harbour
  chinwag room audit lobby --json | jq -c 'select(.event == \"reported\").reported'")]
pub struct Audit {
    /// The room, or its audit room: its alias, its number or its uuid
    #[arg(value_name = "ROOM", value_parser = room)]
    room: Option<String>,
    #[command(flatten)]
    at: Where,
    /// Print each record as an object of JSON
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> Result<(), Failure> {
    ask(async {
        match command {
            Command::List(args) => list(&args).await,
            Command::Show(args) => {
                let room = Desk::of(&args.at.data)?.get(&args.at.path(&args.room)).await?;
                let shown = serde_json::to_string_pretty(&room).expect("what was read as JSON is written as JSON");
                print(&shown)
            }
            Command::Archive(args) => {
                let path = args.at.path(&args.room) + "/archive";
                let done = Desk::of(&args.at.data)?.post(&path, &json!({})).await?;
                print(&done.to_string())
            }
            Command::Audit(args) => audit(&args).await,
        }
    })
}

async fn audit(args: &Audit) -> Result<(), Failure> {
    let desk = Desk::of(&args.at.data)?;
    let of = args.room.as_ref().map_or_else(|| args.at.tenant_path(), |room| args.at.path(room));
    let mut after = 0;
    loop {
        let page = desk.get(&format!("{of}/audit?limit=1000&after={after}")).await?;
        for record in page["records"].as_array().into_iter().flatten() {
            match entry(record) {
                _ if args.json => print(&record.to_string())?,
                Some(line) => print(&line)?,
                None => {}
            }
        }
        let Some(next) = page["after"].as_u64() else { return Ok(()) };
        after = next;
    }
}

/// An entry of an audit room as a line; nothing of who comes and goes there.
fn entry(record: &Value) -> Option<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let (what, about, why) = match record["event"].as_str()? {
        "audited" => {
            let decided = &record["decided"];
            let about = ["user", "message"].into_iter().find_map(|member| decided[member].as_str());
            (word(&decided["event"]), about.unwrap_or("-").to_owned(), word(&decided["reason"]))
        }
        "administered" => {
            let about = ["user", "invite"].into_iter().find_map(|member| record[member].as_str());
            let mut why = word(&record[if record["rank"].is_null() { "reason" } else { "rank" }]);
            if record["disabled"] == true {
                why.push_str(", disabled");
            }
            (word(&record["deed"]), about.unwrap_or("-").to_owned(), why)
        }
        "reported" => ("reported".to_owned(), word(&record["reported"]["message"]), word(&record["reason"])),
        "report_resolved" => ("report_resolved".to_owned(), word(&record["report"]), word(&record["note"])),
        _ => return None,
    };
    Some([record["at"].to_string(), word(&record["author"]), what, about, why].join("\t"))
}

async fn list(args: &List) -> Result<(), Failure> {
    let desk = Desk::of(&args.at.data)?;
    let mut after = String::new();
    loop {
        let page = desk.get(&format!("/tenants/{}/rooms?limit=1000{after}", args.at.tenant)).await?;
        for room in page["rooms"].as_array().into_iter().flatten() {
            print(&if args.json { room.to_string() } else { line(room) })?;
        }
        let Some(next) = page["after"].as_str() else { return Ok(()) };
        after = format!("&after={next}");
    }
}

fn line(room: &Value) -> String {
    let text = |member: &str| match &room[member] {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    let archived = if room["archived"] == true { "archived " } else { "" };
    let columns = [
        text("room"),
        text("num"),
        format!("{archived}{}", text("kind")),
        text("records"),
        text("alias"),
        text("name"),
    ];
    columns.join("\t")
}

impl Where {
    fn tenant_path(&self) -> String {
        format!("/tenants/{}", self.tenant)
    }

    fn path(&self, room: &str) -> String {
        format!("{}/rooms/{}", self.tenant_path(), escaped(room))
    }
}

/// A name as one segment of a path (RFC 3986, section 3.3).
pub fn escaped(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

fn room(text: &str) -> Result<String, String> {
    RoomName::parse(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn print(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(output::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_line_of_when_who_what_about_whom_and_why() {
        let decided = json!({ "event": "member_kicked", "user": "bob", "reason": "spam" });
        let kicked = json!({ "event": "audited", "at": 7, "author": "ann", "decided": decided });
        assert_eq!(entry(&kicked).unwrap(), "7\tann\tmember_kicked\tbob\tspam");
        let reported =
            json!({ "event": "reported", "at": 8, "author": "cas", "reason": null, "reported": { "message": "m" } });
        assert_eq!(entry(&reported).unwrap(), "8\tcas\treported\tm\t-");
        let resolved = json!({ "event": "report_resolved", "at": 9, "author": "ann", "report": "r", "note": "seen" });
        assert_eq!(entry(&resolved).unwrap(), "9\tann\treport_resolved\tr\tseen");
        let disabled = json!({ "event": "administered", "at": 9, "author": "ann", "deed": "account_changed", "user": "bob",
            "rank": "member", "disabled": true });
        assert_eq!(entry(&disabled).unwrap(), "9\tann\taccount_changed\tbob\tmember, disabled");
        let banned = json!({ "event": "administered", "at": 9, "author": "ann", "deed": "user_banned", "user": "bob",
            "until": null, "reason": "spam" });
        assert_eq!(entry(&banned).unwrap(), "9\tann\tuser_banned\tbob\tspam");
        let revoked = json!({ "event": "administered", "at": 9, "author": "chinwag:operator", "deed": "tokens_revoked",
            "user": null, "since": 8 });
        assert_eq!(entry(&revoked).unwrap(), "9\tchinwag:operator\ttokens_revoked\t-\t-");
        assert_eq!(entry(&json!({ "event": "member_joined", "at": 9, "author": "ann", "user": "bob" })), None);
    }

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(escaped("alias:a/b?ü%"), "alias:a%2Fb%3F%C3%BC%25");
    }
}
