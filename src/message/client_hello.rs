//! What a TLS client says first: which name it asks for, and which protocols it offers (RFC 8446, section 4.1.2; RFC 6066,
//! section 3; RFC 7301). Read without answering, to choose who is to answer.
//!
//! The hello may come in any pieces: of the socket, and of records (RFC 8446, section 5.1). Each byte is looked at once.

use std::str;

use thiserror::Error;

/// The longest hello, with the records around it. Keys of several kinds and tickets make some 2 KiB.
pub const MAX_LENGTH: usize = 64 * 1024 - 1;

const RECORD_HEADER: usize = 5;
const MESSAGE_HEADER: usize = 4;
/// The longest record of plaintext (RFC 8446, section 5.1).
const RECORD_MAX: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const HOST_NAME: u8 = 0;

/// A hello as far as it has come.
#[derive(Debug, Default)]
pub struct Incoming {
    /// All bytes, for whoever is to answer.
    bytes: Vec<u8>,
    /// Up to where they have been looked at: the beginning of a record, or of what is left of one.
    seen: usize,
    /// How much of the record at `seen` is still to come.
    left: usize,
    /// The message, out of its records.
    message: Vec<u8>,
}

/// What the hello says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name that is asked for, in lower case and without trailing dot.
    pub name: Option<String>,
    /// The protocols that are offered, the one liked best first.
    pub protocols: Vec<Vec<u8>>,
}

/// Why there is no hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Invalid {
    /// It is something else.
    #[error("not TLS")]
    NotTls,
    /// It contradicts itself.
    #[error("a malformed ClientHello")]
    Malformed,
    /// It is longer than [`MAX_LENGTH`].
    #[error("a ClientHello that is too long")]
    TooLong,
}

impl Incoming {
    /// Takes what has come; `None` if more is needed. What comes behind the hello is kept with it.
    ///
    /// # Errors
    /// There will be no hello.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<ClientHello>, Invalid> {
        self.bytes.extend_from_slice(bytes);
        while self.seen < self.bytes.len() {
            if self.seen >= MAX_LENGTH {
                return Err(Invalid::TooLong);
            }
            if self.left == 0 && !self.open_record()? {
                break;
            }
            // No further than to the limit, so that it does not matter how much has come behind.
            let come = self.left.min(self.bytes.len() - self.seen);
            let come = come.min(MAX_LENGTH.saturating_sub(self.seen));
            let fragment = &self.bytes[self.seen..self.seen + come];
            self.message.extend_from_slice(fragment);
            self.seen += come;
            self.left -= come;
            if let Some(hello) = self.message()? {
                return Ok(Some(hello));
            }
        }
        Ok(None)
    }

    /// All that has come.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, for whoever is to answer.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Reads a record's header; false if it is not there yet.
    fn open_record(&mut self) -> Result<bool, Invalid> {
        let header = &self.bytes[self.seen..];
        let fault = match self.message.is_empty() {
            true => Invalid::NotTls,
            false => Invalid::Malformed,
        };
        // What can be known is known at once: nobody who speaks something else waits for more.
        if header[0] != HANDSHAKE || header.get(1).is_some_and(|major| *major != 3) {
            return Err(fault);
        }
        let Some(header) = header.first_chunk::<RECORD_HEADER>() else {
            return Ok(false);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        // Handshake messages are never empty fragments.
        if length == 0 || length > RECORD_MAX {
            return Err(fault);
        }
        self.seen += RECORD_HEADER;
        self.left = length;
        Ok(true)
    }

    /// The hello, once the message is whole.
    fn message(&self) -> Result<Option<ClientHello>, Invalid> {
        match self.message.first() {
            None => return Ok(None),
            Some(&CLIENT_HELLO) => {}
            Some(_) => return Err(Invalid::Malformed),
        }
        let Some(header) = self.message.first_chunk::<MESSAGE_HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        if length + MESSAGE_HEADER + RECORD_HEADER > MAX_LENGTH {
            return Err(Invalid::TooLong);
        }
        let Some(body) = self.message[MESSAGE_HEADER..].get(..length) else {
            return Ok(None);
        };
        ClientHello::parse(body).ok_or(Invalid::Malformed).map(Some)
    }
}

impl ClientHello {
    /// Reads the body of the message.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut rest = Reader(body);
        rest.take(2 + 32)?; // version and random
        rest.of_length::<1>()?; // session
        rest.of_length::<2>()?; // cipher suites
        rest.of_length::<1>()?; // compression
        let mut hello = Self::default();
        if rest.0.is_empty() {
            return Some(hello); // without extensions (RFC 5246, section 7.4.1.2)
        }
        let mut extensions = rest.of_length::<2>()?;
        let mut seen = (false, false);
        while !extensions.0.is_empty() {
            let kind = extensions.number::<2>()?;
            let mut extension = extensions.of_length::<2>()?;
            let is_new = |seen: &mut bool| (!std::mem::replace(seen, true)).then_some(());
            match u16::try_from(kind).ok()? {
                SERVER_NAME => {
                    is_new(&mut seen.0)?;
                    hello.name = name(&mut extension)?;
                }
                ALPN => {
                    is_new(&mut seen.1)?;
                    hello.protocols = protocols(&mut extension)?;
                }
                _ => {}
            }
        }
        rest.0.is_empty().then_some(hello)
    }
}

/// The host name of a list of names, which must not have two of them. What is not a name of the DNS is as good as none.
fn name(extension: &mut Reader<'_>) -> Option<Option<String>> {
    let mut list = extension.of_length::<2>()?;
    let mut name = None;
    while !list.0.is_empty() {
        let kind = list.number::<1>()?;
        let value = list.of_length::<2>()?;
        if kind == usize::from(HOST_NAME) && name.replace(value.0).is_some() {
            return None;
        }
    }
    let text = name.and_then(|name| str::from_utf8(name).ok());
    let text = text.map(|text| text.strip_suffix('.').unwrap_or(text));
    let is_name = |text: &&str| {
        (1..=253).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let name = text.filter(is_name).map(str::to_ascii_lowercase);
    extension.0.is_empty().then_some(name)
}

fn protocols(extension: &mut Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = extension.of_length::<2>()?;
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let protocol = list.of_length::<1>()?.0;
        if protocol.is_empty() {
            return None;
        }
        protocols.push(protocol.to_vec());
    }
    extension.0.is_empty().then_some(protocols)
}

/// Bytes that are read from the front; `None` where they end too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A number of so many bytes.
    fn number<const BYTES: usize>(&mut self) -> Option<usize> {
        let bytes = self.take(BYTES)?;
        Some(
            bytes
                .iter()
                .fold(0, |number, byte| number << 8 | usize::from(*byte)),
        )
    }

    /// What follows its length, a number of so many bytes.
    fn of_length<const BYTES: usize>(&mut self) -> Option<Self> {
        let length = self.number::<BYTES>()?;
        self.take(length).map(Self)
    }
}

#[cfg(test)]
mod tests;
