//! What files of networks hold: one a line.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// How many lines are told of, of those that are wrong.
const TOLD: usize = 5;

/// Of a line that is wrong, how much is shown.
const SHOWN: usize = 60;

/// The lines that are wrong, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLines {
    first: Vec<(usize, String)>,
    more: usize,
}

impl BadLines {
    /// Each with what is wrong, for a file of this name.
    pub fn of<'a>(&'a self, file: &'a str) -> impl Iterator<Item = String> + 'a {
        let lines = self.first.iter().map(move |(number, text)| {
            format!("{file}:{number}: {text:?} is no network such as 10.0.0.0/8, and no address")
        });
        let more = format!("{file}: {} more such lines", self.more);
        lines.chain((self.more > 0).then_some(more))
    }
}

impl fmt::Display for BadLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.of("line").collect::<Vec<_>>().join("; "))
    }
}

/// The networks of a file: one a line, `10.0.0.0/8` or an address. What follows `#` or `;` is a comment.
///
/// # Errors
/// Lines hold something else.
pub(super) fn networks(text: &[u8]) -> Result<Vec<IpNet>, BadLines> {
    let mut networks = Vec::new();
    let mut bad = BadLines {
        first: Vec::new(),
        more: 0,
    };
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let end = line.iter().position(|byte| matches!(byte, b'#' | b';'));
        let line = line[..end.unwrap_or(line.len())].trim_ascii();
        if line.is_empty() {
            continue;
        }
        match std::str::from_utf8(line).ok().and_then(network) {
            Some(network) => networks.push(network),
            None if bad.first.len() < TOLD => {
                let shown = String::from_utf8_lossy(&line[..line.len().min(SHOWN)]);
                bad.first.push((number + 1, shown.into_owned()));
            }
            None => bad.more += 1,
        }
    }
    match bad.first.is_empty() {
        true => Ok(networks),
        false => Err(bad),
    }
}

fn network(text: &str) -> Option<IpNet> {
    let of_address = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(of_address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_addresses_comments_and_empty_lines() {
        let text = b"# those of ours\n10.0.0.0/8\r\n\n  192.0.2.1 ; one\n2001:db8::/32# v6\n::1";
        let networks = networks(text).unwrap();
        let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "::1/128"]
        );
        assert_eq!(super::networks(b"").unwrap(), []);
    }

    #[test]
    fn wrong_lines_are_told_by_number_and_are_not_too_many() {
        let bad = networks(b"10.0.0.0/8\nexample.com\n10.0.0.0/33\n\xff\xfe\n").unwrap_err();
        let told: Vec<String> = bad.of("deny.txt").collect();
        assert_eq!(told.len(), 3);
        assert_eq!(
            told[0],
            "deny.txt:2: \"example.com\" is no network such as 10.0.0.0/8, and no address"
        );
        assert!(told[2].starts_with("deny.txt:4: "));
        let many = networks(&b"x\n".repeat(100)).unwrap_err();
        let told: Vec<String> = many.of("deny.txt").collect();
        assert_eq!(told.len(), 6);
        assert_eq!(told[5], "deny.txt: 95 more such lines");
        let long = networks(&[b'x'; 100_000]).unwrap_err();
        assert!(long.to_string().len() < 200);
    }
}
