//! What strangers announce costs nothing: one test, alone in its process, because it measures that.
#![cfg(target_os = "linux")]

use chinwag::wire::guard::Limits;
use chinwag::wire::{Assembler, CloseReason, Dialect};

#[test]
fn announced_lengths_make_nothing_be_held() {
    let announcements = announcements();
    // Whatever is set up once is set up before measuring.
    decode(&announcements);
    let before = resident_peak_kib();
    for _ in 0..100 {
        decode(&announcements);
    }
    let mut header = vec![0x82, 0x80 | 127];
    header.extend((1_u64 << 30).to_be_bytes());
    let error = Assembler::new(Limits::BEFORE_AUTH).next(&mut &header[..]).unwrap_err();
    assert_eq!(error.close_reason(), CloseReason::TooBig);
    let grown = resident_peak_kib() - before;
    assert!(grown <= 1024, "{grown} KiB more than before");
}

fn decode(announcements: &[Vec<u8>]) {
    for frame in announcements {
        assert!(Dialect::NativeMsgpack.decode(frame).is_err(), "{frame:02x?}");
        assert!(Dialect::NativeMsgpack.decode_before_auth(frame).is_err(), "{frame:02x?}");
    }
}

/// Every marker with a length, at its largest and cut off, wherever a value may stand.
fn announcements() -> Vec<Vec<u8>> {
    let markers: [&[u8]; 16] = [
        b"\x8f",
        b"\x9f",
        b"\xbf",
        b"\xc4\xff",
        b"\xc5\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\xff\x01",
        b"\xc8\xff\xff\x01",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xd9\xff",
        b"\xda\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xdc\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xde\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ];
    let places: [&[u8]; 6] = [
        b"",
        b"\x81\xa2id",
        b"\x82\xa2id\xa17\xa4type",
        b"\x83\xa2id\xa17\xa4type\xa4auth\xa5token",
        b"\x84\xa2id\xa17\xa4type\xa6create\xa4kind\xa5group\xa7members",
        b"\x84\xa2id\xa17\xa4type\xa4post\xa4room\x01\xa7content\x81\xa1a",
    ];
    places.iter().flat_map(|place| markers.iter().map(|marker| [*place, *marker].concat())).collect()
}

fn resident_peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
