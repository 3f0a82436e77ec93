//! What rustls makes of bytes: records into plaintext, plaintext into records. Knows no socket and keeps no buffers.

use std::io::{self, IoSlice};
use std::ops::Deref;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, UnbufferedConnectionCommon, UnbufferedStatus,
    WriteTraffic,
};
use rustls::{CommonState, Error};

/// The most plaintext of a record (RFC 8446, section 5.1).
pub(super) const PLAINTEXT_MAX: usize = 16 * 1024;
/// The longest record with its header, of TLS 1.2 (RFC 5246, section 6.2.3); those of TLS 1.3 are shorter.
pub(super) const RECORD_MAX: usize = 5 + PLAINTEXT_MAX + 2048;
/// The longest record of ours: what the ciphers of both versions add is far less than this.
const SEALED_MAX: usize = 5 + PLAINTEXT_MAX + 256;

/// One side's state.
pub(super) enum Session {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What has become of bytes that came.
pub(super) struct Decrypted {
    /// How many of them, from the front, are done with. The rest is to be shown again, with what follows it.
    pub(super) consumed: usize,
    /// What that says of the connection.
    pub(super) outcome: Result<Next, Error>,
}

/// What a connection has to expect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// More records.
    More,
    /// The peer sends nothing more (`close_notify`).
    Nothing,
}

/// What has become of plaintext.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Encrypted {
    /// Bytes of plaintext, from the front.
    pub(super) taken: usize,
    /// Bytes of records.
    pub(super) sealed: usize,
}

impl Session {
    /// Decrypts the records that are whole in `incoming`, in place, and hands their plaintext on. What has to be said to
    /// the peer is appended to `replies`. After an error there must be no further call.
    pub(super) fn decrypt(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut impl FnMut(&[u8]),
        replies: &mut Vec<u8>,
    ) -> Decrypted {
        match self {
            Self::Server(side) => drive(&mut **side, incoming, plaintext, replies, |_| {}),
            Self::Client(side) => drive(&mut **side, incoming, plaintext, replies, |_| {}),
        }
    }

    /// Encrypts as much of `plaintext` as there is room for in `space`, which must be as long as the scratch; the records
    /// are at its beginning. `held` is the rest of the last `decrypt`.
    ///
    /// # Errors
    /// The keys are used up, or the connection has ended.
    pub(super) fn encrypt(
        &mut self,
        held: &mut [u8],
        plaintext: &[IoSlice<'_>],
        space: &mut [u8],
        replies: &mut Vec<u8>,
    ) -> io::Result<Encrypted> {
        match self {
            Self::Server(side) => encrypt(&mut **side, held, plaintext, space, replies),
            Self::Client(side) => encrypt(&mut **side, held, plaintext, space, replies),
        }
    }

    /// Appends a `close_notify` to `replies`, unless the peer has been told of an end before.
    pub(super) fn close(&mut self, held: &mut [u8], replies: &mut Vec<u8>) {
        match self {
            Self::Server(side) => close(&mut **side, held, replies),
            Self::Client(side) => close(&mut **side, held, replies),
        }
    }
}

impl Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Self::Server(side) => side,
            Self::Client(side) => side,
        }
    }
}

/// What the two sides of rustls have in common, but not by a trait of its own.
trait Process<Data> {
    fn process<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Data>;
}

type Server = UnbufferedConnectionCommon<ServerConnectionData>;
type Client = UnbufferedConnectionCommon<ClientConnectionData>;

impl Process<ServerConnectionData> for Server {
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
        self.process_tls_records(incoming)
    }
}

impl Process<ClientConnectionData> for Client {
    fn process<'c, 'i>(
        &'c mut self,
        incoming: &'i mut [u8],
    ) -> UnbufferedStatus<'c, 'i, ClientConnectionData> {
        self.process_tls_records(incoming)
    }
}

/// Goes on until more must come. Calls `write` then if plaintext may be sent.
fn drive<Data>(
    side: &mut UnbufferedConnectionCommon<Data>,
    incoming: &mut [u8],
    plaintext: &mut impl FnMut(&[u8]),
    replies: &mut Vec<u8>,
    write: impl FnOnce(WriteTraffic<'_, Data>),
) -> Decrypted
where
    UnbufferedConnectionCommon<Data>: Process<Data>,
{
    let mut consumed = 0;
    let mut next = Next::More;
    loop {
        let UnbufferedStatus { mut discard, state } = side.process(&mut incoming[consumed..]);
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    discard += record.discard;
                    plaintext(record.payload);
                }
                // Mostly that was all, which need not be asked for.
                if consumed + discard == incoming.len() && !side.wants_write() {
                    return Decrypted {
                        consumed: incoming.len(),
                        outcome: Ok(next),
                    };
                }
            }
            Ok(ConnectionState::EncodeTlsData(data)) => encode(data, replies),
            // It will be transmitted: all replies are kept until they are sent.
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed) => next = Next::Nothing,
            Ok(state) => {
                let outcome = match state {
                    ConnectionState::Closed => Next::Nothing,
                    _ => next, // the handshake needs more; early data is never allowed
                };
                if let ConnectionState::WriteTraffic(traffic) = state {
                    write(traffic);
                }
                return Decrypted {
                    consumed: consumed + discard,
                    outcome: Ok(outcome),
                };
            }
            Err(error) => {
                explain(side, replies);
                return Decrypted {
                    consumed: incoming.len(),
                    outcome: Err(error),
                };
            }
        }
        consumed += discard;
    }
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, replies: &mut Vec<u8>) {
    let start = replies.len();
    // Only a try tells the length.
    if let Err(EncodeError::InsufficientSize(error)) = data.encode(&mut []) {
        replies.resize(start + error.required_size, 0);
        let encoded = data.encode(&mut replies[start..]);
        replies.truncate(start + encoded.unwrap_or_default());
    }
}

/// Appends the alert that tells the peer of an error.
fn explain<Data>(side: &mut UnbufferedConnectionCommon<Data>, replies: &mut Vec<u8>)
where
    UnbufferedConnectionCommon<Data>: Process<Data>,
{
    // What is to be sent comes before what is to be read, which must not be looked at again.
    while side.wants_write()
        && let Ok(ConnectionState::EncodeTlsData(data)) = side.process(&mut []).state
    {
        encode(data, replies);
    }
}

fn encrypt<Data>(
    side: &mut UnbufferedConnectionCommon<Data>,
    held: &mut [u8],
    plaintext: &[IoSlice<'_>],
    space: &mut [u8],
    replies: &mut Vec<u8>,
) -> io::Result<Encrypted>
where
    UnbufferedConnectionCommon<Data>: Process<Data>,
{
    let mut result = Err(io::ErrorKind::BrokenPipe.into());
    let write = |traffic: WriteTraffic<'_, Data>| result = seal(traffic, plaintext, space);
    // There is no plaintext: a `decrypt` has left nothing to read.
    let driven = drive(side, held, &mut |_| {}, replies, write);
    driven.outcome.map_err(invalid)?;
    result
}

/// Seals records until there is no plaintext left, or no room for one more.
fn seal<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    plaintext: &[IoSlice<'_>],
    space: &mut [u8],
) -> io::Result<Encrypted> {
    let (records, gathered) = space.split_at_mut(space.len() - PLAINTEXT_MAX);
    let mut rest = Rest {
        slices: plaintext,
        offset: 0,
    };
    let mut done = Encrypted::default();
    while records.len() - done.sealed >= SEALED_MAX {
        let record = rest.next(gathered);
        if record.is_empty() {
            break;
        }
        let sealed = traffic.encrypt(record, &mut records[done.sealed..]);
        done.sealed += sealed.map_err(io::Error::other)?;
        done.taken += record.len();
    }
    Ok(done)
}

fn close<Data>(side: &mut UnbufferedConnectionCommon<Data>, held: &mut [u8], replies: &mut Vec<u8>)
where
    UnbufferedConnectionCommon<Data>: Process<Data>,
{
    let mut alert = [0; 256];
    let mut length = 0;
    drive(side, held, &mut |_| {}, replies, |mut traffic| {
        length = traffic.queue_close_notify(&mut alert).unwrap_or_default();
    });
    replies.extend_from_slice(&alert[..length]);
}

/// What rustls finds wrong, as an error of a stream.
pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Plaintext in several slices that is not in a record yet.
struct Rest<'a> {
    slices: &'a [IoSlice<'a>],
    /// Of the first slice, what is.
    offset: usize,
}

impl<'a> Rest<'a> {
    /// The next record's plaintext: a part of a slice, or several slices that are put together in `space`.
    fn next<'s>(&mut self, space: &'s mut [u8]) -> &'s [u8]
    where
        'a: 's,
    {
        let mut gathered = 0;
        while let [first, others @ ..] = self.slices {
            let left: &'a [u8] = &first[self.offset..];
            let is_whole = left.len() >= PLAINTEXT_MAX || others.is_empty();
            if gathered == 0 && is_whole {
                let taken = left.len().min(PLAINTEXT_MAX);
                self.offset += taken;
                return &left[..taken];
            }
            let taken = left.len().min(space.len() - gathered);
            space[gathered..gathered + taken].copy_from_slice(&left[..taken]);
            gathered += taken;
            self.offset += taken;
            if self.offset < first.len() {
                break; // the record is full
            }
            self.slices = others;
            self.offset = 0;
        }
        &space[..gathered]
    }
}
