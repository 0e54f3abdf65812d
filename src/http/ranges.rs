//! Which bytes of a file are asked for, and whether the client has them already (RFC 9110, sections 13 and 14).

use actix_web::http::header::{self, HeaderMap, HeaderName};

/// The part of a file that is sent, from the first byte to behind the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    pub from: u64,
    pub to: u64,
}

impl Stretch {
    pub fn len(self) -> u64 {
        self.to - self.from
    }
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    Whole,
    Part(Stretch),
    /// Nothing of the file is in the range.
    Nothing,
}

/// What of a file of so many bytes is asked for, whose strong entity tag is `etag`. More than one range, one that cannot
/// be read, and one on the condition that the file is another, are passed over, as servers may.
pub fn asked(headers: &HeaderMap, size: u64, etag: &str) -> Asked {
    let same = text(headers, &header::IF_RANGE).is_none_or(|condition| condition == etag);
    let range = text(headers, &header::RANGE).filter(|_| same).and_then(|range| range.strip_prefix("bytes="));
    let Some((first, last)) = range.and_then(|range| range.trim().split_once('-')) else { return Asked::Whole };
    let stretch = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some((first, last.saturating_add(1).min(size))),
        (Some(first), None) if last.is_empty() => Some((first, size)),
        (None, Some(count)) if first.is_empty() => Some((size - count.min(size), size)),
        (Some(_) | None, Some(_) | None) => None,
    };
    match stretch {
        None => Asked::Whole,
        Some((from, to)) if from < to => Asked::Part(Stretch { from, to }),
        Some(_) => Asked::Nothing,
    }
}

/// Whether the client says that it has what `etag` stands for (RFC 9110, section 13.1.2).
pub fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).filter_map(|value| value.to_str().ok());
    known
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == etag)
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // One that is too large for any file is behind its end.
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn one_range_is_understood_and_what_is_not_is_passed_over() {
        let part = |from, to| Asked::Part(Stretch { from, to });
        for (range, expected) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=3-5", part(3, 6)),
            ("bytes=3-", part(3, 10)),
            ("bytes=-4", part(6, 10)),
            ("bytes=-40", part(0, 10)),
            ("bytes=8-99999999999999999999999", part(8, 10)),
            ("bytes=10-", Asked::Nothing),
            ("bytes=99999999999999999999999-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=5-3", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("items=0-1", Asked::Whole),
            ("bytes", Asked::Whole),
        ] {
            assert_eq!(asked(&headers(&[(header::RANGE, range)]), 10, "\"e\""), expected, "{range}");
        }
        assert_eq!(asked(&headers(&[]), 10, "\"e\""), Asked::Whole);
    }

    #[test]
    fn a_part_is_sent_only_of_the_file_that_the_client_has_begun() {
        for (condition, part) in [("\"e\"", true), ("W/\"e\"", false), ("\"f\"", false), ("yesterday", false)] {
            let asked = asked(&headers(&[(header::RANGE, "bytes=1-"), (header::IF_RANGE, condition)]), 10, "\"e\"");
            assert_eq!(asked != Asked::Whole, part, "{condition}");
        }
    }

    #[test]
    fn what_a_client_has_is_known_by_its_tag() {
        for (tags, known) in [("\"e\"", true), ("\"a\", W/\"e\"", true), ("*", true), ("\"f\"", false), ("e", false)] {
            assert_eq!(is_known(&headers(&[(header::IF_NONE_MATCH, tags)]), "\"e\""), known, "{tags}");
        }
    }

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }
}
