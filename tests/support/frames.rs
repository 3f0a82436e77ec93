//! HTTP/2 frame by frame: what a client sends is built by hand, right or wrong, and what comes back is shown as it is.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::thread;

use super::DEADLINE;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0x0;
pub const HEADERS: u8 = 0x1;
pub const PRIORITY: u8 = 0x2;
pub const RST_STREAM: u8 = 0x3;
pub const SETTINGS: u8 = 0x4;
pub const PUSH_PROMISE: u8 = 0x5;
pub const PING: u8 = 0x6;
pub const GOAWAY: u8 = 0x7;
pub const WINDOW_UPDATE: u8 = 0x8;
pub const CONTINUATION: u8 = 0x9;

/// Of DATA and HEADERS.
pub const END_STREAM: u8 = 0x1;
/// Of SETTINGS and PING.
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;
/// Of HEADERS: there is a priority in front.
pub const PRIORITIZED: u8 = 0x20;
/// A request that is all in its headers.
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

pub const NO_ERROR: u32 = 0x0;
pub const PROTOCOL_ERROR: u32 = 0x1;
pub const FLOW_CONTROL_ERROR: u32 = 0x3;
pub const STREAM_CLOSED: u32 = 0x5;
pub const FRAME_SIZE_ERROR: u32 = 0x6;
pub const REFUSED_STREAM: u32 = 0x7;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

pub const HEADER_TABLE_SIZE: u16 = 1;
pub const ENABLE_PUSH: u16 = 2;
pub const INITIAL_WINDOW_SIZE: u16 = 4;
pub const MAX_FRAME_SIZE: u16 = 5;

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).expect("frames are small");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A SETTINGS frame with these values.
pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in values {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

/// A WINDOW_UPDATE frame.
pub fn window_update(stream: u32, room: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, room.to_be_bytes())
}

/// A RST_STREAM frame that says CANCEL.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, 8_u32.to_be_bytes())
}

/// Fields as HPACK has them, each a literal that leaves no trace (RFC 7541, section 6.2.2), of any bytes.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        literal(&mut block, 0x00, name, value);
    }
    block
}

/// Adds a literal with a new name, of the kind that the first byte says.
pub fn literal(block: &mut Vec<u8>, kind: u8, name: &[u8], value: &[u8]) {
    block.push(kind);
    for text in [name, value] {
        integer(block, text.len());
        block.extend(text);
    }
}

/// Adds an integer with a prefix of seven bits, the eighth being 0 (RFC 7541, section 5.1).
fn integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        return block.push(value as u8);
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push((value % 128) as u8 | 128);
        value /= 128;
    }
    block.push(value as u8);
}

/// A request's fields: those of a GET of `/` from `test`, with others in place of them or behind them. Without a value, a
/// field is left out.
pub fn fields_with(others: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "test"),
    ];
    for (name, value) in others {
        let place = fields.iter().position(|(other, _)| other == name);
        match (place, value) {
            (Some(place), Some(value)) => fields[place].1 = value,
            (Some(place), None) => _ = fields.remove(place),
            (None, Some(value)) => fields.push((name, value)),
            (None, None) => panic!("{name} is not there"),
        }
    }
    let fields = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    block(&fields.collect::<Vec<_>>())
}

/// A GET of `/` from `test`.
pub fn get() -> Vec<u8> {
    fields_with(&[])
}

/// A POST to `/` at `test`.
pub fn post() -> Vec<u8> {
    fields_with(&[(":method", Some("POST"))])
}

/// A frame that came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        let code = self.payload[at..at + 4].try_into();
        u32::from_be_bytes(code.expect("four bytes"))
    }

    /// The status that HEADERS begin with, where it is one of those that HPACK has a number for.
    pub fn status(&self) -> Option<u16> {
        let known = [200, 204, 206, 304, 400, 404, 500];
        // A new size of the table may come first.
        let sizes = self
            .payload
            .iter()
            .take_while(|b| (0x20..0x3f).contains(*b));
        let block = &self.payload[sizes.count()..];
        match *block.first()? {
            index @ 0x88..=0x8e => Some(known[usize::from(index - 0x88)]),
            // A literal with the name of the first of them, as it is, or squeezed: two and a half bytes for three digits.
            0x08 | 0x48 => {
                let text = &block[2..];
                match block[1] {
                    3 => std::str::from_utf8(&text[..3]).ok()?.parse().ok(),
                    _ => unsqueeze(text),
                }
            }
            _ => None,
        }
    }

    fn is(&self, kind: u8, flag: u8) -> bool {
        self.kind == kind && self.flags & flag == flag
    }
}

/// Three digits in the code of RFC 7541, appendix B: 0, 1 and 2 have five bits, the others six.
fn unsqueeze(text: &[u8]) -> Option<u16> {
    let bits = text
        .iter()
        .take(3)
        .fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
    let (mut bits, mut number) = (bits << (8 + 8 * 3_usize.saturating_sub(text.len())), 0);
    for _ in 0..3 {
        let digit = match bits >> 27 {
            digit @ 0..=2 => {
                bits <<= 5;
                digit
            }
            _ => {
                let code = bits >> 26;
                bits <<= 6;
                code.checked_sub(0x19)? + 3
            }
        };
        number = number * 10 + u16::try_from(digit).ok()?;
    }
    Some(number)
}

/// What a connection, or a stream of it, came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The stream was answered.
    Answer(u16),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection was closed, with this code.
    Goaway(u32),
    /// The connection was closed without a word.
    Close,
}

/// A client's connection.
pub struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// A connection on which nothing was said.
    pub fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        Self { stream }
    }

    /// A connection that has begun as it should, with these settings, and whose own settings have been acknowledged.
    pub fn connect_with(addr: SocketAddr, values: &[(u16, u32)]) -> Self {
        let mut client = Self::open(addr);
        client.send([PREFACE, &settings(values), &frame(SETTINGS, ACK, 0, b"")].concat());
        client.wait_for("settings that are acknowledged", |frame| {
            frame.is(SETTINGS, ACK)
        });
        client
    }

    /// The same with the default settings.
    pub fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, &[])
    }

    /// Sends bytes. Whether the other end is still there the next read will tell.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        _ = self.try_send(bytes);
    }

    /// Sends bytes, if the other end takes them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends a request that is all in its headers.
    pub fn ask(&mut self, stream: u32, block: impl AsRef<[u8]>) {
        self.send(frame(HEADERS, WHOLE, stream, block));
    }

    /// A second handle, to write with while this one reads.
    pub fn socket(&self) -> TcpStream {
        self.stream.try_clone().expect("a socket")
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Sends what `next` gives for 0, 1, 2 and so on, for as long as that is something and the other end takes it, and
    /// reads what comes back meanwhile. Tells what becomes of the connection.
    pub fn flood(self, mut next: impl FnMut(u32) -> Option<Vec<u8>>) -> End {
        let mut reader = Self {
            stream: self.socket(),
        };
        let mut writer = self;
        thread::scope(|scope| {
            let end = scope.spawn(move || reader.end());
            for number in 0.. {
                let Some(bytes) = next(number) else {
                    writer.finish();
                    break;
                };
                if writer.try_send(bytes).is_err() {
                    break;
                }
            }
            end.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// The next frame; `None` once the connection is closed.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if is_close(&error) => return None,
            Err(error) => panic!("no frame: {error}"),
        }
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        match self.stream.read_exact(&mut payload) {
            Ok(()) => {}
            Err(error) if is_close(&error) => return None,
            Err(error) => panic!("no payload: {error}"),
        }
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
            payload,
        })
    }

    /// Reads until a frame is as it is awaited.
    pub fn wait_for(&mut self, what: impl Debug, is: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            match self.read() {
                Some(frame) if is(&frame) => return frame,
                Some(frame) if frame.kind == GOAWAY && frame.code() != NO_ERROR => {
                    panic!("{what:?}: it was told to go away: {frame:?}")
                }
                Some(_) => {}
                None => panic!("{what:?}: the connection was closed"),
            }
        }
    }

    /// What becomes of a stream, or of the connection before that.
    pub fn end_of(&mut self, stream: u32) -> End {
        let mut told = None;
        loop {
            match self.read() {
                None => return told.map_or(End::Close, End::Goaway),
                Some(frame) if frame.kind == GOAWAY => told = Some(frame.code()),
                Some(frame) if frame.stream == stream && frame.kind == RST_STREAM => {
                    return End::Reset(frame.code());
                }
                Some(frame) if frame.stream == stream && frame.kind == HEADERS => {
                    match frame.status() {
                        Some(100..200) => {}
                        status => return End::Answer(status.unwrap_or_default()),
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// What becomes of the connection.
    pub fn end(&mut self) -> End {
        let mut told = None;
        while let Some(frame) = self.read() {
            if frame.kind == GOAWAY {
                told = Some(frame.code());
            }
        }
        told.map_or(End::Close, End::Goaway)
    }

    /// Asserts that the connection is still there.
    pub fn is_open(&mut self) {
        self.send(frame(PING, 0, 0, b"are you?"));
        self.wait_for("an answer to a ping", |frame| frame.is(PING, ACK));
    }

    /// Asserts that it answers requests as ever.
    pub fn is_usable(&mut self, stream: u32) {
        self.ask(stream, get());
        assert_eq!(self.end_of(stream), End::Answer(200), "another request");
    }
}

fn is_close(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    )
}
