//! Clients that change the transport every moment while the real server is killed and started again.
//!
//! `CHINWAG_SWITCH_SECONDS` says for how long, `CHINWAG_SWITCH_SEED` repeats a run's choices (not its timing).

#[path = "support/mod.rs"]
mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use support::broker::{self, Broker};
use support::random::Random;
use support::sized_by;
use support::switching::{ask, connect, crowd};
use tokio::sync::watch;

const READERS: usize = 6;

#[tokio::test]
async fn no_kill_costs_who_changes_the_transport_anything() {
    let time = Duration::from_secs(sized_by("CHINWAG_SWITCH_SECONDS", 8));
    let mut random = Random::seeded_by("CHINWAG_SWITCH_SEED");
    let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory for the run");
    let data = home.path().join("data");
    let (mut server, address) = start(&data).await;
    let tokens: Vec<_> = (0..READERS).map(|n| broker::token(&data, &format!("reader-{n}")).unwrap()).collect();
    for (n, token) in tokens.iter().enumerate() {
        let Ok(mut socket) = connect(address, token).await else { panic!("the server listens") };
        let command = match n {
            0 => json!({"id": "1", "type": "create", "kind": "channel", "alias": "lobby"}),
            _ => json!({"id": "1", "type": "join", "room": "lobby"}),
        };
        let Ok(reply) = ask(&mut socket, &command).await else { panic!("the server answers") };
        assert_eq!(reply["ok"], true, "{reply}");
    }

    let (up, _) = watch::channel(address);
    let (mut pauses, mut kills) = (random.fork(), 0);
    let began = Instant::now();
    let trouble = async {
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
    crowd("lobby", &tokens, &up, &mut random, trouble).await;
    println!("switching: kills={kills}");
    assert!(kills > 1, "the server was hardly killed");
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
