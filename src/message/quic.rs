//! What every version of QUIC has in common (RFC 8999): the connection ids at the beginning of a packet. All else is
//! encrypted or may change.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The longest connection id of the versions that there are (RFC 9000, section 17.2).
pub const MAX_ID: usize = 20;

/// Shorter ones are too easily met by chance to tell anything.
pub const MIN_ID: usize = 4;

/// Version negotiation says version 0 (RFC 8999, section 6), and has ids that it was sent.
const NEGOTIATION: [u8; 4] = [0; 4];

/// The beginning of a datagram's first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header<'a> {
    /// A packet that sets up a connection: both ids are there, with their lengths.
    Long {
        /// Chosen by the receiver, or by the client at random while it knows none of the server's.
        destination: Option<Id>,
        /// Chosen by the sender, for what it is sent from now on.
        source: Option<Id>,
    },
    /// Any other: it begins with an id of the receiver's, of a length that only that one knows.
    Short(&'a [u8]),
}

/// A connection id that tells something: from [`MIN_ID`] to [`MAX_ID`] bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Id {
    length: u8,
    bytes: [u8; MAX_ID],
}

impl Id {
    /// The id of these bytes, if it is one.
    pub fn new(id: &[u8]) -> Option<Self> {
        if !(MIN_ID..=MAX_ID).contains(&id.len()) {
            return None;
        }
        let mut bytes = [0; MAX_ID];
        bytes[..id.len()].copy_from_slice(id);
        let length = id.len() as u8;
        Some(Self { length, bytes })
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Hash for Id {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Id(")?;
        let mut bytes = self.as_bytes().iter();
        bytes.try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Reads the beginning of a datagram. `None` if it tells nothing.
pub fn header(datagram: &[u8]) -> Option<Header<'_>> {
    let (first, rest) = datagram.split_first()?;
    if first & 0x80 == 0 {
        return Some(Header::Short(rest));
    }
    let (version, rest) = rest.split_first_chunk()?;
    if *version == NEGOTIATION {
        return None;
    }
    let (destination, rest) = with_length(rest)?;
    let (source, _) = with_length(rest)?;
    Some(Header::Long {
        destination: Id::new(destination),
        source: Id::new(source),
    })
}

/// Splits off what has its length in the byte before it.
fn with_length(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(version: u32, destination: &[u8], source: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xc3];
        packet.extend(version.to_be_bytes());
        for id in [destination, source] {
            packet.push(id.len() as u8);
            packet.extend(id);
        }
        packet.extend(b"and so on");
        packet
    }

    #[test]
    fn long_headers_say_both_ids() {
        let packet = long(1, b"destination", b"source");
        let ids = Header::Long {
            destination: Id::new(b"destination"),
            source: Id::new(b"source"),
        };
        assert_eq!(header(&packet), Some(ids));
        // RFC 9001, section A.2: the first packet of a client without an id of its own.
        let client = [
            0xc0, 0, 0, 0, 1, 8, 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08, 0, 0,
        ];
        let ids = Header::Long {
            destination: Id::new(&client[6..14]),
            source: None,
        };
        assert_eq!(header(&client), Some(ids));
    }

    #[test]
    fn short_headers_are_left_as_they_are() {
        assert_eq!(header(b"\x40abc"), Some(Header::Short(b"abc")));
        assert_eq!(header(b"\x40"), Some(Header::Short(b"")));
    }

    #[test]
    fn what_is_cut_off_tells_nothing() {
        let packet = long(1, b"destination", b"source");
        let length = packet.len() - b"and so on".len();
        for length in 0..length {
            assert_eq!(header(&packet[..length]), None, "{length}");
        }
        assert_eq!(header(&long(0, b"destination", b"source")), None);
    }

    #[test]
    fn ids_of_other_lengths_are_none() {
        assert!(Id::new(b"abc").is_none() && Id::new(&[7; 21]).is_none());
        let id = Id::new(&[7; 20]).unwrap();
        assert_eq!(id.as_bytes(), [7; 20]);
        assert_eq!(format!("{:?}", Id::new(b"1234").unwrap()), "Id(31323334)");
    }
}
