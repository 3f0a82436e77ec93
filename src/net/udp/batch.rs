//! Space of a thread for datagrams, and the calls that fill it and send what is in it: recvmmsg(2), sendmmsg(2).
#![expect(
    unsafe_code,
    reason = "there is no safe way to receive several datagrams with the addresses that they were sent to"
)]

use std::cell::Cell;
use std::io;
use std::iter::zip;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use rustix::net::{SendFlags, send};

use super::address::{Control, Name, Path};

/// Datagrams in a batch.
pub const BATCH: usize = 32;

/// Room for one: the largest that there can be (RFC 768: the length is 16 bits), so that none is ever cut off.
const SLOT: usize = 1 << 16;

/// What a call is told of one datagram, before it is told anything.
const NO_HEADER: libc::mmsghdr = libc::mmsghdr {
    msg_hdr: libc::msghdr {
        msg_name: ptr::null_mut(),
        msg_namelen: 0,
        msg_iov: ptr::null_mut(),
        msg_iovlen: 0,
        msg_control: ptr::null_mut(),
        msg_controllen: 0,
        msg_flags: 0,
    },
    msg_len: 0,
};

const NO_PIECE: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// Space for datagrams. It is 2 MiB, of which the system gives what has been used at least once.
#[derive(Debug)]
pub struct Batch {
    space: Box<[u8]>,
    lengths: [usize; BATCH],
    names: [Name; BATCH],
    controls: [Control; BATCH],
}

thread_local! {
    static SPACE: Cell<Option<Box<Batch>>> = const { Cell::new(None) };
}

/// Does something with the thread's space. What is in it is anybody's afterwards.
pub fn with_batch<R>(work: impl FnOnce(&mut Batch) -> R) -> R {
    let mut batch = SPACE.take().unwrap_or_default();
    let result = work(&mut batch);
    SPACE.set(Some(batch));
    result
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            space: vec![0; BATCH * SLOT].into_boxed_slice(),
            lengths: [0; BATCH],
            names: [Name::ROOM; BATCH],
            controls: [Control::ROOM; BATCH],
        }
    }
}

impl Batch {
    /// Receives datagrams of any peer into these slots, as many as there are, with where they came from. How many; fewer
    /// than there are slots when there are no more.
    ///
    /// # Errors
    /// The kernel's; `WouldBlock` when there is none.
    pub fn receive_from(&mut self, socket: impl AsFd, slots: Range<usize>) -> io::Result<usize> {
        self.fill(socket.as_fd(), slots, true)
    }

    /// The same of a socket that is connected to its peer.
    ///
    /// # Errors
    /// The kernel's; `ConnectionRefused` when the peer's machine said that nobody listens (ICMP).
    pub fn receive(&mut self, socket: impl AsFd, slots: Range<usize>) -> io::Result<usize> {
        self.fill(socket.as_fd(), slots, false)
    }

    /// Has a slot hold these bytes; no more than a datagram can have.
    pub fn put(&mut self, slot: usize, datagram: &[u8]) {
        let length = datagram.len().min(SLOT);
        self.space[slot * SLOT..][..length].copy_from_slice(&datagram[..length]);
        self.lengths[slot] = length;
    }

    /// What was received into a slot.
    pub fn datagram(&self, slot: usize) -> &[u8] {
        &self.space[slot * SLOT..][..self.lengths[slot]]
    }

    /// Who sent it, by [`receive_from`](Self::receive_from), and to where.
    pub fn path(&self, slot: usize) -> Option<Path> {
        Some(Path {
            peer: self.names[slot].get()?,
            local: self.controls[slot].local(),
        })
    }

    /// How many bytes were received into these slots.
    pub fn bytes(&self, slots: Range<usize>) -> u64 {
        self.lengths[slots].iter().map(|it| *it as u64).sum()
    }

    /// Sends what is in these slots, as it is, to the peer of a connected socket. How many were sent; at least one.
    ///
    /// # Errors
    /// The first could not be sent.
    pub fn send(&self, socket: impl AsFd, slots: Range<usize>) -> io::Result<usize> {
        if slots.len() == 1 {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            send(socket, self.datagram(slots.start), flags)?;
            return Ok(1);
        }
        let mut headers = [NO_HEADER; BATCH];
        let mut pieces = self.pieces(slots.clone());
        for (header, piece) in zip(&mut headers, &mut pieces).take(slots.len()) {
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
        }
        send_all(socket.as_fd(), &mut headers[..slots.len()])
    }

    /// Sends what is in slots, up to [`BATCH`] of them, each to where is said beside it. How many were sent; at least one.
    ///
    /// # Errors
    /// The first could not be sent.
    pub fn send_to(&self, socket: impl AsFd, letters: &[(usize, Path)]) -> io::Result<usize> {
        let letters = &letters[..letters.len().min(BATCH)];
        let mut headers = [NO_HEADER; BATCH];
        let mut pieces = self.pieces(letters.iter().map(|(slot, _)| *slot));
        let mut names = [Name::ROOM; BATCH];
        let mut controls = [Control::ROOM; BATCH];
        let addresses = zip(&mut names, &mut controls);
        let all = zip(zip(&mut headers, &mut pieces), addresses);
        for ((_, path), ((header, piece), (name, control))) in zip(letters, all) {
            *name = path.peer.into();
            let header = &mut header.msg_hdr;
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = name.length;
            if let Some(local) = path.local {
                *control = local.into();
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = control.length;
            }
        }
        send_all(socket.as_fd(), &mut headers[..letters.len()])
    }

    fn fill(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: Range<usize>,
        addressed: bool,
    ) -> io::Result<usize> {
        let mut headers = [NO_HEADER; BATCH];
        let mut pieces = [NO_PIECE; BATCH];
        let spaces = self.space.chunks_exact_mut(SLOT).skip(slots.start);
        let names = self.names[slots.clone()].iter_mut();
        let addresses = zip(names, &mut self.controls[slots.clone()]);
        let all = zip(zip(&mut headers, &mut pieces), zip(spaces, addresses));
        for ((header, piece), (space, (name, control))) in all {
            piece.iov_base = space.as_mut_ptr().cast();
            piece.iov_len = SLOT;
            let header = &mut header.msg_hdr;
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            if addressed {
                (*name, *control) = (Name::ROOM, Control::ROOM);
                header.msg_name = name.as_mut_ptr().cast();
                header.msg_namelen = name.length;
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = control.length;
            }
        }
        // SAFETY: as many headers are set as are passed, each with a piece and, if any, a name and a control buffer that
        // are as long as it says, live until the call returns and belong to `self`, which nobody else borrows.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                slots.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in zip(slots, &headers).take(received) {
            self.lengths[slot] = header.msg_len as usize;
            if addressed {
                self.names[slot].length = header.msg_hdr.msg_namelen;
                self.controls[slot].length = header.msg_hdr.msg_controllen;
            }
        }
        Ok(received)
    }

    /// What is in slots, for the kernel to read.
    fn pieces(&self, slots: impl Iterator<Item = usize>) -> [libc::iovec; BATCH] {
        let mut pieces = [NO_PIECE; BATCH];
        for (piece, slot) in zip(&mut pieces, slots) {
            let datagram = self.datagram(slot);
            // The kernel's interface has one type for what it reads and what it writes.
            piece.iov_base = datagram.as_ptr().cast_mut().cast();
            piece.iov_len = datagram.len();
        }
        pieces
    }
}

/// Sends what the headers say; each has its pieces, and lives as long as they do.
fn send_all(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let count = headers.len() as libc::c_uint;
    // SAFETY: the callers have set each header to a piece and, if any, a name and a control message, which are as long as
    // it says and live on their stacks and in their batch until this returns; the kernel only reads them.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers.as_mut_ptr(), count, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use super::*;
    use crate::net::udp::socket;

    fn peer() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    fn texts(batch: &Batch, count: usize) -> Vec<&[u8]> {
        (0..count).map(|slot| batch.datagram(slot)).collect()
    }

    #[test]
    fn datagrams_come_in_order_with_their_senders_and_go_back_to_them() {
        let front = socket::listen("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let at = front[0].local_addr().unwrap();
        let clients = [peer(), peer()];
        for (number, text) in ["a", "", "ccc"].iter().enumerate() {
            let (client, _) = &clients[number % 2];
            client.send_to(text.as_bytes(), at).unwrap();
        }
        with_batch(|batch| {
            assert_eq!(batch.receive_from(&front[0], 0..BATCH).unwrap(), 3);
            assert_eq!(texts(batch, 3), [&b"a"[..], b"", b"ccc"]);
            assert_eq!((batch.bytes(0..3), batch.bytes(1..2)), (4, 0));
            for slot in 0..3 {
                let path = batch.path(slot).unwrap();
                assert_eq!(path.peer, clients[slot % 2].1);
                assert_eq!(path.local, None);
            }
            let letters = [1, 2].map(|slot| (slot, batch.path(slot).unwrap()));
            let sent = batch.send_to(&front[0], &letters);
            assert_eq!(sent.unwrap(), 2);
            let nothing = batch.receive_from(&front[0], 0..BATCH).unwrap_err();
            assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
        });
        let mut buffer = [0; 8];
        assert_eq!(clients[1].0.recv(&mut buffer).unwrap(), 0);
        assert_eq!(clients[0].0.recv(&mut buffer).unwrap(), 3);
    }

    #[test]
    fn a_connected_socket_sends_batches_and_receives_the_largest_datagram_whole() {
        let (server, at) = peer();
        let socket = socket::connect(at).unwrap();
        let largest = vec![7; 65_507];
        let mut batch = Batch::default();
        server
            .send_to(&largest, socket.local_addr().unwrap())
            .unwrap();
        assert_eq!(batch.receive(&socket, 5..6).unwrap(), 1);
        assert_eq!(batch.datagram(5), largest);
        batch.lengths = [3; BATCH];
        assert_eq!(batch.send(&socket, 0..BATCH).unwrap(), BATCH);
        assert_eq!(batch.send(&socket, 5..6).unwrap(), 1);
        let mut buffer = [0; 8];
        for _ in 0..=BATCH {
            assert_eq!(server.recv(&mut buffer).unwrap(), 3);
        }
        drop(server);
        batch.send(&socket, 0..1).unwrap();
        let refused = batch.receive(&socket, 0..BATCH).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn answers_come_from_the_address_that_was_asked() {
        let front = socket::listen("0.0.0.0:0".parse().unwrap(), 1).unwrap();
        let port = front[0].local_addr().unwrap().port();
        let (client, _) = peer();
        for asked in ["127.0.0.1", "127.0.0.2"] {
            let asked = SocketAddr::new(asked.parse().unwrap(), port);
            client.send_to(b"?", asked).unwrap();
            with_batch(|batch| {
                assert_eq!(batch.receive_from(&front[0], 0..BATCH).unwrap(), 1);
                let path = batch.path(0).unwrap();
                assert_eq!(path.local, Some(asked.ip()));
                batch.send_to(&front[0], &[(0, path)]).unwrap();
            });
            let (_, from) = client.recv_from(&mut [0; 8]).unwrap();
            assert_eq!(from, asked);
        }
    }
}
