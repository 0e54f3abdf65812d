//! An hour of a community, played through the public API in seconds: people with several devices talk, moderate, come and
//! go in rooms of all kinds and sizes, and in the middle of it the server is killed. When it is quiet, what every device
//! was shown and every user is told is held against a recount of the logs.
//!
//! `cargo test --test community -- --nocapture` plays a small one and prints what happened;
//! `cargo test --release --test community -- --ignored --nocapture` a large one. `CHINWAG_COMMUNITY_SEED` repeats a
//! run's choices (not its timing).

#[path = "../support/mod.rs"]
mod support;

mod bites;
mod device;
mod person;
mod plan;
mod recount;
mod rest;
mod stage;
mod survey;
mod view;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use device::{Answer, count};
use futures_util::{StreamExt, stream};
use person::Person;
use plan::{HOUR, Plan, Size};
use recount::{Recount, Verdict};
use serde_json::{Value, json};
use stage::{Stage, user};
use support::broker::Broker;
use support::listeners::Http;
use support::random::Random;
use tokio::sync::watch;
use view::Book;

const SMALL: Size = Size { users: 160, rooms: 30, visitors: 60, steps: 1_500 };
const LARGE: Size = Size { users: 2_000, rooms: 300, visitors: 700, steps: 16_000 };

/// How many come into their rooms at the same time.
const JOINING: usize = 32;

/// How long devices may take to read everything when nobody says anything any more.
const QUIET_MAX: Duration = Duration::from_secs(20);

/// As long as a user who has gone counts as there, and what a busy machine may need.
const GRACE_MAX: Duration = Duration::from_secs(25);

/// How many faults are told; the others are much like them.
const TOLD: usize = 12;

#[tokio::test]
async fn what_a_small_community_is_shown_agrees_with_a_recount_of_its_logs() {
    play(SMALL, Duration::from_secs(6), Duration::from_secs(120)).await;
}

#[tokio::test]
#[ignore = "takes two minutes, and a machine of its own"]
async fn what_a_large_community_is_shown_agrees_with_a_recount_of_its_logs() {
    play(LARGE, Duration::from_secs(60), Duration::from_secs(300)).await;
}

async fn play(size: Size, hour: Duration, bound: Duration) {
    raise_file_limit();
    let mut random = Random::seeded_by("CHINWAG_COMMUNITY_SEED");
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the run");
    let played = tokio::time::timeout(bound, Box::pin(run(&home.path().join("data"), size, hour, &mut random))).await;
    let (faults, examples) = played.unwrap_or_else(|_| panic!("the hour took longer than {} s", bound.as_secs()));
    assert!(faults == 0, "{faults} faults:\n  {}", examples.join("\n  "));
}

/// Plays it all and says what was not as it has to be: how much, and some of it.
async fn run(data: &Path, size: Size, hour: Duration, random: &mut Random) -> (usize, Vec<String>) {
    let began = Instant::now();
    let plan = Plan::draw(size, random);
    let kill_at = HOUR * (40 + random.below(20)) / 100;
    let (mut server, address) = up(data).await;
    let (moved, at) = watch::channel(address);
    let mut stage = Stage::new(at, data, hour);
    stage.rooms = found(&stage, &plan).await;
    enter(&stage, &plan, size.users).await;
    let founded = began.elapsed();

    stage.begin();
    let (stage, devices) = (Arc::new(stage), plan.devices());
    let people: Vec<_> = plan
        .people
        .iter()
        .enumerate()
        .map(|(n, person)| {
            let (person, plan) = (Person::new(&stage, n), person.clone());
            tokio::spawn(Box::pin(person.live(plan)))
        })
        .collect();
    stage.until(kill_at).await;
    server.kill();
    stage.tally.killed();
    let (again, address) = up(data).await;
    server = again;
    moved.send_replace(address);
    let mut players = Vec::new();
    for person in people {
        players.push(person.await.expect("a person does not panic"));
    }
    let played = began.elapsed();

    let verdict = judge(&stage, &plan, size.users, &players).await;
    server.check_alive().unwrap_or_else(|why| panic!("{why}"));
    server.kill();
    let times = [founded, played - founded, began.elapsed() - played];
    print_table(size, devices, &stage, &verdict, times);
    let mut examples = std::mem::take(&mut stage.tally.inner().faults);
    let faults = examples.len() + verdict.faults.len();
    examples.truncate(TOLD);
    examples.extend(verdict.faults.iter().take(TOLD).map(ToString::to_string));
    (faults, examples)
}

/// A server that serves, and where. Clients go on meanwhile.
async fn up(data: &Path) -> (Broker, SocketAddr) {
    let data: PathBuf = data.to_owned();
    let started = tokio::task::spawn_blocking(move || {
        let limits = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/community/limits.toml");
        let mut broker = Broker::serve(&data, 0, &[OsStr::new("--config"), OsStr::new(limits)]);
        let (port, _) = broker.ready().unwrap_or_else(|why| panic!("{why}"));
        (broker, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    });
    started.await.expect("the server starts")
}

/// Owners make the rooms. Returns their ids.
async fn found(stage: &Stage, plan: &Plan) -> Vec<String> {
    let made = plan.rooms.iter().enumerate().map(|(n, room)| async move {
        let role = |users: &[usize], role: &'static str| {
            users.iter().map(move |n| json!({ "user": user(*n), "role": role })).collect::<Vec<_>>()
        };
        let mut members = role(&room.admins, "admin");
        if room.kind != plan::Kind::Channel {
            members.extend(role(&room.members, "member"));
        }
        if room.kind == plan::Kind::Direct {
            members = room.members.iter().map(|n| json!({ "user": user(*n) })).collect();
        }
        let mut command = json!({ "type": "create", "kind": room.kind.as_str(), "members": members });
        if room.kind == plan::Kind::Channel {
            command["alias"] = json!(format!("channel-{n}"));
        }
        let made = asked(stage, room.owner, &[command]).await;
        let id = made[0]["room"].as_str().expect("a room has an id").to_owned();
        if room.from_join {
            asked(stage, room.owner, &[json!({ "type": "update", "room": id, "history": "join" })]).await;
        }
        id
    });
    stream::iter(made).buffered(JOINING).collect().await
}

/// Everybody comes into the rooms of the plan.
async fn enter(stage: &Stage, plan: &Plan, users: usize) {
    let mut of: Vec<Vec<Value>> = vec![Vec::new(); users];
    for (n, room) in plan.rooms.iter().enumerate().filter(|(_, room)| room.kind.invites()) {
        for user in room.admins.iter().chain(&room.members) {
            of[*user].push(json!({ "type": "join", "room": stage.rooms[n] }));
        }
    }
    let entering = of.iter().enumerate().map(|(n, joins)| asked(stage, n, joins));
    stream::iter(entering).buffered(JOINING).for_each(|_| async {}).await;
}

/// Some commands of one user, one after the other, all of which are carried out.
async fn asked(stage: &Stage, n: usize, commands: &[Value]) -> Vec<Value> {
    let mut replies = Vec::new();
    if commands.is_empty() {
        return replies;
    }
    let mut http = Http::connect(stage.address(), &stage.token(&user(n))).await.expect("the server listens");
    for command in commands {
        let asked = Instant::now();
        match rest::ask(&mut http, command).await {
            Answer::Done(reply) => replies.push(reply),
            other @ (Answer::Refused { .. } | Answer::Gone) => panic!("{command}: {other:?}"),
        }
        stage.tally.answered(command["type"].as_str().expect("it has a type"), asked, None);
    }
    replies
}

/// Holds everything against the logs.
async fn judge(stage: &Arc<Stage>, plan: &Plan, users: usize, players: &[Person]) -> Verdict {
    let logs = survey::logs(stage, plan).await;
    let mut verdict = Verdict::default();
    let recounts: Vec<Recount> = logs.iter().map(|log| Recount::of(log, &mut verdict)).collect();
    let mut parts = vec![verdict, caught_up(players, &logs, &recounts).await];
    let by_room = logs.iter().map(|log| (log.room.as_str(), log)).collect();
    let mut acknowledged = Verdict::default();
    let mut books: BTreeMap<String, Book> = BTreeMap::new();
    let mut there: BTreeMap<String, &'static str> = BTreeMap::new();
    for (n, person) in players.iter().enumerate() {
        recount::check_acknowledged(&user(n), &person.book.acknowledged, &by_room, &mut acknowledged);
        books.insert(user(n), person.book.clone());
        if let Some(word) = said(person).filter(|_| !person.book.invisible) {
            there.insert(user(n), word);
        }
    }
    parts.push(acknowledged);
    parts.push(survey::rooms(stage, plan, &logs, &recounts, &books).await);
    parts.push(survey::inboxes(stage, users, &logs, &recounts, &books).await);
    parts.push(survey::profiles(stage, plan.rooms[0].owner, &books).await);
    parts.push(survey::presences(stage, plan, &recounts, &there, GRACE_MAX).await);
    survey::merged(parts)
}

/// What the person's devices say together that are connected.
fn said(person: &Person) -> Option<&'static str> {
    let views = person.devices.iter().map(|device| device.view.lock().expect("nobody panics holding this"));
    let words: Vec<&str> = views.filter(|view| view.on).filter_map(|view| view.presence).collect();
    ["online", "away"].into_iter().find(|word| words.contains(word))
}

/// What the devices were shown, when they have read everything, or had the time to.
async fn caught_up(players: &[Person], logs: &[recount::Log], recounts: &[Recount]) -> Verdict {
    let deadline = Instant::now() + QUIET_MAX;
    loop {
        let mut verdict = Verdict::default();
        for (n, person) in players.iter().enumerate() {
            for device in &person.devices {
                let view = device.view.lock().expect("nobody panics holding this").clone();
                recount::check_view(&user(n), &view, logs, recounts, &mut verdict);
            }
        }
        let waits = verdict.faults.iter().any(|fault| fault.check == recount::COMPLETE);
        if !waits || Instant::now() > deadline {
            return verdict;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn print_table(size: Size, devices: usize, stage: &Stage, verdict: &Verdict, times: [Duration; 3]) {
    let (tally, inner) = (&stage.tally, stage.tally.inner());
    let seconds = times.map(|time| format!("{:.1}", time.as_secs_f64())).join(" + ");
    println!("community: founded, played and judged in {seconds} s");
    let outage = inner.outage.map_or("nobody was answered".to_owned(), |outage| format!("{} ms", outage.as_millis()));
    let messages = verdict.checks.get("who speaks may").copied().unwrap_or(0);
    let records = verdict.checks.get("places in the log").copied().unwrap_or(0);
    for (what, number) in [
        ("users", size.users.to_string()),
        ("of them came", size.visitors.to_string()),
        ("with devices", devices.to_string()),
        ("rooms", size.rooms.to_string()),
        ("records", records.to_string()),
        ("messages that are left", messages.to_string()),
        ("deliveries", count(&tally.deliveries).to_string()),
        ("signals and notices", count(&tally.signals).to_string()),
        ("reconnects", count(&tally.reconnects).to_string()),
        ("removals told", count(&tally.removals).to_string()),
        ("commands repeated", count(&tally.repeated).to_string()),
        ("from the kill to an answer", outage),
    ] {
        println!("  {what:<32}{number:>12}");
    }
    println!("  {:<32}{:>12}{:>12}", "answers", "", "slowest ms");
    for (class, (answers, slowest)) in &inner.answers {
        println!("    {class:<30}{answers:>12}{:>12}", slowest.as_millis());
    }
    let refusals: Vec<String> = inner.refusals.iter().map(|(code, times)| format!("{code} {times}")).collect();
    println!("  refused: {}", refusals.join(", "));
    println!("  checks");
    for (check, times) in &verdict.checks {
        println!("    {check:<42}{times:>12}");
    }
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("it may be raised to its maximum");
}
