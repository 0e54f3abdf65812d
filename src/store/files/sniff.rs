//! What a file is, found out from its first bytes; what its sender calls it does not count.
//!
//! A browser that is told a type shows the file as that, so a type is told only where the bytes bear it out, and never
//! one that could run anything (the WHATWG's MIME Sniffing Standard, section 3, says how much depends on it).

use crate::domain::MediaType;

/// Says what a file is that begins with `head`.
pub fn media_type(head: &[u8]) -> MediaType {
    match infer::get(head) {
        Some(kind) if is_inert(kind.mime_type()) => {
            MediaType::new(kind.mime_type()).unwrap_or_else(|_| MediaType::unknown())
        }
        Some(_) => MediaType::unknown(),
        None if is_text(head) => MediaType::text(),
        None => MediaType::unknown(),
    }
}

/// Whether it is no page, no script and no program.
fn is_inert(kind: &str) -> bool {
    let media = ["image/", "audio/", "video/", "font/"].iter().any(|prefix| kind.starts_with(prefix));
    let picture_that_runs = kind.starts_with("image/svg");
    let kept = ["application/pdf", "application/zip", "application/gzip", "application/x-7z-compressed"];
    (media && !picture_that_runs) || kept.contains(&kind)
}

/// Whether it is UTF-8 without anything that people do not write. The last character may have been cut.
fn is_text(head: &[u8]) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).expect("it is valid up to there")
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_its_bytes_say_and_nothing_that_runs() {
        let unknown = "application/octet-stream";
        let text = "text/plain; charset=utf-8";
        let cases: [(&[u8], &str); 13] = [
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "image/jpeg"),
            (b"GIF89a\x01\0\x01\0", "image/gif"),
            (b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"PK\x03\x04\x14\0", "application/zip"),
            (b"<!DOCTYPE html><script>alert(1)</script>", unknown),
            (b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>", unknown),
            (b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>", text),
            (b"#!/bin/sh\nrm -rf\n", unknown),
            (b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff", unknown),
            ("Grüße\n".as_bytes(), text),
            (b"\x01\x02\x03", unknown),
        ];
        for (head, expected) in cases {
            assert_eq!(media_type(head).as_str(), expected, "{}", head.escape_ascii());
        }
        assert_eq!(media_type(&"é".as_bytes()[..1]).as_str(), unknown);
        assert_eq!(media_type(b"ab\xc3").as_str(), text, "a character that was cut");
    }
}
