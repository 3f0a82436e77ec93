//! WebSocket over HTTP/2 (RFC 8441): a stream takes the place of a connection, and servers see an upgrade of HTTP/1.1.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::Method;
use http::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE,
};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::message::h1::write_answer::Fields;

/// The fields that have no meaning in a stream's answer.
const OF_AN_UPGRADE: [HeaderName; 3] = [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT];

/// Turns a stream's request for a WebSocket into the one that HTTP/1.1 has for it; whether it is one.
pub fn upgrade(head: &mut Parts, rng: &mut fastrand::Rng) -> bool {
    let protocol = head.extensions.get::<Protocol>().map(Protocol::as_str);
    if head.method != Method::CONNECT || protocol != Some("websocket") {
        return false;
    }
    head.method = Method::GET;
    let fields = &mut head.headers;
    fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    fields.insert(SEC_WEBSOCKET_KEY, key(rng));
    true
}

/// Sixteen random bytes in base64 (RFC 6455, section 4.1).
fn key(rng: &mut fastrand::Rng) -> HeaderValue {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = rng.u128(..);
    let mut text = [b'='; 24];
    // The last digit has two bits, and four that are zero.
    for (index, digit) in text[..22].iter_mut().enumerate() {
        let sextet = (bits << (6 * index) >> 122) as usize;
        *digit = DIGITS[sextet];
    }
    HeaderValue::from_bytes(&text).expect("base64 is text")
}

/// Turns the answer to an upgrade into a stream's.
pub fn accept(fields: &mut Fields) {
    for name in OF_AN_UPGRADE {
        fields.remove(name.as_str());
    }
}

/// A stream, as bytes both ways. If it is dropped before both have ended, the peer is told.
#[derive(Debug)]
pub struct StreamIo {
    receive: RecvStream,
    send: SendStream<Bytes>,
    read: Bytes,
}

impl StreamIo {
    /// The two halves of a stream.
    pub fn new(receive: RecvStream, send: SendStream<Bytes>) -> Self {
        Self {
            receive,
            send,
            read: Bytes::new(),
        }
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.read.is_empty() {
            match ready!(self.receive.poll_data(cx)) {
                Some(data) => self.read = data.map_err(io::Error::other)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.read.len().min(buf.remaining());
        buf.put_slice(&self.read[..length]);
        self.read.advance(length);
        let flow = self.receive.flow_control();
        Poll::Ready(flow.release_capacity(length).map_err(io::Error::other))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let send = &mut self.send;
        if send.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        send.reserve_capacity(buf.len());
        while send.capacity() == 0 {
            match ready!(send.poll_capacity(cx)) {
                Some(room) => _ = room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let length = buf.len().min(send.capacity());
        let data = Bytes::copy_from_slice(&buf[..length]);
        let sent = send.send_data(data, false);
        Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the connection's task writes
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.send.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixteen_bytes_in_base64() {
        let mut rng = fastrand::Rng::with_seed(1);
        let keys = [key(&mut rng), key(&mut rng)];
        for key in &keys {
            let key = key.to_str().unwrap();
            assert!(key.len() == 24 && key.ends_with("=="), "{key}");
            assert!(
                ["A", "Q", "g", "w"].contains(&&key[21..22]),
                "{key}: the last four bits are zero"
            );
        }
        assert_ne!(keys[0], keys[1]);
    }
}
