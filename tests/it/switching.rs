//! Clients that change the transport every moment while the server stops and starts.

use std::sync::Arc;
use std::time::Duration;

use chinwag::store::memory::MemoryStore;
use tokio::sync::watch;

use crate::harness::{Setup, TestServer, patiently};
use crate::support::random::Random;
use crate::support::switching::Crowd;

/// More than may be exceptions of a world, so that streams come to passes while they are read.
const MANY_ROOMS: usize = 70;

#[tokio::test]
async fn who_changes_the_transport_every_moment_reads_everything_once() {
    switch(8, Crowd::of_room).await;
}

#[tokio::test]
async fn who_changes_the_transport_every_moment_reads_a_whole_world_once() {
    switch(6, |people| Crowd::of_world(12, people)).await;
}

#[tokio::test]
async fn a_world_of_many_rooms_is_read_once_by_every_transport_in_turn() {
    switch(6, |people| Crowd::of_world(MANY_ROOMS, people)).await;
}

async fn switch(readers: usize, crowd: impl FnOnce(Vec<(String, String)>) -> Crowd) {
    let mut random = Random::seeded_by("CHINWAG_SWITCH_SEED");
    let store = MemoryStore::new();
    let mut server = on(&store);
    let crowd = crowd(people(&server, readers));
    let (up, _) = watch::channel(server.address);
    let mut pauses = random.fork();
    let trouble = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300 + pauses.below(700))).await;
            server = restarted(&mut server, &store).await;
            up.send_replace(server.address);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    crowd.switch(&up, &mut random, trouble).await;
}

#[tokio::test]
async fn a_place_is_kept_before_anything_has_been_read() {
    sleep(Crowd::of_room).await;
}

#[tokio::test]
async fn a_place_in_the_world_is_kept_before_anything_has_been_read() {
    sleep(|people| Crowd::of_world(3, people)).await;
}

async fn sleep(crowd: impl FnOnce(Vec<(String, String)>) -> Crowd) {
    let store = MemoryStore::new();
    let mut server = on(&store);
    let crowd = crowd(people(&server, 1));
    let (up, _) = watch::channel(server.address);
    let restart = async {
        server = restarted(&mut server, &store).await;
        up.send_replace(server.address);
    };
    crowd.sleep(&up, restart).await;
}

fn people(server: &TestServer, count: usize) -> Vec<(String, String)> {
    let names = (0..count).map(|n| format!("reader-{n}"));
    names.map(|name| (name.clone(), server.token(&name))).collect()
}

/// Stops a server in order; another one goes on with its log.
async fn restarted(server: &mut TestServer, store: &MemoryStore) -> TestServer {
    let stopped = server.begin_stop();
    patiently(tokio::task::spawn_blocking(|| stopped.join())).await.unwrap().expect("it stops in order");
    on(store)
}

fn on(store: &MemoryStore) -> TestServer {
    TestServer::with(Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() })
}
