//! Answers that come before the answer: what a server has to say while it works (RFC 9110, section 15.2), such as
//! 103 Early Hints (RFC 8297).

use std::cell::{Cell, RefCell};
use std::task::Context;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Response, StatusCode};

use super::client::Client;
use crate::message::h1::{Answer, Wire, write_answer};

/// So many bytes of them are passed on for one request, and each counts for some: what a client does not read must not
/// pile up here.
const MAX_BYTES: usize = 64 * 1024;
const MIN_COST: usize = 1024;

/// The way to a client that waits for its answer.
#[derive(Debug)]
pub struct Interim<'a> {
    way: Way<'a>,
    /// How many more bytes of fields may pass.
    room: Cell<usize>,
    /// Whether the client's socket has not taken all of them yet.
    is_stuck: Cell<bool>,
}

#[derive(Debug, Clone, Copy)]
enum Way<'a> {
    Http1(&'a RefCell<Wire>),
    Http2(&'a RefCell<SendResponse<Bytes>>),
}

impl<'a> Interim<'a> {
    /// To a client of HTTP/1.1. One of HTTP/1.0 knows no such answers.
    pub fn http1(wire: &'a RefCell<Wire>) -> Self {
        Self::new(Way::Http1(wire))
    }

    /// To a client of HTTP/2.
    pub fn http2(respond: &'a RefCell<SendResponse<Bytes>>) -> Self {
        Self::new(Way::Http2(respond))
    }

    fn new(way: Way<'a>) -> Self {
        Self {
            way,
            room: Cell::new(MAX_BYTES),
            is_stuck: Cell::new(false),
        }
    }

    /// Passes an interim answer on, if there is room. That the client is gone shows when it gets its answer.
    pub fn pass(&self, client: &Client, answer: &Answer, cx: &mut Context<'_>) {
        // Servers are not told that a client expects it: it is this proxy that tells the client to go on.
        if answer.status == StatusCode::CONTINUE {
            return;
        }
        let lines = &answer.fields.lines;
        let cost = lines.len().max(MIN_COST);
        let Some(room) = self.room.get().checked_sub(cost) else {
            return;
        };
        self.room.set(room);
        match self.way {
            Way::Http1(wire) => {
                write_answer::write_interim(
                    &mut wire.borrow_mut().output.head,
                    answer.status,
                    &answer.fields,
                );
                self.is_stuck.set(true);
                self.flush(cx);
            }
            Way::Http2(respond) => {
                let mut interim = Response::new(());
                *interim.status_mut() = answer.status;
                *interim.headers_mut() = client.local.recent.borrow_mut().map(lines, 0);
                _ = respond.borrow_mut().send_informational(interim);
            }
        }
    }

    /// Has the client's socket take what it had no room for. To be called while the answer is waited for.
    pub fn flush(&self, cx: &mut Context<'_>) {
        if let (Way::Http1(wire), true) = (self.way, self.is_stuck.get()) {
            self.is_stuck
                .set(wire.borrow_mut().poll_flush(cx).is_pending());
        }
    }
}
