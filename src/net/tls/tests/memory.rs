//! Sessions between byte strings: records, and where they may be cut.

use rustls::version::{TLS12, TLS13};

use super::super::session::Encrypted;
use super::*;

impl Configs {
    /// Both sides of ours, without sockets.
    fn sessions(&self) -> (Memory, Memory) {
        let client = UnbufferedClientConnection::new(Arc::clone(&self.1), name()).unwrap();
        let server = UnbufferedServerConnection::new(Arc::clone(&self.0)).unwrap();
        let of = |session| Memory {
            session,
            held: Vec::new(),
            plaintext: Vec::new(),
        };
        (of(Session::Client(client)), of(Session::Server(server)))
    }
}

/// A session between byte strings.
struct Memory {
    session: Session,
    held: Vec<u8>,
    plaintext: Vec<u8>,
}

impl Memory {
    /// Takes what has come in `pieces`; returns what is to be sent back.
    fn take<'a>(&mut self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut replies = Vec::new();
        for piece in pieces {
            self.held.extend_from_slice(piece);
            let plaintext = &mut self.plaintext;
            let mut take = |bytes: &[u8]| plaintext.extend_from_slice(bytes);
            let decrypted = self
                .session
                .decrypt(&mut self.held, &mut take, &mut replies);
            assert_eq!(decrypted.outcome, Ok(Next::More));
            self.held.drain(..decrypted.consumed);
        }
        replies
    }

    fn seal(&mut self, slices: &[&[u8]]) -> (Encrypted, Vec<u8>) {
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        let (mut space, mut records) = (Scratch::take(&SPACE, SCRATCH), Vec::new());
        let encrypted = self
            .session
            .encrypt(&mut self.held, &slices, &mut space, &mut records);
        let encrypted = encrypted.unwrap();
        records.extend_from_slice(&space[..encrypted.sealed]);
        (encrypted, records)
    }
}

/// Shakes hands; each flight comes in pieces.
fn shake<'a, I: IntoIterator<Item = &'a [u8]>>(
    client: &mut Memory,
    server: &mut Memory,
    cut: impl Fn(&'static [u8]) -> I,
) -> usize {
    let mut longest = 0;
    let mut flight = client.take([&[][..]]);
    while !flight.is_empty() {
        longest = longest.max(flight.len());
        let answer = server.take(cut(flight.leak()));
        longest = longest.max(answer.len());
        flight = client.take(cut(answer.leak()));
    }
    assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
    assert!(client.held.is_empty() && server.held.is_empty());
    longest
}

#[test]
fn a_handshake_may_be_cut_anywhere() {
    for version in [&TLS13, &TLS12] {
        let configs = Configs::of(&[version]);
        let (mut client, mut server) = configs.sessions();
        let longest = shake(&mut client, &mut server, |flight| [flight]);
        for cut in 1..longest {
            let (mut client, mut server) = configs.sessions();
            shake(&mut client, &mut server, |flight| {
                let (first, second) = flight.split_at(cut.min(flight.len()));
                [first, second]
            });
        }
        let (mut client, mut server) = configs.sessions();
        shake(&mut client, &mut server, |flight| flight.chunks(1));
    }
}

#[test]
fn records_may_be_cut_anywhere_and_writing_does_not_mind() {
    for version in [&TLS13, &TLS12] {
        let (mut client, mut server) = Configs::of(&[version]).sessions();
        shake(&mut client, &mut server, |flight| [flight]);
        let length = client.seal(&[b"first", b"second"]).1.len();
        let (mut client, mut server) = Configs::of(&[version]).sessions();
        shake(&mut client, &mut server, |flight| [flight]);
        for cut in 0..2 * length {
            let both = [client.seal(&[b"one", b" record"]).1, client.seal(&[b"!"]).1].concat();
            let (first, second) = both.split_at(cut.min(both.len()));
            assert!(server.take([first]).is_empty());
            let answer = server.seal(&[b"answer"]).1;
            assert!(server.take([second]).is_empty());
            assert_eq!(server.plaintext, b"one record!");
            assert!(server.held.is_empty());
            server.plaintext.clear();
            assert!(client.take([&answer[..]]).is_empty());
            assert_eq!(client.plaintext, b"answer");
            client.plaintext.clear();
        }
    }
}

#[test]
fn slices_share_records_and_large_ones_fill_them() {
    let (mut client, mut server) = Configs::new().sessions();
    shake(&mut client, &mut server, |flight| [flight]);
    let large = vec![7; 20_000];
    for (slices, lengths) in [
        (&[&b"head"[..], b"", b"body"][..], &[8][..]),
        (&[b"", b"head", &large], &[PLAINTEXT_MAX, 3620]),
        (&[&large, b"tail"], &[PLAINTEXT_MAX, 3620]),
        (&[&large[..PLAINTEXT_MAX], b"tail"], &[PLAINTEXT_MAX, 4]),
    ] {
        let (encrypted, records) = client.seal(slices);
        assert_eq!(encrypted.taken, lengths.iter().sum::<usize>());
        let mut rest = &records[..];
        for length in lengths {
            let record = 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
            assert_eq!(record, 5 + length + 1 + 16, "{lengths:?}");
            rest = &rest[record..];
        }
        assert!(rest.is_empty());
        server.plaintext.clear();
        server.take([&records[..]]);
        assert!(server.plaintext == slices.concat());
    }
    let huge = vec![7; 1_000_000];
    assert_eq!(client.seal(&[&huge]).0.taken, RECORDS * PLAINTEXT_MAX);
}
