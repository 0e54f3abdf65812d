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
        }
    })
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
    fn path(&self, room: &str) -> String {
        format!("/tenants/{}/rooms/{}", self.tenant, escaped(room))
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
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(escaped("alias:a/b?ü%"), "alias:a%2Fb%3F%C3%BC%25");
    }
}
