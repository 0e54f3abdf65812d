//! Rooms, members and followers, set up before anything is measured: at the server or at the limit, as the plan says.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chinwag::auth::{Claims, Keyring, Secrets};
use chinwag::domain::{TenantId, Timestamp, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::Outcome;
use crate::client::{ClientId, Clients, Happened};
use crate::message::{Message, is_reply};
use crate::process::{Process, Spent};

/// Longer than anything may take that is not broken.
pub const SILENCE: Duration = Duration::from_secs(20);

/// As many handshakes are under way at once, well below the backlog of any listener.
const OPENING: usize = 256;

/// As many invitations are under way at once.
const INVITING: usize = 512;

/// At rest a process uses less than `AT_REST` in the time of `LOOK`.
const LOOK: Duration = Duration::from_millis(200);
const AT_REST: Duration = Duration::from_millis(4);

/// As many members are named when a room is made; the others are invited.
const NAMED: usize = 500;

/// A room's members besides who made it; `domain::room::MEMBERS_MAX` with it.
const MEMBERS_MAX: usize = 9_999;

/// Whom the clients talk to.
#[derive(Clone, Serialize, Deserialize)]
pub enum Target {
    /// A server, whose secrets are in its data directory.
    Server {
        address: SocketAddr,
        pid: u32,
        data: PathBuf,
    },
    Limit {
        address: SocketAddr,
        pid: u32,
    },
}

impl Target {
    pub fn limit(process: &Process) -> Self {
        Self::Limit { address: process.address, pid: process.pid() }
    }

    pub fn pid(&self) -> u32 {
        match self {
            Self::Server { pid, .. } | Self::Limit { pid, .. } => *pid,
        }
    }

    pub fn clients(&self) -> Outcome<Clients> {
        match self {
            Self::Server { address, .. } => Clients::new(*address, true),
            Self::Limit { address, .. } => Clients::new(*address, false),
        }
    }
}

/// Makes tokens as `chinwag token create` does.
pub struct Mint(Keyring);

impl Mint {
    pub fn open(data: &std::path::Path) -> Outcome<Self> {
        Ok(Self(Keyring::new(&Secrets::open(data)?.token)))
    }

    pub fn token(&self, user: &str) -> Outcome<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        Ok(self.0.mint(&Claims {
            tenant: TenantId::default_tenant(),
            user: UserId::new(user)?,
            issued_at: Timestamp(i64::try_from(now)?),
            lifetime: Duration::from_secs(12 * 60 * 60),
            id: Uuid::new_v4(),
            login: None,
        })?)
    }
}

/// Who publishes.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Publisher {
    /// Somebody who does not follow the room.
    Outside,
    /// The room's first follower.
    Member,
}

/// What is to be set up.
#[derive(Clone, Serialize, Deserialize)]
pub struct Plan {
    pub target: Target,
    pub rooms: usize,
    /// Of each room.
    pub followers: usize,
    pub publisher: Publisher,
}

/// What has been set up.
pub struct Scene {
    pub clients: Clients,
    /// By room.
    pub publishers: Vec<ClientId>,
    /// By room: what is published in it.
    pub messages: Vec<Message>,
    /// By client: the room that it follows.
    pub follows: Vec<Option<usize>>,
    /// Whether a publish is answered.
    pub acknowledges: bool,
}

impl Scene {
    pub fn set(plan: &Plan) -> Outcome<Self> {
        let mut clients = plan.target.clients()?;
        match &plan.target {
            Target::Server { data, .. } => {
                let mint = Mint::open(data)?;
                let owner = open(&mut clients, "/v1/ws", Some(&mint.token("owner")?))?;
                let rooms = make_rooms(&mut clients, owner, plan.rooms, plan.followers)?;
                let names =
                    (0..plan.rooms * plan.followers).map(|n| member_name(n / plan.followers, n % plan.followers));
                let tokens = names.map(|name| mint.token(&name));
                let tokens: Vec<String> = tokens.collect::<Outcome<_>>()?;
                let first = owner + 1;
                let follow = |id: ClientId| {
                    let room = &rooms[(id - first) / plan.followers];
                    follow(room, "now")
                };
                open_many(&mut clients, tokens.len(), |n| ("/v1/ws".to_owned(), Some(tokens[n].clone())), follow)?;
                let publishers = match plan.publisher {
                    Publisher::Outside => vec![owner; plan.rooms],
                    Publisher::Member => (0..plan.rooms).map(|room| first + room * plan.followers).collect(),
                };
                let messages = rooms.iter().map(|room| Message::post(room)).collect();
                Ok(Self { follows: follows(first, plan), clients, publishers, messages, acknowledges: true })
            }
            Target::Limit { .. } => {
                let outside = match plan.publisher {
                    Publisher::Outside => plan.rooms,
                    Publisher::Member => 0,
                };
                for room in 0..outside {
                    open(&mut clients, &format!("/{room}/publish"), None)?;
                }
                let path = |n: usize| (format!("/{}", n / plan.followers), None);
                open_many(&mut clients, plan.rooms * plan.followers, path, |_| String::new())?;
                let publishers = match plan.publisher {
                    Publisher::Outside => (0..plan.rooms).collect(),
                    Publisher::Member => (0..plan.rooms).map(|room| room * plan.followers).collect(),
                };
                let messages = (0..plan.rooms).map(|_| Message::bare()).collect();
                Ok(Self { follows: follows(outside, plan), clients, publishers, messages, acknowledges: false })
            }
        }
    }
}

/// By client: the room that it follows, where those from `first` on do.
fn follows(first: ClientId, plan: &Plan) -> Vec<Option<usize>> {
    let followers = (0..plan.rooms * plan.followers).map(|n| Some(n / plan.followers));
    std::iter::repeat_n(None, first).chain(followers).collect()
}

/// The user behind follower `n` of a room: everybody is somebody else, as far as a room has members.
pub fn member_name(room: usize, n: usize) -> String {
    format!("u{room}-{}", n % MEMBERS_MAX)
}

/// Makes rooms whose members need not join, and returns their ids.
pub fn make_rooms(clients: &mut Clients, owner: ClientId, rooms: usize, members: usize) -> Outcome<Vec<String>> {
    let members = members.min(MEMBERS_MAX);
    let mut ids = Vec::new();
    for room in 0..rooms {
        let named: Vec<String> =
            (0..members.min(NAMED)).map(|n| format!(r#"{{"user":"{}"}}"#, member_name(room, n))).collect();
        let named = named.join(",");
        let command = format!(r#"{{"id":"c","type":"create","kind":"canvas","members":[{named}]}}"#);
        let reply = ask(clients, owner, &command)?;
        let id = reply["room"].as_str().ok_or("a room has an id")?.to_owned();
        let invite =
            |n: usize| format!(r#"{{"id":"i","type":"invite","room":"{id}","user":"{}"}}"#, member_name(room, n));
        pipeline(clients, owner, INVITING, (NAMED..members).map(invite))?;
        ids.push(id);
    }
    Ok(ids)
}

/// Opens one connection and waits for it.
pub fn open(clients: &mut Clients, path: &str, token: Option<&str>) -> Outcome<ClientId> {
    let id = clients.open(path, token)?;
    let mut opened = false;
    while !opened {
        let came = clients.round(Some(SILENCE), &mut |_, whose, happened| {
            match happened {
                Happened::Opened => opened |= whose == id,
                Happened::Text(_) => {}
            }
            Ok(())
        })?;
        if !came {
            return Err("a connection does not open".into());
        }
    }
    Ok(id)
}

/// Opens `count` connections, `OPENING` at a time, and has each say `first`, where that is not empty, and waits for its
/// answer.
pub fn open_many(
    clients: &mut Clients,
    count: usize,
    who: impl Fn(usize) -> (String, Option<String>),
    first: impl Fn(ClientId) -> String,
) -> Outcome<Range<ClientId>> {
    let (from, mut begun, mut ready) = (clients.len(), 0, 0);
    while ready < count {
        while begun < count && begun - ready < OPENING {
            let (path, token) = who(begun);
            clients.open(&path, token.as_deref())?;
            begun += 1;
        }
        let came = clients.round(Some(SILENCE), &mut |clients, id, happened| {
            match happened {
                Happened::Opened => {
                    let first = first(id);
                    if first.is_empty() {
                        ready += 1;
                    } else {
                        clients.send(id, first.as_bytes());
                    }
                }
                Happened::Text(frame) => ready += usize::from(is_reply(frame)?),
            }
            Ok(())
        })?;
        if !came {
            return Err(format!("{ready} of {count} clients are ready, and no more become it").into());
        }
    }
    Ok(from..clients.len())
}

/// The command that follows `room` from a place.
pub fn follow(room: &str, from: &str) -> String {
    format!(r#"{{"id":"f","type":"follow","room":"{room}","from":"{from}"}}"#)
}

/// Waits until the process has nothing left to do.
pub fn settle(clients: &mut Clients, pid: u32) -> Outcome<()> {
    let deadline = Instant::now() + SILENCE;
    loop {
        let (before, until) = (Spent::by(pid)?, Instant::now() + LOOK);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            clients.round(Some(left), &mut |_, _, _| Ok(()))?;
        }
        if Spent::by(pid)?.since(&before) < AT_REST {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the server does not come to rest".into());
        }
    }
}

/// Sends a command and waits for its answer.
pub fn ask(clients: &mut Clients, id: ClientId, command: &str) -> Outcome<Value> {
    clients.send(id, command.as_bytes());
    let mut answer = None;
    while answer.is_none() {
        let came = clients.round(Some(SILENCE), &mut |_, whose, happened| {
            match happened {
                Happened::Text(frame) if whose == id && is_reply(frame)? => {
                    answer = Some(serde_json::from_slice(frame)?);
                }
                Happened::Text(_) | Happened::Opened => {}
            }
            Ok(())
        })?;
        if !came {
            return Err(format!("no answer to {command}").into());
        }
    }
    Ok(answer.expect("the loop ends with one"))
}

/// Sends commands with at most `in_flight` unanswered, and waits until all are answered.
pub fn pipeline(
    clients: &mut Clients,
    id: ClientId,
    in_flight: usize,
    commands: impl Iterator<Item = String>,
) -> Outcome<()> {
    let mut commands = commands.fuse();
    let mut waiting = 0;
    loop {
        for command in commands.by_ref().take(in_flight - waiting) {
            clients.send(id, command.as_bytes());
            waiting += 1;
        }
        if waiting == 0 {
            return Ok(());
        }
        let came = clients.round(Some(SILENCE), &mut |_, _, happened| {
            match happened {
                Happened::Text(frame) => waiting -= usize::from(is_reply(frame)?),
                Happened::Opened => {}
            }
            Ok(())
        })?;
        if !came {
            return Err("commands are not answered".into());
        }
    }
}
