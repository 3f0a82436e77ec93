//! Sticky sessions: a token that says which server a client belongs to, and until when.
//!
//! ```text
//! token    = base64url(tag ‖ expiry ‖ identity ⊕ mask)
//! tag      = HMAC(key, upstream ‖ 0 ‖ identity ‖ expiry), 16 bytes
//! mask     = HMAC(key, tag), 8 bytes
//! identity = the hash of the server's address, expiry in seconds of Unix time; 8 bytes each, big-endian
//! ```
//! The tag is over everything, so that nobody can choose a server, move a token to another upstream, or prolong it. The
//! identity is masked, because addresses can be guessed from their hashes. HMAC is that with SHA-256.

use std::fmt::{self, Debug, Formatter};
use std::sync::OnceLock;
use std::time::Duration;

use aws_lc_rs::hmac;
use aws_lc_rs::rand;
use data_encoding::BASE64URL_NOPAD;
use subtle::ConstantTimeEq;

const TAG: usize = 16;
const TOKEN: usize = TAG + 8 + 8;

/// What derives a key from a secret.
const PURPOSE: &[u8] = b"loadbalancer sticky sessions";

static PROCESS_KEY: OnceLock<Key> = OnceLock::new();

/// What tokens are signed with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key that a secret stands for; the same in every process.
    pub fn of_secret(secret: &[u8]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), PURPOSE);
        Self(first(derived.as_ref()))
    }

    /// The key of this process, for upstreams without a secret. A random one, unless [`adopted`](Self::adopt) before.
    pub fn of_process() -> Self {
        *PROCESS_KEY.get_or_init(|| {
            let mut key = [0; 32];
            rand::fill(&mut key)
                .expect("the system has random bytes, or TLS would not work either");
            Self(key)
        })
    }

    /// Has this process go on with the key of another one, whose place it takes. False if it is too late for that: it
    /// has used one of its own.
    pub fn adopt(key: [u8; 32]) -> bool {
        PROCESS_KEY.set(Self(key)).is_ok()
    }

    /// To be told to a process that takes the place of this one. It is a secret.
    pub fn expose(&self) -> [u8; 32] {
        self.0
    }
}

impl Debug for Key {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// An upstream's sticky sessions.
#[derive(Debug)]
pub struct Sticky {
    upstream: String,
    cookie: String,
    ttl: Duration,
    key: Key,
    hmac: hmac::Key,
}

/// What a valid token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// [`Endpoint::identity`](super::Endpoint::identity) of the server.
    pub identity: u64,
    /// Whether more than half of its time is over.
    pub is_old: bool,
}

impl Sticky {
    /// Sessions of `upstream`, in a cookie of this name, which lasts for `ttl`.
    pub fn new(upstream: String, cookie: String, ttl: Duration, key: Key) -> Self {
        Self {
            upstream,
            cookie,
            ttl,
            hmac: hmac::Key::new(hmac::HMAC_SHA256, &key.0),
            key,
        }
    }

    /// The cookie's name.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// How long a session lasts without requests.
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// What its tokens are signed with.
    pub fn key(&self) -> Key {
        self.key
    }

    /// A token for a server, made at `now` in seconds of Unix time.
    pub fn token(&self, identity: u64, now: u64) -> String {
        let expiry = now.saturating_add(self.ttl.as_secs()).to_be_bytes();
        let tag = self.tag(identity, expiry);
        let masked = (identity ^ self.mask(&tag)).to_be_bytes();
        BASE64URL_NOPAD.encode(&[&tag[..], &expiry, &masked].concat())
    }

    /// What a token says, if it is valid at `now`.
    pub fn read(&self, token: &str, now: u64) -> Option<Session> {
        let mut bytes = [0; TOKEN];
        if BASE64URL_NOPAD.decode_len(token.len()) != Ok(TOKEN) {
            return None;
        }
        BASE64URL_NOPAD
            .decode_mut(token.as_bytes(), &mut bytes)
            .ok()?;
        let (tag, rest) = bytes.split_at(TAG);
        let (expiry, masked) = rest.split_at(8);
        let (tag, expiry) = (first::<TAG>(tag), first::<8>(expiry));
        let identity = u64::from_be_bytes(first(masked)) ^ self.mask(&tag);
        let is_ours = bool::from(self.tag(identity, expiry).ct_eq(&tag));
        let left = u64::from_be_bytes(expiry).saturating_sub(now);
        (is_ours && left > 0).then_some(Session {
            identity,
            is_old: left < self.ttl.as_secs() / 2,
        })
    }

    fn tag(&self, identity: u64, expiry: [u8; 8]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(self.upstream.as_bytes());
        context.update(&[0]);
        context.update(&identity.to_be_bytes());
        context.update(&expiry);
        first(context.sign().as_ref())
    }

    fn mask(&self, tag: &[u8; TAG]) -> u64 {
        u64::from_be_bytes(first(hmac::sign(&self.hmac, tag).as_ref()))
    }
}

/// The first bytes, of at least as many.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut taken = [0; N];
    taken.copy_from_slice(&bytes[..N]);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn sticky(upstream: &str, secret: &str) -> Sticky {
        let ttl = Duration::from_secs(100);
        let key = Key::of_secret(secret.as_bytes());
        Sticky::new(upstream.to_owned(), "lb".to_owned(), ttl, key)
    }

    #[test]
    fn a_token_says_which_server_until_it_expires() {
        let app = sticky("app", "a secret of the operator");
        let token = app.token(42, NOW);
        let session = |is_old| {
            Some(Session {
                identity: 42,
                is_old,
            })
        };
        assert_eq!(app.read(&token, NOW), session(false));
        assert_eq!(app.read(&token, NOW + 50), session(false));
        assert_eq!(app.read(&token, NOW + 51), session(true));
        assert_eq!(app.read(&token, NOW + 99), session(true));
        assert_eq!(app.read(&token, NOW + 100), None);
        assert_eq!(app.read(&token, u64::MAX), None);
    }

    #[test]
    fn whoever_has_the_secret_reads_it_and_nobody_else() {
        let token = sticky("app", "one").token(42, NOW);
        assert!(sticky("app", "one").read(&token, NOW).is_some());
        assert!(sticky("app", "two").read(&token, NOW).is_none());
        assert!(sticky("other", "one").read(&token, NOW).is_none());
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_none() {
        let app = sticky("app", "one");
        let token = BASE64URL_NOPAD
            .decode(app.token(42, NOW).as_bytes())
            .unwrap();
        for bit in 0..TOKEN * 8 {
            let mut changed = token.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = BASE64URL_NOPAD.encode(&changed);
            assert_eq!(app.read(&changed, NOW), None, "bit {bit}");
        }
        for odd in ["", "x", "=", "ü", &"A".repeat(43), &"A".repeat(1000)] {
            assert_eq!(app.read(odd, NOW), None, "{odd:?}");
        }
    }

    #[test]
    fn a_token_shows_no_address() {
        let app = sticky("app", "one");
        let token = BASE64URL_NOPAD
            .decode(app.token(42, NOW).as_bytes())
            .unwrap();
        assert_ne!(token[TOKEN - 8..], 42_u64.to_be_bytes());
    }

    #[test]
    fn the_key_of_the_process_stays_the_same_and_is_not_shown() {
        let key = Key::of_process();
        assert_eq!(Key::of_process(), key);
        assert!(!Key::adopt([1; 32]));
        assert_eq!(Key::of_process(), key);
        assert_eq!(format!("{key:?}"), "Key(..)");
    }
}
