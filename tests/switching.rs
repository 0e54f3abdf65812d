//! Clients that change the transport every moment while the real server is killed and started again.
//!
//! `CHINWAG_SWITCH_SECONDS` says for how long, `CHINWAG_SWITCH_ROOMS` of how many rooms a world is, and
//! `CHINWAG_SWITCH_SEED` repeats a run's choices (not its timing).

#[path = "support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::broker::{self, Broker};
use support::random::Random;
use support::sized_by;
use support::switching::Crowd;
use tokio::sync::watch;

const READERS: usize = 6;

#[tokio::test]
async fn no_kill_costs_who_changes_the_transport_anything() {
    switch(Crowd::of_room).await;
}

#[tokio::test]
async fn no_kill_costs_who_reads_a_whole_world_anything() {
    let rooms = usize::try_from(sized_by("CHINWAG_SWITCH_ROOMS", 12)).expect("a number of rooms");
    switch(|people| Crowd::of_world(rooms, people)).await;
}

async fn switch(crowd: impl FnOnce(Vec<(String, String)>) -> Crowd) {
    let time = Duration::from_secs(sized_by("CHINWAG_SWITCH_SECONDS", 8));
    let mut random = Random::seeded_by("CHINWAG_SWITCH_SEED");
    let home = home();
    let data = home.path().join("data");
    let (mut server, address) = start(&data).await;
    let crowd = crowd(people(&data, READERS));
    let (up, _) = watch::channel(address);
    let (mut pauses, mut kills) = (random.fork(), 0);
    let trouble = async {
        let began = Instant::now();
        while began.elapsed() < time {
            tokio::time::sleep(Duration::from_millis(200 + pauses.below(1000))).await;
            server.kill();
            kills += 1;
            let (started, address) = start(&data).await;
            server = started;
            up.send_replace(address);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    crowd.switch(&up, &mut random, trouble).await;
    println!("switching: kills={kills}");
    assert!(kills > 1, "the server was hardly killed");
}

#[tokio::test]
async fn no_kill_costs_a_place_at_which_nothing_has_been_read() {
    for crowd in [Crowd::of_room, |people| Crowd::of_world(3, people)] {
        let home = home();
        let data = home.path().join("data");
        let (mut server, address) = start(&data).await;
        let crowd = crowd(people(&data, 1));
        let (up, _) = watch::channel(address);
        let restart = async {
            server.kill();
            let (started, address) = start(&data).await;
            server = started;
            up.send_replace(address);
        };
        crowd.sleep(&up, restart).await;
    }
}

fn home() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the run")
}

fn people(data: &Path, count: usize) -> Vec<(String, String)> {
    let names = (0..count).map(|n| format!("reader-{n}"));
    names.map(|name| (name.clone(), broker::token(data, &name).expect("a token is made"))).collect()
}

/// A server that serves. Clients go on meanwhile.
async fn start(data: &Path) -> (Broker, SocketAddr) {
    let data: PathBuf = data.to_owned();
    let started = tokio::task::spawn_blocking(move || {
        let mut broker = Broker::start(&data, 0);
        let (port, _) = broker.ready().unwrap_or_else(|why| panic!("{why}"));
        (broker, SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    });
    started.await.expect("the server starts")
}
