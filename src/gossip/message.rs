//! What is in a datagram once it is opened: who sends it, whom else it knows, and parts for whoever keeps state.
//!
//! A message is a list of sections, each a kind, a length and bytes. Sections of unknown kinds are passed over, so that a
//! newer version can say more.

use std::net::{IpAddr, SocketAddr};

use crate::config::types::MAX_TOLD_NAME;
use crate::net::wire::{Reader, put_bytes, put_number};

/// Bytes that a node's name may have.
pub const MAX_NAME: usize = MAX_TOLD_NAME;

/// Bytes that a part may have, so that it fits a datagram whatever its sender is called.
pub const MAX_PART: usize = 800;

/// Contacts in one message.
pub const MAX_CONTACTS: usize = 8;

const MAX_VERSION: usize = 32;
/// The year 2248 in milliseconds of Unix time: no clock is that wrong by accident.
pub(super) const MAX_CLOCK: u64 = 1 << 43;

const ABOUT: u64 = 1;
const CONTACTS: u64 = 2;
/// Kinds of parts begin here.
const PARTS: u64 = 16;

/// A piece of state that a node tells the others, in a form that whoever keeps that state knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Whose it is.
    pub kind: u8,
    /// At most [`MAX_PART`] of them.
    pub bytes: Vec<u8>,
}

/// A part, and who is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telling {
    /// One node, by its session's short form; else all.
    pub to: Option<u64>,
    /// What it is told.
    pub part: Part,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Its name, which no other node has.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Higher for a later run under this name.
    pub generation: u64,
    /// Where it can be reached; where the datagram came from if it does not say.
    pub address: Option<SocketAddr>,
    /// The fleet's time in milliseconds.
    pub clock: u64,
    /// When it was sent, in microseconds of the sender's own.
    pub sent: u64,
    /// The recipient's last `sent` that has come, and for how many microseconds it was there before this was sent.
    pub echo: Option<(u64, u64)>,
    /// Whether it is ending.
    pub leaving: bool,
}

/// An opened datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub about: About,
    /// Where others are.
    pub contacts: Vec<SocketAddr>,
    /// State.
    pub parts: Vec<Part>,
}

impl Message {
    /// The message as bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_number(&mut bytes, ABOUT);
        put_bytes(&mut bytes, &self.about.write());
        if !self.contacts.is_empty() {
            let mut contacts = Vec::new();
            for address in self.contacts.iter().take(MAX_CONTACTS) {
                put_address(&mut contacts, *address);
            }
            put_number(&mut bytes, CONTACTS);
            put_bytes(&mut bytes, &contacts);
        }
        for part in &self.parts {
            put_number(&mut bytes, PARTS + u64::from(part.kind));
            put_bytes(&mut bytes, &part.bytes);
        }
        bytes
    }

    /// Reads what [`write`](Self::write) has written; `None` if it is not that.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let (mut about, mut contacts, mut parts) = (None, Vec::new(), Vec::new());
        while !reader.is_empty() {
            let kind = reader.number()?;
            let section = reader.bytes(bytes.len())?;
            match kind {
                ABOUT => about = Some(About::read(section)?),
                CONTACTS => contacts = read_contacts(section)?,
                PARTS.. => {
                    if let Ok(kind) = u8::try_from(kind - PARTS) {
                        let bytes = section.to_vec();
                        parts.push(Part { kind, bytes });
                    }
                }
                _ => {}
            }
        }
        Some(Self {
            about: about?,
            contacts,
            parts,
        })
    }
}

impl Part {
    /// How many bytes of a message it takes at most.
    pub fn size(&self) -> usize {
        self.bytes.len() + 4
    }
}

impl About {
    fn write(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_bytes(&mut bytes, self.name.as_bytes());
        put_bytes(&mut bytes, self.version.as_bytes());
        put_number(&mut bytes, self.generation);
        put_number(&mut bytes, self.clock);
        put_number(&mut bytes, self.sent);
        let flags = [self.leaving, self.address.is_some(), self.echo.is_some()];
        let flags = flags
            .iter()
            .rev()
            .fold(0, |all, flag| all << 1 | u8::from(*flag));
        bytes.push(flags);
        if let Some(address) = self.address {
            put_address(&mut bytes, address);
        }
        if let Some((sent, held)) = self.echo {
            put_number(&mut bytes, sent);
            put_number(&mut bytes, held);
        }
        bytes
    }

    /// More may follow what this version knows.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let name = reader.text(MAX_NAME)?.to_owned();
        let version = reader.text(MAX_VERSION)?.to_owned();
        let generation = reader.number()?;
        let clock = reader.number().filter(|clock| *clock < MAX_CLOCK)?;
        let sent = reader.number()?;
        let flags = reader.byte()?;
        let address = match flags & 2 {
            0 => None,
            _ => Some(read_address(&mut reader)?),
        };
        let echo = match flags & 4 {
            0 => None,
            _ => Some((reader.number()?, reader.number()?)),
        };
        Some(Self {
            name,
            version,
            generation,
            address,
            clock,
            sent,
            echo,
            leaving: flags & 1 != 0,
        })
    }
}

fn read_contacts(bytes: &[u8]) -> Option<Vec<SocketAddr>> {
    let mut reader = Reader::new(bytes);
    let mut contacts = Vec::new();
    while !reader.is_empty() {
        if contacts.len() == MAX_CONTACTS {
            return None;
        }
        contacts.push(read_address(&mut reader)?);
    }
    Some(contacts)
}

fn put_address(to: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            to.push(4);
            to.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            to.push(6);
            to.extend(ip.octets());
        }
    }
    to.extend(address.port().to_be_bytes());
}

/// An address that can be sent to.
fn read_address(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = match reader.byte()? {
        4 => reader.array::<4>()?.into(),
        6 => reader.array::<16>()?.into(),
        _ => return None,
    };
    let port = u16::from_be_bytes(reader.array()?);
    let usable = port != 0 && !ip.is_unspecified() && !ip.is_multicast();
    usable.then_some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> Message {
        Message {
            about: About {
                name: "lb-1:7946".to_owned(),
                version: "0.1.0".to_owned(),
                generation: 1_763_000_000_000,
                address: Some("192.0.2.1:7946".parse().unwrap()),
                clock: 1_763_000_000_000,
                sent: 12_345_678,
                echo: Some((1, 2)),
                leaving: true,
            },
            contacts: vec![
                "[2001:db8::1]:7946".parse().unwrap(),
                "192.0.2.2:1".parse().unwrap(),
            ],
            parts: vec![Part {
                kind: 3,
                bytes: vec![1, 2, 3],
            }],
        }
    }

    #[test]
    fn a_message_survives() {
        let message = message();
        assert_eq!(Message::read(&message.write()), Some(message.clone()));
        let short = Message {
            about: About {
                address: None,
                echo: None,
                leaving: false,
                ..message.about
            },
            contacts: Vec::new(),
            parts: Vec::new(),
        };
        assert_eq!(Message::read(&short.write()), Some(short));
    }

    #[test]
    fn what_a_newer_version_adds_is_passed_over() {
        let message = message();
        let mut bytes = message.write();
        for kind in [3, 15, 16 + 256] {
            put_number(&mut bytes, kind);
            put_bytes(&mut bytes, b"news");
        }
        assert_eq!(Message::read(&bytes), Some(message));
    }

    #[test]
    fn what_is_cut_short_is_no_message() {
        let bytes = message().write();
        // The last section's end is the message's: only what is cut within a section is missed.
        let whole = (0..bytes.len()).filter(|length| Message::read(&bytes[..*length]).is_some());
        assert_eq!(whole.count(), 2, "before each section but the first");
    }

    #[test]
    fn addresses_that_nobody_has_are_refused() {
        for address in [
            "0.0.0.0:1",
            "192.0.2.1:0",
            "224.0.0.1:1",
            "[::]:1",
            "[ff02::1]:1",
        ] {
            let mut message = message();
            message.contacts = vec![address.parse().unwrap()];
            assert_eq!(Message::read(&message.write()), None, "{address}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(bytes: Vec<u8>, at in 0usize..90, to: u8) {
            _ = Message::read(&bytes);
            let mut changed = message().write();
            let at = at % changed.len();
            changed[at] = to;
            _ = Message::read(&changed);
        }
    }
}
