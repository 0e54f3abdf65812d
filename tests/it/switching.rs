//! Clients that change the transport every moment while the server stops and starts.

use std::sync::Arc;
use std::time::Duration;

use chinwag::store::memory::MemoryStore;
use tokio::sync::watch;

use crate::harness::{Setup, TestServer, create_channel, join, patiently, post};
use crate::support::random::Random;
use crate::support::switching::{Reader, Source, Transport, crowd};

const READERS: usize = 8;

#[tokio::test]
async fn who_changes_the_transport_every_moment_reads_everything_once() {
    let mut random = Random::seeded_by("CHINWAG_SWITCH_SEED");
    let store = MemoryStore::new();
    let mut server = on(&store);
    let names: Vec<_> = (0..READERS).map(|n| format!("reader-{n}")).collect();
    let mut ann = server.client("ann").await;
    ann.ask(create_channel("lobby")).await;
    for name in &names {
        server.client(name).await.ask(join("lobby")).await;
    }
    drop(ann);
    let tokens: Vec<_> = names.iter().map(|name| server.token(name)).collect();
    let (up, _) = watch::channel(server.address);
    let mut pauses = random.fork();
    let trouble = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(300 + pauses.below(700))).await;
            let stopped = server.begin_stop();
            patiently(tokio::task::spawn_blocking(|| stopped.join())).await.unwrap().expect("it stops in order");
            server = on(&store);
            up.send_replace(server.address);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    crowd("lobby", &tokens, &up, &mut random, trouble).await;
}

#[tokio::test]
async fn a_place_is_kept_before_anything_has_been_read() {
    for before in Transport::ALL {
        for behind in Transport::ALL {
            let store = MemoryStore::new();
            let mut server = on(&store);
            let mut ann = server.client("ann").await;
            ann.ask(create_channel("lobby")).await;
            ann.ask(post("lobby", "before")).await;
            let mut reader = Reader::new(Source::room("lobby"), server.token("ann"), "now");
            assert!(reader.touch(before, server.address).await.is_ok(), "{before:?}");
            ann.ask(post("lobby", "missed")).await;
            server.stop();
            let server = on(&store);
            let mut ann = server.client("ann").await;
            ann.ask(post("lobby", "after")).await;
            patiently(async {
                while reader.read.len() < 2 {
                    let _ = tokio::time::timeout(Duration::from_millis(300), reader.read_by(behind, server.address, 1))
                        .await;
                }
            })
            .await;
            let seqs: Vec<_> = reader.read.iter().map(|(_, seq, _)| *seq).collect();
            assert_eq!(seqs, [4, 5], "{before:?}, then {behind:?}");
        }
    }
}

fn on(store: &MemoryStore) -> TestServer {
    TestServer::with(Setup { store: Arc::new(store.in_epoch(MemoryStore::EPOCH)), ..Setup::default() })
}
