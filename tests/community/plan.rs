//! What everybody is going to do in the hour, drawn from a seed before anything happens.
//!
//! Knows no sockets. A step says what kind of thing is done in which room; which message or member it is about is drawn
//! by `draw` among those that the person knows of by then, so the same seed means the same choices and not the same
//! timing.

use crate::support::random::Random;

/// An hour in the plan's own time.
pub const HOUR: u64 = 3_600;

#[derive(Clone, Copy)]
pub struct Size {
    pub users: usize,
    pub rooms: usize,
    /// How many of the users come at all; most of them at the same time.
    pub visitors: usize,
    /// What all of them do, in steps.
    pub steps: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Channel,
    Group,
    Direct,
    Box,
    Canvas,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Group => "group",
            Self::Direct => "direct",
            Self::Box => "box",
            Self::Canvas => "canvas",
        }
    }

    /// Whether who is named when the room is made still has to join.
    pub fn invites(self) -> bool {
        match self {
            Self::Channel | Self::Group | Self::Box => true,
            Self::Direct | Self::Canvas => false,
        }
    }
}

pub struct Room {
    pub kind: Kind,
    pub owner: usize,
    /// Without the owner.
    pub admins: Vec<usize>,
    pub members: Vec<usize>,
    /// Nobody sees what was before the own joining.
    pub from_join: bool,
}

impl Room {
    pub fn everybody(&self) -> impl Iterator<Item = usize> {
        [self.owner].into_iter().chain(self.admins.iter().copied()).chain(self.members.iter().copied())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    Json,
    MessagePack,
    Events,
    Polls,
}

/// Which rooms a device follows: all under one cursor, or some with one each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Follows {
    World,
    Rooms(Vec<usize>),
}

#[derive(Clone, Debug)]
pub struct Device {
    pub transport: Transport,
    pub follows: Follows,
    pub from: &'static str,
    /// What it says of its user.
    pub presence: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Post,
    Reply,
    Mention,
    Forward,
    LongPost,
    Edit,
    Delete,
    React,
    Unreact,
    Pin,
    Unpin,
    Typing,
    Read,
    Delivered,
    Draft,
    Quiet,
    PutAway,
    PinRoom,
    Hide,
    Unhide,
    Private,
    Invisible,
    Profile,
    Presence,
    Look,
    Join,
    Leave,
    Invite,
    Kick,
    Ban,
    Unban,
    Mute,
    Unmute,
    SlowMode,
    Role,
    Rights,
    Rules,
    Reconnect,
}

/// How often each is done, of all together.
const ACTIONS: [(Action, u64); 29] = [
    (Action::Post, 300),
    (Action::Reply, 90),
    (Action::Mention, 60),
    (Action::Forward, 15),
    (Action::LongPost, 8),
    (Action::Edit, 50),
    (Action::Delete, 20),
    (Action::React, 110),
    (Action::Unreact, 15),
    (Action::Pin, 6),
    (Action::Unpin, 2),
    (Action::Typing, 40),
    (Action::Read, 120),
    (Action::Delivered, 30),
    (Action::Draft, 15),
    (Action::Quiet, 5),
    (Action::PutAway, 5),
    (Action::PinRoom, 5),
    (Action::Hide, 8),
    (Action::Unhide, 3),
    (Action::Private, 2),
    (Action::Invisible, 2),
    (Action::Profile, 6),
    (Action::Presence, 10),
    (Action::Look, 25),
    (Action::Join, 20),
    (Action::Leave, 8),
    (Action::Kick, 1),
    (Action::Reconnect, 25),
];

/// What owners and admins do beside that.
const MODERATION: [(Action, u64); 11] = [
    (Action::Kick, 6),
    (Action::Ban, 4),
    (Action::Unban, 3),
    (Action::Mute, 4),
    (Action::Unmute, 2),
    (Action::SlowMode, 1),
    (Action::Role, 2),
    (Action::Rights, 3),
    (Action::Rules, 1),
    (Action::Invite, 6),
    (Action::Pin, 2),
];

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub at: u64,
    pub action: Action,
    pub room: usize,
    pub draw: u64,
}

/// Somebody's coming, what is done, and going, if it is before the end.
#[derive(Clone, Debug)]
pub struct Visit {
    pub come: u64,
    pub go: Option<u64>,
    pub steps: Vec<Step>,
}

#[derive(Clone)]
pub struct Person {
    pub devices: Vec<Device>,
    pub visits: Vec<Visit>,
}

pub struct Plan {
    pub rooms: Vec<Room>,
    /// Those who come; the other users are members and never there.
    pub people: Vec<Person>,
}

impl Plan {
    pub fn draw(size: Size, random: &mut Random) -> Self {
        let rooms: Vec<Room> = (0..size.rooms).map(|rank| room(size, rank, random)).collect();
        let mut of = vec![Vec::new(); size.users];
        for (n, room) in rooms.iter().enumerate() {
            room.everybody().for_each(|user| of[user].push(n));
        }
        let channels = rooms.iter().enumerate().filter(|(_, room)| room.kind == Kind::Channel);
        let channels: Vec<usize> = channels.map(|(n, _)| n).collect();
        let shares = Shares::of(size.visitors, |rank| 40_000 / root(rank + 1));
        let mut steps = vec![2; size.visitors];
        for _ in 0..size.steps {
            steps[shares.draw(random)] += 1;
        }
        let people = (0..size.visitors).map(|user| person(user, &of[user], &channels, &rooms, steps[user], random));
        Self { people: people.collect(), rooms }
    }

    pub fn devices(&self) -> usize {
        self.people.iter().map(|person| person.devices.len()).sum()
    }
}

/// Draws among things of which each has a share.
struct Shares(Vec<u64>);

impl Shares {
    fn of(count: usize, share: impl Fn(u64) -> u64) -> Self {
        let mut sum = 0;
        Self(
            (0..count as u64)
                .map(|n| {
                    sum += share(n).max(1);
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, random: &mut Random) -> usize {
        let drawn = random.below(*self.0.last().expect("there is something to draw from"));
        self.0.partition_point(|sum| *sum <= drawn)
    }
}

fn root(n: u64) -> u64 {
    n.isqrt().max(1)
}

/// The room of this rank: the first have the most members.
fn room(size: Size, rank: usize, random: &mut Random) -> Room {
    let kind = match random.below(100) {
        _ if rank < 2 => Kind::Channel,
        0..40 => Kind::Channel,
        40..65 => Kind::Group,
        65..85 => Kind::Direct,
        85..92 => Kind::Box,
        _ => Kind::Canvas,
    };
    let most = match kind {
        Kind::Channel => size.users / 4,
        Kind::Group => size.users / 20,
        Kind::Canvas => size.users / 40,
        Kind::Box => 6,
        Kind::Direct => 2,
    };
    // About one in the rank, as cities and words have it.
    let wanted =
        (size.users / (rank + 4)).clamp(3, most.max(3)).min(if kind == Kind::Direct { 2 } else { most.max(3) });
    let mut all: Vec<usize> = Vec::new();
    while all.len() < wanted {
        // Half of all places are for those who come.
        let among = if random.percent(50) { size.visitors } else { size.users };
        let user = usize::try_from(random.below(among as u64)).expect("small");
        if !all.contains(&user) {
            all.push(user);
        }
    }
    // Somebody who comes, so that there is moderation.
    let owner = all.iter().position(|user| *user < size.visitors).unwrap_or(0);
    let owner = all.swap_remove(owner);
    let admins =
        if wanted > 5 && kind != Kind::Direct { all.split_off(all.len() - 1 - wanted / 50) } else { Vec::new() };
    let from_join = rank % 3 == 1 && matches!(kind, Kind::Channel | Kind::Group | Kind::Canvas);
    Room { kind, owner, admins, members: all, from_join }
}

fn person(user: usize, of: &[usize], channels: &[usize], rooms: &[Room], steps: u64, random: &mut Random) -> Person {
    let devices = (0..1 + random.below(3)).map(|n| device(n, of, random)).collect();
    let visits = match random.below(10) {
        0..6 => vec![(random.below(HOUR / 3), None)],
        6..8 => vec![(random.below(HOUR / 4), Some(HOUR / 2 + random.below(HOUR / 3)))],
        _ => {
            let away = HOUR / 4 + random.below(HOUR / 4);
            let stays = if random.percent(70) { None } else { Some(HOUR - random.below(HOUR / 6)) };
            vec![(random.below(HOUR / 8), Some(away)), (away + HOUR / 8 + random.below(HOUR / 8), stays)]
        }
    };
    let moderates = |room: &usize| rooms[*room].owner == user || rooms[*room].admins.contains(&user);
    let moderated: Vec<usize> = of.iter().copied().filter(moderates).collect();
    let favourites = Shares::of(of.len().max(1), |rank| 1_000 / (rank + 8));
    let (usual, moderating) =
        (Shares::of(ACTIONS.len(), |n| ACTIONS[index(n)].1), Shares::of(MODERATION.len(), |n| MODERATION[index(n)].1));
    let count = visits.len() as u64;
    let visits = visits.into_iter().map(|(come, go)| {
        let length = go.unwrap_or(HOUR) - come;
        let mut at: Vec<u64> = (0..steps.div_ceil(count)).map(|_| come + random.below(length.max(1))).collect();
        at.sort_unstable();
        let steps = at.into_iter().map(|at| {
            let draw = random.below(u64::from(u32::MAX));
            if !moderated.is_empty() && random.percent(12) {
                let room = moderated[index(random.below(moderated.len() as u64))];
                return Step { at, action: MODERATION[moderating.draw(random)].0, room, draw };
            }
            let action = ACTIONS[usual.draw(random)].0;
            // Who joins comes back, or into something new.
            let strange = action == Action::Join && random.percent(50);
            let room = match of.get(favourites.draw(random)) {
                Some(room) if !strange => *room,
                Some(_) | None => channels[index(random.below(channels.len() as u64))],
            };
            // Who owns a room stays in it, so that somebody can read it in the end.
            let stays = action == Action::Leave && rooms[room].owner == user;
            Step { at, action: if stays { Action::Post } else { action }, room, draw }
        });
        Visit { come, go, steps: steps.collect() }
    });
    Person { devices, visits: visits.collect() }
}

fn device(n: u64, of: &[usize], random: &mut Random) -> Device {
    let transport = match random.below(100) {
        0..45 => Transport::Json,
        45..75 => Transport::MessagePack,
        75..90 => Transport::Events,
        _ => Transport::Polls,
    };
    let socket = matches!(transport, Transport::Json | Transport::MessagePack);
    let follows = if socket && !of.is_empty() && random.percent(30) {
        Follows::Rooms(of.iter().copied().filter(|_| random.percent(60)).take(40).collect())
    } else {
        Follows::World
    };
    let presence =
        (socket && (n == 0 || random.percent(50))).then(|| if random.percent(80) { "online" } else { "away" });
    Device { transport, follows, from: if random.percent(60) { "start" } else { "now" }, presence }
}

pub fn index(n: u64) -> usize {
    usize::try_from(n).expect("small")
}
