//! What may not be said: words, and links to where they may not lead. Of one room, or of all rooms of a tenant.
//!
//! Text is looked at as people see it: without case, without what leaves no trace, letters of full width as the usual
//! ones. It is cut into words once, and each word is looked up, so that it costs what the text is long and hardly more
//! with many rules.

use std::collections::BTreeMap;

use thiserror::Error;

use super::ids::is_unseen;
use super::{Content, Rejection};

/// The most words that are not allowed in one room, or in one tenant.
pub const WORDS_MAX: usize = 200;

/// The longest of them, in bytes.
pub const WORD_BYTES_MAX: usize = 64;

/// The most hosts that links may lead to.
pub const HOSTS_MAX: usize = 100;

/// The longest name of a host, in bytes (RFC 1035, section 2.3.4).
pub const HOST_BYTES_MAX: usize = 253;

/// So many bytes behind a scheme are looked at for a host. With more there is none that could be listed.
const AUTHORITY_BYTES_MAX: usize = 512;

/// Where links may lead.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Links {
    #[default]
    Any,
    /// There may be none.
    None,
    /// To the hosts that are listed, and what is below them.
    Listed,
}

impl Links {
    pub const ALL: [Self; 3] = [Self::Any, Self::None, Self::Listed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::None => "none",
            Self::Listed => "listed",
        }
    }
}

/// Why something is no rule.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RuleError {
    #[error("a word has 1 to 64 bytes without control characters, and a letter or a digit among them")]
    Word,
    #[error("a host has 1 to 253 letters, digits, hyphens and dots")]
    Host,
    #[error("there are at most 200 words")]
    TooManyWords,
    #[error("there are at most 100 hosts")]
    TooManyHosts,
}

/// What may not be said.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// As they were given.
    words: Vec<String>,
    links: Links,
    hosts: Vec<String>,
    tree: Node,
}

impl Rules {
    /// Checks them. `words` may be several words each; `hosts` are names without a port.
    pub fn new(words: Vec<String>, links: Links, hosts: Vec<String>) -> Result<Self, RuleError> {
        if words.len() > WORDS_MAX {
            return Err(RuleError::TooManyWords);
        }
        if hosts.len() > HOSTS_MAX {
            return Err(RuleError::TooManyHosts);
        }
        let mut tree = Node::default();
        for word in &words {
            let folded = Folded::of(word);
            if word.len() > WORD_BYTES_MAX || folded.words.is_empty() || word.chars().any(char::is_control) {
                return Err(RuleError::Word);
            }
            tree.add(folded.words());
        }
        let hosts: Vec<String> = hosts.into_iter().map(|host| host.to_ascii_lowercase()).collect();
        if hosts.iter().any(|host| !is_host(host)) {
            return Err(RuleError::Host);
        }
        Ok(Self { words, links, hosts, tree })
    }

    /// The rules as they are with this.
    pub fn changed(&self, change: RulesChange) -> Self {
        let RulesChange { words, links, hosts } = change;
        let (words, hosts) = (words.unwrap_or_else(|| self.words.clone()), hosts.unwrap_or_else(|| self.hosts.clone()));
        Self::new(words, links.unwrap_or(self.links), hosts).expect("each part of it has been checked")
    }

    pub fn words(&self) -> &[String] {
        &self.words
    }

    pub fn links(&self) -> Links {
        self.links
    }

    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Refuses what may not be said, in the text or in a string of the body.
    pub fn check(&self, content: &Content) -> Result<(), Rejection> {
        if self.words.is_empty() && self.links == Links::Any {
            return Ok(());
        }
        if let Some(text) = &content.text {
            self.check_text(text)?;
        }
        content.body.as_deref().map_or(Ok(()), |body| self.check_text(&unescaped(body)))
    }

    fn check_text(&self, text: &str) -> Result<(), Rejection> {
        let folded = Folded::of(text);
        let words: Vec<&str> = folded.words().collect();
        if (0..words.len()).any(|from| self.tree.begins(&words[from..])) {
            return Err(Rejection::WordNotAllowed);
        }
        let may = |host: &str| match self.links {
            Links::Any => true,
            Links::None => false,
            Links::Listed => self.hosts.iter().any(|listed| is_below(host, listed)),
        };
        if hosts_of(&folded.text).all(may) { Ok(()) } else { Err(Rejection::LinkNotAllowed) }
    }
}

/// What is to change of rules; what is `None` stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RulesChange {
    words: Option<Vec<String>>,
    links: Option<Links>,
    hosts: Option<Vec<String>>,
}

impl RulesChange {
    pub fn new(
        words: Option<Vec<String>>,
        links: Option<Links>,
        hosts: Option<Vec<String>>,
    ) -> Result<Self, RuleError> {
        Rules::new(words.clone().unwrap_or_default(), Links::Any, hosts.clone().unwrap_or_default())?;
        Ok(Self { words, links, hosts })
    }
}

/// Whether `host` is `above`, or below it.
fn is_below(host: &str, above: &str) -> bool {
    host.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    (1..=HOST_BYTES_MAX).contains(&host.len()) && host.split('.').all(label)
}

/// Words that follow a word, to the end of one that is not allowed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Node {
    ends: bool,
    next: BTreeMap<Box<str>, Node>,
}

impl Node {
    fn add<'a>(&mut self, words: impl Iterator<Item = &'a str>) {
        let last = words.fold(self, |node, word| node.next.entry(word.into()).or_default());
        last.ends = true;
    }

    /// Whether `words` begin with one that is not allowed.
    fn begins(&self, words: &[&str]) -> bool {
        let mut node = self;
        for word in words {
            match node.next.get(*word) {
                Some(next) if next.ends => return true,
                Some(next) => node = next,
                None => return false,
            }
        }
        false
    }
}

/// A text as it is compared, and where its words are.
struct Folded {
    text: String,
    words: Vec<(usize, usize)>,
}

impl Folded {
    fn of(text: &str) -> Self {
        let seen = text.chars().filter(|c| !leaves_no_trace(*c)).map(usual_width);
        let text: String = seen.flat_map(char::to_lowercase).filter(|c| !leaves_no_trace(*c)).collect();
        let (mut words, mut begun) = (Vec::new(), None);
        for (at, c) in text.char_indices() {
            let alone = is_a_word_alone(c);
            if alone || !c.is_alphanumeric() {
                words.extend(begun.take().map(|begun| (begun, at)));
            }
            if alone {
                words.push((at, at + c.len_utf8()));
            } else if c.is_alphanumeric() {
                begun.get_or_insert(at);
            }
        }
        words.extend(begun.map(|begun| (begun, text.len())));
        Self { text, words }
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|(from, to)| &self.text[*from..*to])
    }
}

/// What people do not see: the unseen, joiners, directions, selectors of variants and tags, fillers; and marks that are
/// put above and below letters.
fn leaves_no_trace(c: char) -> bool {
    is_unseen(c)
        || matches!(c,
            '\u{300}'..='\u{36f}' | '\u{115f}' | '\u{1160}' | '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2065}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// Letters, digits and signs as wide as a Chinese one stand 0xfee0 behind the usual ones (Unicode, "Halfwidth and
/// Fullwidth Forms").
fn usual_width(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).expect("it is one of ASCII"),
        c => c,
    }
}

/// In writing without spaces every sign counts as a word: those of Chinese, Japanese, Thai, Lao, Burmese and Khmer.
fn is_a_word_alone(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
        && c.is_alphanumeric()
}

/// The hosts that the links in a folded text lead to. A link is a scheme with `://` behind it, or begins with `www.`.
fn hosts_of(text: &str) -> impl Iterator<Item = &str> {
    let schemes = text.match_indices("://").filter(|(at, _)| {
        text[..*at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    let schemes = schemes.map(|(at, scheme)| host_at(&text[at + scheme.len()..]));
    let bare = text.match_indices("www.").filter(|(at, _)| {
        // Not within a word, and not where the link has a scheme and has been looked at.
        text[..*at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !matches!(c, '.' | '-' | '/' | '@'))
    });
    schemes.chain(bare.map(|(at, _)| host_at(&text[at..])))
}

/// The host at the beginning of what stands behind a scheme, as browsers have it: a backslash ends it as a slash does, and
/// up to an `@` there is somebody's name.
fn host_at(text: &str) -> &str {
    let text = &text[..text.floor_char_boundary(AUTHORITY_BYTES_MAX)];
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '/' | '\\' | '?' | '#' | '"' | '<' | '>'));
    let authority = match end {
        Some(end) => &text[..end],
        None if text.len() + char::MAX_LEN_UTF8 > AUTHORITY_BYTES_MAX => "",
        None => text,
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    // What ends a sentence or stands around a link is not part of it.
    host.trim_end_matches(|c: char| !c.is_alphanumeric())
}

/// A JSON text with its escapes as spaces: what they stand for is neither a letter nor part of a link.
fn unescaped(body: &str) -> String {
    let mut plain = String::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('\\') => plain.push('\\'),
            Some('u') => {
                chars.nth(3);
                plain.push(' ');
            }
            Some(_) | None => plain.push(' '),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole_in_whatever_case_and_disguise() {
        let rules = words(&["spam", "buy now", "Grüße", "垃圾", "don't"]);
        for bad in [
            "spam",
            "SpAm!",
            "(spam)",
            "so: spam, again",
            "s\u{200b}p\u{200d}a\u{ad}m",
            "sp\u{301}am",
            "ｓｐａｍ",
            "\u{202e}spam",
            "buy now",
            "Buy, NOW!",
            "do buy\n now",
            "这是垃圾信息",
            "I don't",
            "I DON’T",
            "buy buy now",
            "GRÜßE",
        ] {
            assert_eq!(said(&rules, bad), Err(Rejection::WordNotAllowed), "{bad}");
        }
        for good in ["", "spammer", "antispam", "buy it now", "now buy", "buy", "垃", "圾垃", "grusse", "s p a m"] {
            assert_eq!(said(&rules, good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_word_that_begins_like_another_hides_neither() {
        let rules = words(&["one two three", "two", "one two three four five"]);
        assert_eq!(said(&rules, "one two"), Err(Rejection::WordNotAllowed));
        let rules = words(&["a b c", "b c d"]);
        assert_eq!(said(&rules, "a b x b c d"), Err(Rejection::WordNotAllowed));
        assert_eq!(said(&rules, "a b b c a b"), Ok(()));
    }

    #[test]
    fn no_link_is_none_whatever_its_scheme() {
        let rules = Rules::new(Vec::new(), Links::None, Vec::new()).unwrap();
        for bad in [
            "https://a.example",
            "see HTTP://A",
            "ftp://x",
            "www.a.example",
            "(www.a)",
            "h\u{200b}ttps://a",
            "x ://a://b",
        ] {
            assert_eq!(said(&rules, bad), Err(Rejection::LinkNotAllowed), "{bad}");
        }
        for good in ["a.example", "and/or", "12:30", "a: //b", "://", "awww.sweet", "e.g. www"] {
            assert_eq!(said(&rules, good), Ok(()), "{good}");
        }
        assert_eq!(said(&Rules::default(), "https://a.example"), Ok(()));
    }

    #[test]
    fn links_lead_to_listed_hosts_only_however_they_are_written() {
        let hosts = vec!["Example.org".to_owned(), "localhost".to_owned()];
        let rules = Rules::new(Vec::new(), Links::Listed, hosts).unwrap();
        for good in [
            "https://example.org",
            "HTTPS://EXAMPLE.ORG/x?y#z",
            "https://a.b.example.org.",
            "(see https://example.org)",
            "https://me:secret@example.org:8080/",
            "http://localhost:7700/v1",
            "www.example.org",
            "https://www.example.org",
            "https://example.org/?next=www.example.org",
        ] {
            assert_eq!(said(&rules, good), Ok(()), "{good}");
        }
        for bad in [
            "https://evil.example",
            "https://notexample.org",
            "https://example.org.evil.example",
            "https://example.org@evil.example",
            "https://evil.example\\@example.org",
            "https://evil.example?@example.org",
            "https://evil.example#example.org",
            "https://example.org https://evil.example",
            "https://example.org/?next=https://evil.example",
            "https://example.org\u{200b}.evil.example",
            "https://[::1]",
            &format!("https://{}@example.org", "a".repeat(600)),
            "https://",
            "www.evil.example",
        ] {
            assert_eq!(said(&rules, bad), Err(Rejection::LinkNotAllowed), "{bad}");
        }
    }

    #[test]
    fn what_stands_in_a_body_is_said_too() {
        let rules = Rules::new(vec!["spam".to_owned()], Links::None, Vec::new()).unwrap();
        for (body, refused) in [
            (r#"{"html":"<b>spam</b>"}"#, Some(Rejection::WordNotAllowed)),
            (r#"{"lines":["a\nspam"]}"#, Some(Rejection::WordNotAllowed)),
            (r#"{"lines":["a\u001fspam"]}"#, Some(Rejection::WordNotAllowed)),
            (r#"{"lines":["\"spam\""]}"#, Some(Rejection::WordNotAllowed)),
            (r#"{"deep":{"link":"https://a"}}"#, Some(Rejection::LinkNotAllowed)),
            (r#"{"mood":"fine","n":7}"#, None),
        ] {
            let content = Content { text: Some("hello".into()), body: Some(body.into()) };
            assert_eq!(rules.check(&content).err(), refused, "{body}");
        }
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        let of = |words: &[&str], hosts: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            Rules::new(owned(words), Links::Listed, owned(hosts)).map(|_| ())
        };
        assert_eq!(of(&["w"; WORDS_MAX], &["h"; HOSTS_MAX]), Ok(()));
        assert_eq!(of(&["w"; WORDS_MAX + 1], &[]), Err(RuleError::TooManyWords));
        assert_eq!(of(&[], &["h"; HOSTS_MAX + 1]), Err(RuleError::TooManyHosts));
        for word in ["", " ", "!?", "\u{200b}", "a\u{7}", &"w".repeat(WORD_BYTES_MAX + 1)] {
            assert_eq!(of(&[word], &[]), Err(RuleError::Word), "{word}");
        }
        for host in ["", ".", "a..b", "a b", "https://a", "a:80", "ä.example", &"h".repeat(HOST_BYTES_MAX + 1)] {
            assert_eq!(of(&[], &[host]), Err(RuleError::Host), "{host}");
        }
    }

    /// What is looked at grows with the text, and not with its square: twice the text is about twice the work.
    #[test]
    fn a_text_that_almost_matches_everywhere_is_looked_at_in_bounded_steps() {
        let longest = vec!["a"; WORD_BYTES_MAX / 2].join(" ");
        let rules = Rules::new(vec![format!("{longest}b")], Links::None, Vec::new()).unwrap();
        let text = "a ".repeat(Content::BYTES_MAX / 2);
        let folded = Folded::of(&text);
        let words: Vec<&str> = folded.words().collect();
        let depth = |mut node: &Node, words: &[&str]| {
            let steps = words.iter().take_while(|word| {
                node.next.get(**word).is_some_and(|next| {
                    node = next;
                    true
                })
            });
            steps.count()
        };
        let steps: usize = (0..words.len()).map(|from| depth(&rules.tree, &words[from..])).sum();
        assert!(steps <= words.len() * WORD_BYTES_MAX / 2, "{steps} steps for {} words", words.len());
        assert_eq!(said(&rules, &text), Ok(()));
    }

    fn words(words: &[&str]) -> Rules {
        Rules::new(words.iter().map(|word| (*word).to_owned()).collect(), Links::Any, Vec::new()).unwrap()
    }

    fn said(rules: &Rules, text: &str) -> Result<(), Rejection> {
        rules.check(&Content::text(text))
    }
}
