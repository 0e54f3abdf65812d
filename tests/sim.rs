//! The joints between room, registry, relay and session as a pure simulation: every interleaving of register, check,
//! head, commit and publish in small worlds, and random ones in larger worlds.
//!
//! The world has the parts of the real one and nothing else: a log whose records are durable when they are in it, the
//! interest of a relay, the relay's mailbox and what the room keeps for it meanwhile, and clients whose follower is the
//! real [`Follow`]. Whatever the order, a follower is handed each record once, in order, nothing after the removal that
//! ends its membership, and in the end everything; and nobody is told that somebody is no member before that has reached
//! the follower.

#![allow(clippy::cast_possible_truncation, reason = "the numbers of a test are small")]

use std::collections::BTreeSet;

use chinwag::domain::session::{Follow, Generation};
use chinwag::domain::{Epoch, Position, Seq};
use proptest::prelude::*;

#[test]
fn every_interleaving_of_follow_and_post_hands_each_record_over_once() {
    let explored = explore(World::new(1, vec![Plan::Post, Plan::Post], vec![vec![Wish::Follow]]));
    assert!(explored > 100, "only {explored} worlds");
}

#[test]
fn every_interleaving_of_follow_and_kick_leaks_nothing() {
    let plans = vec![Plan::Post, Plan::Kick(0), Plan::Post];
    let explored = explore(World::new(1, plans, vec![vec![Wish::Follow]]));
    assert!(explored > 100, "only {explored} worlds");
}

#[test]
fn every_interleaving_of_following_from_now_and_kick_leaks_nothing() {
    let plans = vec![Plan::Kick(0), Plan::Post, Plan::Post];
    let explored = explore(World::new(1, plans, vec![vec![Wish::FollowNow]]));
    assert!(explored > 100, "only {explored} worlds");
}

#[test]
fn every_interleaving_of_kick_rejoin_and_follow_ends_whole() {
    let plans = vec![Plan::Kick(0), Plan::Join(0), Plan::Post];
    let explored = explore(World::new(1, plans, vec![vec![Wish::Follow, Wish::Follow]]));
    assert!(explored > 1_000, "only {explored} worlds");
}

#[test]
fn every_interleaving_of_a_room_that_dies_between_commit_and_publish_ends_whole() {
    let plans = vec![Plan::Post, Plan::Die, Plan::Post];
    let explored = explore(World::new(1, plans, vec![vec![Wish::Follow]]));
    assert!(explored > 100, "only {explored} worlds");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn random_worlds_end_whole(
        plans in prop::collection::vec(plan(3), 1..20),
        wishes in prop::collection::vec(prop::collection::vec(wish(), 1..6), 3),
        choices in prop::collection::vec(any::<u16>(), 400),
    ) {
        let mut world = World::new(3, plans, wishes);
        for choice in choices {
            let steps = world.steps();
            if steps.is_empty() {
                break;
            }
            world.take(steps[usize::from(choice) % steps.len()]);
            world.check();
        }
        world.settle();
        world.check_whole();
    }
}

/// A relay that forgot to look at removals, a follower that took anything: the checks above must see both.
#[test]
#[should_panic(expected = "leaked")]
fn the_simulation_notices_a_leak() {
    let mut world = World::new(1, vec![Plan::Kick(0), Plan::Post], vec![vec![Wish::Follow]]);
    world.deaf_to_removals = true;
    explore(world);
}

#[test]
#[should_panic(expected = "leaked")]
fn the_simulation_notices_a_removal_that_died_with_its_room() {
    let plans = vec![Plan::Kick(0), Plan::Die, Plan::Post];
    let mut world = World::new(1, plans, vec![vec![Wish::FollowNow]]);
    world.makes_up = false;
    explore(world);
}

#[test]
fn every_interleaving_of_a_removal_that_died_with_its_room_leaks_nothing() {
    let plans = vec![Plan::Kick(0), Plan::Die, Plan::Post, Plan::Post];
    let explored = explore(World::new(1, plans, vec![vec![Wish::FollowNow, Wish::Follow]]));
    assert!(explored > 100, "only {explored} worlds");
}

#[test]
fn every_interleaving_of_a_room_that_dies_before_a_removal_is_confirmed_leaks_nothing() {
    for plans in unconfirmed_removals() {
        let explored = explore(World::new(1, plans, vec![vec![Wish::FollowNow, Wish::Follow]]));
        assert!(explored > 100, "only {explored} worlds");
    }
}

#[test]
fn the_simulation_notices_a_removal_that_counts_as_published_before_it_is_confirmed() {
    for (plans, notices) in unconfirmed_removals().into_iter().zip(["answered too early", "leaked"]) {
        let mut world = World::new(1, plans, vec![vec![Wish::FollowNow]]);
        world.confirms = false;
        let noticed = std::panic::catch_unwind(|| explore(world)).expect_err("nothing was noticed");
        let noticed = noticed.downcast::<String>().expect("an assertion has a text");
        assert!(noticed.contains(notices), "{noticed}");
    }
}

/// The room dies while the removal is on its way, or before it has been sent; and somebody asks for the same again.
fn unconfirmed_removals() -> [Vec<Plan>; 2] {
    [vec![Plan::Post, Plan::Kick(0), Plan::Die, Plan::Kick(0)], vec![Plan::Post, Plan::Kick(0), Plan::Die, Plan::Post]]
}

#[test]
#[should_panic(expected = "twice or out of order")]
fn the_simulation_notices_a_double() {
    let mut world = World::new(1, vec![Plan::Post, Plan::Post], vec![vec![Wish::Follow]]);
    world.doubles = true;
    explore(world);
}

/// What the room is going to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plan {
    Post,
    Join(usize),
    Kick(usize),
    /// The room dies, with whatever it has committed and the relay does not have, and its successor announces the head.
    Die,
}

/// What a client is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wish {
    /// Follow from where the client has got to.
    Follow,
    /// Follow from the head, whatever the client has.
    FollowNow,
    Unfollow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Post,
    Joined(usize),
    Kicked(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mail {
    Publication { life: u64, first: u64, last: u64 },
    Announce { head: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many of the next plans are committed, together.
    Commit(usize),
    /// The room dies, and is started again.
    Die,
    /// What has been committed is sent to the relay, if it is interested and has taken the last publication.
    Publish,
    /// The relay takes its next mail.
    Relay,
    Client(usize),
    /// The client's outbox turns out to be full.
    TakeBack(usize),
    /// The socket takes what is in the client's outbox.
    Drain(usize),
}

#[derive(Clone)]
struct World {
    log: Vec<Entry>,
    /// How many rooms have died before this one.
    life: u64,
    /// Up to where the room has published.
    published: u64,
    /// Where it stood before each removal that has not reached the relay's followers.
    removals: Vec<u64>,
    /// The relay has a publication of this room that it has not taken; and what comes after it.
    unacknowledged: bool,
    backlog: Option<(u64, u64)>,
    /// Who was to be removed and was no member any more: that is answered when every removal is confirmed.
    late: Vec<usize>,
    plans: Vec<Plan>,
    mail: Vec<Mail>,
    clients: Vec<Client>,
    /// A room that has just been woken waits until the removals that it has published again have arrived.
    waits: bool,
    makes_up: bool,
    /// A successor makes up for removals that were sent and not confirmed.
    confirms: bool,
    deaf_to_removals: bool,
    doubles: bool,
}

#[derive(Clone)]
struct Client {
    wishes: Vec<Wish>,
    follow: Option<Follow>,
    generation: u64,
    stage: Stage,
    /// The membership on which the present follow stands.
    joined: u64,
    /// Handed over and not taken by the socket: the position before each, and its seq.
    outbox: Vec<(u64, u64)>,
    /// Where the client began, and what it has got since: it resumes behind the last.
    base: u64,
    got: Vec<u64>,
    now: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Registered,
    Checked { joined: u64 },
    Open,
    Reading { generation: u64, after: u64, last: u64 },
}

impl World {
    fn new(clients: usize, plans: Vec<Plan>, wishes: Vec<Vec<Wish>>) -> Self {
        let client = |wishes: Vec<Wish>| Client {
            wishes,
            follow: None,
            generation: 0,
            stage: Stage::Idle,
            joined: 0,
            outbox: Vec::new(),
            base: 0,
            got: Vec::new(),
            now: false,
        };
        let log: Vec<_> = (0..clients).map(Entry::Joined).collect();
        Self {
            life: 0,
            published: log.len() as u64,
            removals: Vec::new(),
            unacknowledged: false,
            backlog: None,
            late: Vec::new(),
            log,
            plans,
            mail: Vec::new(),
            clients: wishes.into_iter().map(client).collect(),
            waits: false,
            makes_up: true,
            confirms: true,
            deaf_to_removals: false,
            doubles: false,
        }
    }

    fn head(&self) -> u64 {
        self.log.len() as u64
    }

    /// The seq of the join by which the client is a member now.
    fn membership(&self, client: usize) -> Option<u64> {
        let last =
            self.log.iter().rposition(|entry| matches!(entry, Entry::Joined(c) | Entry::Kicked(c) if *c == client))?;
        matches!(self.log[last], Entry::Joined(_)).then_some(last as u64 + 1)
    }

    fn interested(&self) -> bool {
        self.clients.iter().any(|client| client.follow.is_some())
    }

    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        match self.plans[..] {
            [] => {}
            _ if self.waits => {}
            [Plan::Die, ..] => steps.push(Step::Die),
            // A room publishes what it has committed before it commits again.
            _ if self.published < self.head() => {}
            [_] | [_, Plan::Die, ..] => steps.push(Step::Commit(1)),
            [_, _, ..] => steps.extend([Step::Commit(1), Step::Commit(2)]),
        }
        if self.published < self.head() {
            steps.push(Step::Publish);
        }
        if !self.mail.is_empty() {
            steps.push(Step::Relay);
        }
        for (index, client) in self.clients.iter().enumerate() {
            let behind = client.follow.as_ref().is_some_and(|follow| follow.wants_page_after().is_some());
            let reads = behind && client.outbox.is_empty();
            match client.stage {
                Stage::Idle | Stage::Open if client.wishes.is_empty() && !reads => {}
                Stage::Idle | Stage::Open | Stage::Registered | Stage::Checked { .. } | Stage::Reading { .. } => {
                    steps.push(Step::Client(index));
                }
            }
            if !client.outbox.is_empty() {
                steps.push(Step::Drain(index));
                steps.push(Step::TakeBack(index));
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Commit(count) => {
                for _ in 0..count {
                    match self.plans.remove(0) {
                        Plan::Post => self.log.push(Entry::Post),
                        Plan::Join(client) if self.membership(client).is_none() => self.log.push(Entry::Joined(client)),
                        Plan::Kick(client) if self.membership(client).is_some() => self.log.push(Entry::Kicked(client)),
                        Plan::Kick(client) => self.late.push(client),
                        Plan::Join(_) | Plan::Die => {}
                    }
                }
            }
            Step::Die => {
                self.plans.remove(0);
                self.die();
            }
            Step::Publish => {
                if self.interested() {
                    self.publish(self.published + 1);
                }
                self.published = self.head();
            }
            Step::Relay => {
                let mail = self.mail.remove(0);
                self.waits &= !self.mail.is_empty();
                self.relay(mail);
            }
            Step::Client(index) => self.client(index),
            Step::TakeBack(index) => {
                let client = &mut self.clients[index];
                let first = client.outbox[0].0;
                client.outbox.clear();
                if let Some(follow) = &mut client.follow {
                    follow.rewind(position(first));
                }
            }
            Step::Drain(index) => {
                let client = &mut self.clients[index];
                let taken = std::mem::take(&mut client.outbox);
                client.got.extend(taken.into_iter().map(|(_, seq)| seq));
            }
        }
        self.answer();
    }

    /// What was committed from `first` on goes to the relay, or waits until that has taken the last publication.
    fn publish(&mut self, first: u64) {
        if self.removes_after(first - 1) {
            self.removals.push(first - 1);
        }
        let first = self.backlog.map_or(first, |(first, _)| first);
        self.backlog = Some((first, self.head()));
        self.send();
    }

    fn send(&mut self) {
        if !self.unacknowledged
            && let Some((first, last)) = self.backlog.take()
        {
            self.unacknowledged = true;
            self.mail.push(Mail::Publication { life: self.life, first, last });
        }
    }

    fn removes_after(&self, seq: u64) -> bool {
        self.log[seq as usize..].iter().any(|entry| matches!(entry, Entry::Kicked(_)))
    }

    /// Of whom it is said now that they are no members, nobody stands on the membership that has ended.
    fn answer(&mut self) {
        if !self.removals.is_empty() || self.published < self.head() {
            return;
        }
        for index in std::mem::take(&mut self.late) {
            let client = &self.clients[index];
            let joined = match client.stage {
                Stage::Idle | Stage::Registered => continue,
                Stage::Checked { joined } => joined,
                Stage::Open | Stage::Reading { .. } => client.joined,
            };
            let stands = client.follow.as_ref().is_some_and(|follow| follow.stands(Seq(joined)));
            assert!(!stands || self.membership(index) == Some(joined), "answered too early for client {index}");
        }
    }

    /// What a room has committed and not published when it dies is announced by its successor; where somebody was removed
    /// by it, or by what has not been confirmed, it is published before, and nothing is decided before it has arrived.
    fn die(&mut self) {
        let unconfirmed = self.removals.first().filter(|_| self.confirms);
        let published = unconfirmed.copied().unwrap_or(self.published);
        self.life += 1;
        (self.published, self.unacknowledged) = (self.head(), false);
        (self.removals, self.backlog, self.late) = (Vec::new(), None, Vec::new());
        if self.interested() {
            if self.removes_after(published) && self.makes_up {
                self.publish(published + 1);
                self.waits = true;
            }
            self.mail.push(Mail::Announce { head: self.head() });
        }
    }

    fn relay(&mut self, mail: Mail) {
        match mail {
            Mail::Publication { life, first, last } => {
                self.deliver(first, last);
                if life == self.life {
                    self.removals.retain(|before| *before >= last);
                    self.unacknowledged = false;
                    self.send();
                }
            }
            Mail::Announce { head } => {
                for follow in self.clients.iter_mut().filter_map(|client| client.follow.as_mut()) {
                    follow.announce(Seq(head));
                }
            }
        }
    }

    fn deliver(&mut self, first: u64, last: u64) {
        let (deaf, doubles) = (self.deaf_to_removals, self.doubles);
        for index in 0..self.clients.len() {
            let removals: Vec<_> = (first..=last)
                .filter(|seq| !deaf && self.log[*seq as usize - 1] == Entry::Kicked(index))
                .map(Seq)
                .collect();
            let client = &mut self.clients[index];
            let Some(follow) = &mut client.follow else { continue };
            let handed = follow.publication(Seq(first), position(last), removals);
            if let Some((from, until)) = handed.records {
                client.hand(from.seq.0, until.0);
                if doubles {
                    client.hand(until.0 - 1, until.0);
                }
            }
            if handed.ended.is_some() {
                client.follow = None;
                client.stage = Stage::Idle;
            }
        }
    }

    fn client(&mut self, index: usize) {
        let (head, membership) = (self.head(), self.membership(index));
        let kicks: Vec<u64> = if self.deaf_to_removals {
            Vec::new()
        } else {
            (1..).zip(&self.log).filter(|(_, entry)| **entry == Entry::Kicked(index)).map(|(seq, _)| seq).collect()
        };
        let client = &mut self.clients[index];
        match client.stage {
            Stage::Idle | Stage::Open if !client.wishes.is_empty() => {
                client.follow = None;
                client.outbox.clear();
                client.stage = Stage::Idle;
                let wish = client.wishes.remove(0);
                if wish != Wish::Unfollow {
                    client.now = wish == Wish::FollowNow;
                    client.generation += 1;
                    client.follow = Some(Follow::opening(Generation(client.generation)));
                    client.stage = Stage::Registered;
                }
            }
            Stage::Registered => match membership {
                Some(joined) => client.stage = Stage::Checked { joined },
                None => client.refused(),
            },
            Stage::Checked { joined } => {
                let at = if client.now { head } else { client.at() };
                let Some(follow) = &mut client.follow else { return client.refused() };
                if !follow.admit(position(at), Seq(joined)) {
                    return client.refused();
                }
                if client.now {
                    (client.base, client.got) = (head, Vec::new());
                }
                client.joined = joined;
                follow.page(Generation(client.generation), Seq(at), None, at == head, []);
                client.stage = Stage::Open;
            }
            Stage::Open => {
                let Some(after) = client.follow.as_ref().and_then(Follow::wants_page_after) else { return };
                // Pages of two, so that catching up takes several.
                let last = head.min(after.seq.0 + 2);
                client.stage = Stage::Reading { generation: client.generation, after: after.seq.0, last };
            }
            Stage::Reading { generation, after, last } => {
                client.stage = Stage::Open;
                let Some(follow) = &mut client.follow else { return };
                let end = (last > after).then(|| position(last));
                let removals: Vec<_> = (after + 1..=last).filter(|seq| kicks.contains(seq)).map(Seq).collect();
                // A page that is not full was all there was when it was read.
                let handed = follow.page(Generation(generation), Seq(after), end, last < after + 2, removals);
                if let Some((from, until)) = handed.records {
                    client.hand(from.seq.0, until.0);
                }
                if handed.ended.is_some() {
                    client.refused();
                }
            }
            Stage::Idle => {}
        }
    }

    /// Nobody fails any more: everything that is under way arrives.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let quiet = |step: &Step| !matches!(step, Step::TakeBack(_));
            let Some(step) = self.steps().into_iter().find(quiet) else { return };
            self.take(step);
            self.check();
        }
        panic!("the world does not come to rest");
    }

    /// What must hold at every moment.
    fn check(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            let handed: Vec<u64> =
                client.got.iter().copied().chain(client.outbox.iter().map(|(_, seq)| *seq)).collect();
            assert!(
                handed.iter().zip(client.base + 1..).all(|(seq, expected)| *seq == expected),
                "client {index} was handed something twice or out of order: {handed:?}"
            );
            let leak = client.outbox.iter().find(|(_, seq)| {
                (client.joined..*seq).any(|at| at > client.joined && self.log[at as usize - 1] == Entry::Kicked(index))
            });
            assert!(leak.is_none(), "leaked to client {index}: {leak:?} with {:?}", self.log);
        }
    }

    /// What must hold when everything has come to rest.
    fn check_whole(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            if client.stage == Stage::Open && client.follow.is_some() && self.membership(index) == Some(client.joined) {
                assert_eq!(client.at(), self.head(), "client {index} misses something");
            }
        }
    }
}

impl Client {
    fn at(&self) -> u64 {
        self.got.last().copied().unwrap_or(self.base)
    }

    fn hand(&mut self, after: u64, until: u64) {
        self.outbox.extend((after + 1..=until).map(|seq| (seq - 1, seq)));
    }

    fn refused(&mut self) {
        self.follow = None;
        self.stage = Stage::Idle;
    }
}

fn position(seq: u64) -> Position {
    Position { epoch: Epoch(1), seq: Seq(seq) }
}

/// Visits every interleaving, each state once, and brings each to rest. Returns how many states there were.
fn explore(world: World) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = vec![world];
    while let Some(world) = open.pop() {
        world.check();
        let mut rested = world.clone();
        rested.settle();
        rested.check_whole();
        for step in world.steps() {
            let mut next = world.clone();
            next.take(step);
            if seen.insert(next.fingerprint()) {
                open.push(next);
            }
        }
        assert!(seen.len() < 2_000_000, "the world is too large to explore");
    }
    seen.len()
}

impl World {
    fn fingerprint(&self) -> String {
        use std::fmt::Write;
        let mut text = format!("{:?}{}{:?}{:?}{}", self.log, self.published, self.plans, self.mail, self.waits);
        write!(text, "{}{:?}{}{:?}{:?}", self.life, self.removals, self.unacknowledged, self.backlog, self.late)
            .expect("a string takes everything");
        for client in &self.clients {
            write!(
                text,
                "|{:?}{:?}{:?}{}{:?}{}{:?}{}",
                client.wishes,
                client.follow,
                client.stage,
                client.joined,
                client.outbox,
                client.base,
                client.got,
                client.now
            )
            .expect("a string takes everything");
        }
        text
    }
}

fn plan(clients: usize) -> impl Strategy<Value = Plan> {
    prop_oneof![
        4 => Just(Plan::Post),
        1 => (0..clients).prop_map(Plan::Join),
        1 => (0..clients).prop_map(Plan::Kick),
        1 => Just(Plan::Die),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![3 => Just(Wish::Follow), 2 => Just(Wish::FollowNow), 1 => Just(Wish::Unfollow)]
}
