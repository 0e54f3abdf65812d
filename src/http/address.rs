//! What the address of a request says: the places of its route's pattern, and the members of its query.
//!
//! The path is read as it came. What actix has matched has been decoded in part only, and a name that is not UTF-8 has
//! been repaired there, so that it would name something else.

use crate::wire::Refusal;

/// The members that `path` and `query` say, by their names: one for each place of `pattern`, and of the query those
/// that are `known`. Others in the query are ignored, as unknown members are.
pub fn members(
    pattern: &'static str,
    known: &[&'static str],
    path: &str,
    query: &str,
) -> Result<Vec<(&'static str, String)>, Refusal> {
    let mut members = Vec::new();
    for (place, segment) in pattern.split('/').zip(path.split('/')) {
        if let Some(name) = place.strip_prefix('{').and_then(|place| place.strip_suffix('}')) {
            members.push((name, decode(segment)?));
        }
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        // In a query `+` is a space (the URL standard, section 5.1); in a path it is itself.
        let (name, value) = (decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?);
        let Some(name) = known.iter().find(|known| **known == name) else { continue };
        if members.iter().any(|(other, _)| other == name) {
            return Err(Refusal::bad_request(format!("`{name}` is in the address twice")));
        }
        members.push((name, value));
    }
    Ok(members)
}

/// Reads percent-encoding (RFC 3986, section 2.1).
fn decode(text: &str) -> Result<String, Refusal> {
    let malformed = || Refusal::bad_request("the percent-encoding of the address is malformed, or not of UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(malformed()) };
        bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
    }
    String::from_utf8(bytes).map_err(|_| malformed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_the_query_are_decoded() {
        let found = members(
            "/v1/rooms/{room}/members/{user}",
            &["reason", "limit"],
            "/v1/rooms/alias%3A%c3%a9t%C3%A9%2Fx/members/a+b",
            "limit=5&reason=so+it%2Bgoes&other=%20",
        );
        let expected = [("room", "alias:été/x"), ("user", "a+b"), ("limit", "5"), ("reason", "so it+goes")];
        assert_eq!(found.unwrap(), expected.map(|(name, value)| (name, value.to_owned())));
    }

    #[test]
    fn an_address_that_cannot_be_read_is_refused() {
        for (path, query) in [("/%", ""), ("/%4", ""), ("/%zz", ""), ("/%ff", ""), ("/a", "limit=%"), ("/a", "%f=")] {
            assert!(members("/{room}", &["limit"], path, query).is_err(), "{path}?{query}");
        }
        assert!(members("/{room}", &["limit"], "/a", "limit=1&limit=1").is_err());
    }
}
