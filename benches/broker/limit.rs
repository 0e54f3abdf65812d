//! The limit: what nobody can do for less who writes each follower's bytes to a socket of its own.
//!
//! A bare epoll loop on one thread, without log, ids, history, members or answers. It frames what has come in once, and
//! does one `send` per follower and round; a round is what one `epoll_wait` has brought. The path says who somebody is:
//! `/7` follows room 7, `/7/publish` only publishes there; whoever follows may publish, too.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::event::epoll;

use crate::{Outcome, poll, websocket};

/// The listener among the events.
const LISTENER: u64 = u64::MAX;

struct Peer {
    stream: TcpStream,
    /// What has come of a handshake or of a frame that is not whole yet.
    rest: Vec<u8>,
    /// Bytes that the kernel did not take; empty unless the reader is slow.
    unsent: Vec<u8>,
    /// `None` until the handshake has said it.
    room: Option<usize>,
}

#[derive(Default)]
struct Room {
    followers: Vec<usize>,
    /// The frames of this round.
    frames: Vec<u8>,
}

/// Serves until it is killed. Frames carry at least `frame_bytes`: what comes in is filled up with spaces, for who wants
/// to compare with a server whose frames say more.
pub fn run(frame_bytes: usize) -> Outcome<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    // The backlog that `std` asks for is 128, and thousands come at once.
    rustix::net::listen(&listener, 4096)?;
    listener.set_nonblocking(true)?;
    println!("listening on http://{}", listener.local_addr()?);

    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    let (mut peers, mut rooms, mut touched): (Vec<Option<Peer>>, Vec<Room>, Vec<usize>) = Default::default();
    let mut events = poll::events();
    let mut scratch = vec![0; 256 * 1024];
    loop {
        poll::wait(&epoll, &mut events, None)?;
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                accept(&listener, &epoll, &mut peers)?;
                continue;
            }
            let id = usize::try_from(id)?;
            let Some(peer) = &mut peers[id] else { continue };
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT) {
                write_unsent(peer, &epoll, id)?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                let open = read(peer, &mut scratch, |peer, input| {
                    take(peer, id, input, frame_bytes, &mut rooms, &mut touched)
                });
                if !open? {
                    if let Some(room) = peer.room {
                        rooms[room].followers.retain(|&follower| follower != id);
                    }
                    peers[id] = None;
                }
            }
        }
        for room in touched.drain(..) {
            let Room { followers, frames } = &mut rooms[room];
            for &follower in followers.iter() {
                if let Some(peer) = &mut peers[follower] {
                    send(peer, frames, &epoll, follower)?;
                }
            }
            frames.clear();
        }
    }
}

fn accept(listener: &TcpListener, epoll: &impl std::os::fd::AsFd, peers: &mut Vec<Option<Peer>>) -> Outcome<()> {
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll::add(epoll, &stream, epoll::EventData::new_u64(peers.len() as u64), epoll::EventFlags::IN)?;
        peers.push(Some(Peer { stream, rest: Vec::new(), unsent: Vec::new(), room: None }));
    }
}

/// Reads once, and hands on what is there; `take` says how much of it is done with. False at the end.
fn read(
    peer: &mut Peer,
    scratch: &mut [u8],
    take: impl FnOnce(&mut Peer, &mut [u8]) -> Outcome<usize>,
) -> Outcome<bool> {
    let before = peer.rest.len();
    scratch[..before].copy_from_slice(&peer.rest);
    let bytes = match peer.stream.read(&mut scratch[before..]) {
        Ok(0) => return Ok(false),
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let input = &mut scratch[..before + bytes];
    let taken = take(peer, input)?;
    peer.rest.clear();
    peer.rest.extend_from_slice(&input[taken..]);
    Ok(true)
}

/// Takes the handshake, or frames to pass on.
fn take(
    peer: &mut Peer,
    id: usize,
    input: &mut [u8],
    frame_bytes: usize,
    rooms: &mut Vec<Room>,
    touched: &mut Vec<usize>,
) -> Outcome<usize> {
    let Some(room) = peer.room else {
        if !input.ends_with(b"\r\n\r\n") {
            return Ok(0);
        }
        let path = input.split(|&byte| byte == b' ').nth(1).ok_or("no path")?;
        let mut parts = std::str::from_utf8(path)?.trim_start_matches('/').split('/');
        let room: usize = parts.next().unwrap_or_default().parse()?;
        if rooms.len() <= room {
            rooms.resize_with(room + 1, Room::default);
        }
        if parts.next().is_none() {
            rooms[room].followers.push(id);
        }
        peer.room = Some(room);
        // Our own client does not check the proof that RFC 6455 has here.
        peer.stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        return Ok(input.len());
    };
    let mut at = 0;
    while let Some(header) = websocket::header(&input[at..]) {
        let end = at + header.bytes + header.payload;
        if end > input.len() {
            break;
        }
        let payload = &mut input[at + header.bytes..end];
        websocket::unmask(payload, header.mask.ok_or("a client masks")?);
        if header.opcode == websocket::TEXT {
            let frames = &mut rooms[room].frames;
            if frames.is_empty() {
                touched.push(room);
            }
            let bytes = payload.len().max(frame_bytes);
            websocket::put_header(frames, websocket::TEXT, bytes, 0);
            frames.resize(frames.len() + bytes - payload.len(), b' ');
            frames.extend_from_slice(payload);
        }
        at = end;
    }
    Ok(at)
}

fn send(peer: &mut Peer, frames: &[u8], epoll: &impl std::os::fd::AsFd, id: usize) -> Outcome<()> {
    if !peer.unsent.is_empty() {
        peer.unsent.extend_from_slice(frames);
        return Ok(());
    }
    let sent = match peer.stream.write(frames) {
        Ok(sent) => sent,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        // Its end is read in the next round.
        Err(_) => return Ok(()),
    };
    if sent < frames.len() {
        peer.unsent.extend_from_slice(&frames[sent..]);
        let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::modify(epoll, &peer.stream, epoll::EventData::new_u64(id as u64), wanted)?;
    }
    Ok(())
}

fn write_unsent(peer: &mut Peer, epoll: &impl std::os::fd::AsFd, id: usize) -> Outcome<()> {
    match peer.stream.write(&peer.unsent) {
        Ok(sent) => drop(peer.unsent.drain(..sent)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => peer.unsent.clear(),
    }
    if peer.unsent.is_empty() {
        epoll::modify(epoll, &peer.stream, epoll::EventData::new_u64(id as u64), epoll::EventFlags::IN)?;
    }
    Ok(())
}
