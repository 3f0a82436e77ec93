//! What makes a datagram one of the fleet's: it is sealed with a key that only the fleet has.
//!
//! ```text
//! 0        4          20          36         44                      n - 16   n
//! │ LBC 1  │ session  │ recipient │ counter  │ sealed: a message     │ tag    │
//! ╰──────────── authenticated, not secret ───╯
//! key of a session = HKDF-SHA256(shared key, session); AES-256-GCM, nonce = counter
//! ```
//!
//! A process chooses its session at random when it starts, and its counter never repeats: so no nonce is used twice
//! with a key, whatever clocks say. A datagram that names the recipient's own session was made after the recipient had
//! started, since nobody knew of that session before; one that was sent twice is told by its counter.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;

/// The largest datagram that is sent or taken: one that passes any network without fragments (RFC 9000, section 14).
pub const MAX_DATAGRAM: usize = 1200;

/// What sealing adds to a message.
pub const OVERHEAD: usize = HEADER + TAG;

const HEADER: usize = 44;
const TAG: usize = 16;
const MAGIC: &[u8; 3] = b"LBC";
/// Counts up when the format changes so that others cannot read it.
const FORMAT: u8 = 1;
const SALT: &[u8] = b"loadbalancer cluster 1";

/// One run of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Session([u8; 16]);

impl Session {
    /// Nobody's: what is addressed to it asks whoever receives it for his own.
    pub const NONE: Self = Self([0; 16]);

    /// One that was never there.
    pub fn random() -> Self {
        let mut session = [0; 16];
        rand::fill(&mut session)
            .expect("the system has random bytes, or TLS would not work either");
        Self(session)
    }

    /// The first half of it, to tell sessions apart within a process.
    pub fn short(self) -> u64 {
        let (first, _) = self.0.split_at(8);
        u64::from_be_bytes(first.try_into().expect("it is split at 8"))
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.short())
    }
}

/// Why a datagram was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not a datagram of this program, or cut short.
    Malformed,
    /// Longer than any that is sent.
    Oversized,
    /// Of a format that this version does not know.
    Format,
    /// Sealed with another key, or changed on the way.
    Forged,
    /// It has come before.
    Replayed,
    /// For another run of this node, or of one that has been replaced.
    Stale,
    /// Sealed as it should be, but what is in it is not understood.
    Invalid,
    /// More nodes than a fleet may have, or more strangers than are looked at in a second.
    Full,
    /// Another node has this one's name.
    SameName,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Malformed,
        Self::Oversized,
        Self::Format,
        Self::Forged,
        Self::Replayed,
        Self::Stale,
        Self::Invalid,
        Self::Full,
        Self::SameName,
    ];

    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Oversized => "oversized",
            Self::Format => "format",
            Self::Forged => "forged",
            Self::Replayed => "replayed",
            Self::Stale => "stale",
            Self::Invalid => "invalid",
            Self::Full => "full",
            Self::SameName => "same_name",
        }
    }
}

/// What a datagram says of itself before it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Whose it is.
    pub from: Session,
    /// Whom it is for.
    pub to: Session,
    /// Counts the sender's datagrams.
    pub counter: u64,
}

impl Envelope {
    /// Reads the header of a datagram.
    ///
    /// # Errors
    /// It is none of the fleet's, as far as that can be told without a key.
    pub fn read(datagram: &[u8]) -> Result<Self, Refusal> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Refusal::Oversized);
        }
        if datagram.len() < OVERHEAD || !datagram.starts_with(MAGIC) {
            return Err(Refusal::Malformed);
        }
        if datagram[3] != FORMAT {
            return Err(Refusal::Format);
        }
        let field = |at: usize| {
            let field: Result<[u8; 16], _> = datagram[at..at + 16].try_into();
            Session(field.expect("it has 16 bytes"))
        };
        let counter: Result<[u8; 8], _> = datagram[36..HEADER].try_into();
        Ok(Self {
            from: field(4),
            to: field(20),
            counter: u64::from_be_bytes(counter.expect("it has 8 bytes")),
        })
    }

    fn write(self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        header[..3].copy_from_slice(MAGIC);
        header[3] = FORMAT;
        header[4..20].copy_from_slice(&self.from.0);
        header[20..36].copy_from_slice(&self.to.0);
        header[36..].copy_from_slice(&self.counter.to_be_bytes());
        header
    }

    fn nonce(self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The fleet's shared key.
pub struct FleetKey(Prk);

impl FleetKey {
    /// The key that a secret stands for.
    pub fn new(secret: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, SALT).extract(secret))
    }

    /// The key that a session seals with.
    pub fn of(&self, session: Session) -> SessionKey {
        let info = [&session.0[..]];
        let expanded = self.0.expand(&info, &AES_256_GCM);
        let key = expanded.expect("a key is shorter than what HKDF can give");
        SessionKey(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKey(..)")
    }
}

/// What one session seals with.
pub struct SessionKey(LessSafeKey);

impl SessionKey {
    /// A datagram of a message. Each counter may be used once.
    pub fn seal(&self, envelope: Envelope, mut message: Vec<u8>) -> Vec<u8> {
        let header = envelope.write();
        let sealed =
            self.0
                .seal_in_place_append_tag(envelope.nonce(), Aad::from(header), &mut message);
        sealed.expect("a message is shorter than what AES-GCM can seal");
        [&header[..], &message].concat()
    }

    /// The message of a datagram, whose header has been read.
    ///
    /// # Errors
    /// [`Refusal::Forged`]: it was not sealed with this key, or something in it was changed.
    pub fn open(&self, envelope: Envelope, datagram: &[u8]) -> Result<Vec<u8>, Refusal> {
        let (header, sealed) = datagram.split_at(HEADER);
        let mut message = sealed.to_vec();
        let opened = self
            .0
            .open_in_place(envelope.nonce(), Aad::from(header), &mut message);
        let length = opened.map_err(|_| Refusal::Forged)?.len();
        message.truncate(length);
        Ok(message)
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

/// Which of a session's datagrams have come: the last 64 one by one, those before them all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    highest: u64,
    /// Bit i: the one that is i before the highest.
    recent: u64,
}

impl Seen {
    /// Notes a counter; false if it has come before, or is so old that nobody can tell.
    pub fn note(&mut self, counter: u64) -> bool {
        if self.recent == 0 || counter > self.highest {
            let ahead = counter.saturating_sub(self.highest);
            self.recent = self.recent.checked_shl(ahead.min(64) as u32).unwrap_or(0) | 1;
            self.highest = counter;
            return true;
        }
        let bit = match self.highest - counter {
            behind @ 0..64 => 1 << behind,
            _ => return false,
        };
        let new = self.recent & bit == 0;
        self.recent |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(key: &FleetKey) -> (Envelope, SessionKey) {
        let from = Session::random();
        let envelope = Envelope {
            from,
            to: Session::random(),
            counter: 7,
        };
        (envelope, key.of(from))
    }

    #[test]
    fn what_was_sealed_is_opened() {
        let fleet = FleetKey::new(b"a shared secret of the fleet");
        let (envelope, key) = envelope(&fleet);
        let datagram = key.seal(envelope, b"hello".to_vec());
        assert_eq!(datagram.len(), OVERHEAD + 5);
        assert_eq!(Envelope::read(&datagram), Ok(envelope));
        let other = FleetKey::new(b"a shared secret of the fleet").of(envelope.from);
        assert_eq!(other.open(envelope, &datagram).unwrap(), b"hello");
    }

    #[test]
    fn what_was_changed_or_sealed_by_others_is_forged() {
        let fleet = FleetKey::new(b"a shared secret of the fleet");
        let (sealed_for, key) = envelope(&fleet);
        let datagram = key.seal(sealed_for, b"hello".to_vec());
        let stranger = FleetKey::new(b"another secret altogether").of(sealed_for.from);
        assert_eq!(stranger.open(sealed_for, &datagram), Err(Refusal::Forged));
        for at in 4..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            let envelope = Envelope::read(&changed).unwrap();
            let key = fleet.of(envelope.from);
            assert_eq!(key.open(envelope, &changed), Err(Refusal::Forged), "{at}");
        }
    }

    #[test]
    fn what_is_none_of_the_fleets_is_told_by_kind() {
        let datagram = |first: &[u8]| [first, &[0; 80]].concat();
        for (bytes, refusal) in [
            (vec![], Refusal::Malformed),
            (b"LBC\x01".to_vec(), Refusal::Malformed),
            (datagram(b"GET "), Refusal::Malformed),
            (datagram(b"LBC\x02"), Refusal::Format),
            (vec![0; MAX_DATAGRAM + 1], Refusal::Oversized),
        ] {
            assert_eq!(Envelope::read(&bytes), Err(refusal));
        }
    }

    #[test]
    fn each_counter_is_new_once() {
        let mut seen = Seen::default();
        for (counter, new) in [
            (5, true),
            (5, false),
            (4, true),
            (4, false),
            (70, true),
            (6, false), // too long ago to tell
            (7, true),
            (7, false),
            (u64::MAX, true),
            (u64::MAX - 1, true),
            (70, false),
        ] {
            assert_eq!(seen.note(counter), new, "{counter}");
        }
    }
}
