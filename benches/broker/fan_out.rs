//! One room and its followers: what it costs the server to deliver one message to one more of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::client::{Arrived, Happened};
use crate::figures::{float, nanos};
use crate::message::{Finder, is_reply};
use crate::process::{Server, Spent, generate, own_time, start_limit};
use crate::scene::{self, Publisher, SILENCE, Scene, Target};
use crate::table::{Against, Goal, Row, Table};
use crate::{Bench, Outcome, generator};

/// What the generator is to do.
#[derive(Serialize, Deserialize)]
pub struct Plan {
    pub scene: scene::Plan,
    /// Messages that have not reached every follower yet; 1: each is published when all have the one before.
    pub window: usize,
    pub warm_up: Duration,
    pub measure: Duration,
}

/// What it has measured.
#[derive(Serialize, Deserialize)]
pub struct Measured {
    pub messages: u64,
    pub deliveries: u64,
    pub spent: Duration,
    pub generator: Duration,
    pub took: Duration,
    pub reads: u64,
    pub bytes: u64,
}

impl Measured {
    /// Nanoseconds of the server per delivered message.
    pub fn each(&self) -> f64 {
        nanos(self.spent) / float(self.deliveries)
    }
}

/// How many follow, how many messages are in flight, and the per cent of the limit to reach, where one is set.
const CASES: [(usize, usize, Option<f64>); 6] = [
    (100, 1, None),
    (1_000, 1, Some(80.0)),
    (5_000, 1, Some(80.0)),
    (100, 64, None),
    (1_000, 64, Some(50.0)),
    (5_000, 64, Some(55.0)),
];

pub fn drive(bench: &Bench, table: &mut Table) -> Outcome<()> {
    for (followers, window, to_reach) in CASES {
        if bench.quick && followers > 1_000 {
            continue;
        }
        table.add(compare(bench, "fan_out", followers, window)?.goal(to_reach.map(Goal::PercentAtLeast)));
    }
    Ok(())
}

/// Server, limit, and a limit whose frames are as long as the server's, in turns.
pub fn compare(bench: &Bench, name: &'static str, followers: usize, window: usize) -> Outcome<Row> {
    let way = if window == 1 { "one at a time".to_owned() } else { format!("{window} in flight") };
    let mut row = Row::new(name, format!("{followers} followers, {way}"), "ns CPU per delivery");
    for _ in 0..bench.repetitions {
        let server = Server::start(&bench.server, bench.pinned)?;
        let our = run(bench, server.target(), followers, window)?;
        server.process.stop()?;
        let limit = run_limit(bench, 0, followers, window)?;
        // Without the header that every frame of this length has.
        let frame_bytes = usize::try_from(our.bytes / our.deliveries)?.saturating_sub(4);
        let long = run_limit(bench, frame_bytes, followers, window)?;

        row.push_beside(our.each(), limit.each(), Against::Percent);
        row.detail("limit with frames as long as ours", long.each());
        row.detail("% of that", 100.0 * long.each() / our.each());
        row.detail("messages/s", float(our.messages) / our.took.as_secs_f64());
        row.detail("messages per read of a follower", float(our.deliveries) / float(our.reads));
        row.detail("messages per read, limit", float(limit.deliveries) / float(limit.reads));
        row.detail("bytes per delivery", float(our.bytes) / float(our.deliveries));
        row.detail("bytes per delivery, limit", float(limit.bytes) / float(limit.deliveries));
        row.note_generator(our.generator, our.took);
    }
    Ok(row)
}

fn run_limit(bench: &Bench, frame_bytes: usize, followers: usize, window: usize) -> Outcome<Measured> {
    let limit = start_limit(frame_bytes, bench.pinned)?;
    run(bench, Target::limit(&limit), followers, window)
}

fn run(bench: &Bench, target: Target, followers: usize, window: usize) -> Outcome<Measured> {
    generate(&generator::Plan::FanOut(Plan {
        scene: scene::Plan { target, rooms: 1, followers, publisher: Publisher::Outside },
        window,
        warm_up: bench.seconds(0.3),
        measure: bench.seconds(2.0),
    }))
}

/// The generator's part.
pub fn perform(plan: &Plan) -> Outcome<Measured> {
    let mut scene = Scene::set(&plan.scene)?;
    let mut flight = Flight::new(plan.scene.followers, plan.window, scene.follows.len());
    flight.go_on(&mut scene, plan.warm_up)?;

    let pid = plan.scene.target.pid();
    let published = flight.next;
    scene.clients.arrived = Arrived::default();
    let (before, own, began) = (Spent::by(pid)?, own_time(), Instant::now());
    flight.go_on(&mut scene, plan.measure)?;
    let (took, generator, spent) = (began.elapsed(), own_time() - own, Spent::by(pid)?.since(&before));

    // Whatever came twice would come now.
    let arrived = scene.clients.arrived;
    flight.nothing_more(&mut scene)?;
    let messages = flight.next - published;
    let deliveries = messages * plan.scene.followers as u64;
    Ok(Measured { messages, deliveries, spent, generator, took, reads: arrived.reads, bytes: arrived.bytes })
}

/// The messages that are under way to the followers of one room.
struct Flight {
    window: u64,
    followers: usize,
    /// The number of the next message.
    next: u64,
    /// All before this have reached everybody.
    floor: u64,
    /// By number modulo window: how many followers do not have it yet.
    left: Vec<usize>,
    /// By client: the number that it gets next.
    expected: Vec<u64>,
    acknowledged: u64,
    finder: Finder,
}

impl Flight {
    fn new(followers: usize, window: usize, clients: usize) -> Self {
        let (left, expected) = (vec![0; window], vec![0; clients]);
        let window = window as u64;
        Self { window, followers, next: 0, floor: 0, left, expected, acknowledged: 0, finder: Finder::default() }
    }

    /// Publishes for `time`, and until all of it has been delivered and acknowledged.
    fn go_on(&mut self, scene: &mut Scene, time: Duration) -> Outcome<()> {
        let (publisher, until) = (scene.publishers[0], Instant::now() + time);
        let acknowledges = scene.acknowledges;
        loop {
            let more = Instant::now() < until;
            while more && self.next - self.floor < self.window {
                let slot = usize::try_from(self.next % self.window)?;
                self.left[slot] = self.followers;
                scene.clients.send(publisher, scene.messages[0].numbered(self.next));
                self.next += 1;
            }
            let answered = !acknowledges || self.acknowledged == self.next;
            if !more && self.next == self.floor && answered {
                return Ok(());
            }
            if !self.round(scene, SILENCE)? {
                let (next, floor) = (self.next, self.floor);
                return Err(format!("{next} messages were published, and only {floor} reach everybody").into());
            }
        }
    }

    fn round(&mut self, scene: &mut Scene, limit: Duration) -> Outcome<bool> {
        let follows = &scene.follows;
        let came = scene.clients.round(Some(limit), &mut |_, id, happened| {
            let Happened::Text(frame) = happened else { return Ok(()) };
            if follows[id].is_none() && is_reply(frame)? {
                self.acknowledged += 1;
                return Ok(());
            }
            let number = self.finder.number(frame)?;
            if number != self.expected[id] {
                return Err(format!("follower {id} got message {number} and not {}", self.expected[id]).into());
            }
            if number >= self.next {
                return Err(format!("follower {id} got message {number}, which is not published").into());
            }
            self.expected[id] += 1;
            self.left[usize::try_from(number % self.window)?] -= 1;
            Ok(())
        })?;
        while self.floor < self.next && self.left[usize::try_from(self.floor % self.window)?] == 0 {
            self.floor += 1;
        }
        Ok(came)
    }

    /// Fails where anything comes for which nothing was published.
    fn nothing_more(&mut self, scene: &mut Scene) -> Outcome<()> {
        let until = Instant::now() + Duration::from_millis(50);
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.round(scene, left)?;
        }
        Ok(())
    }
}
