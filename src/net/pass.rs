//! Open file descriptors on their way from one process to another, over a Unix socket (unix(7), SCM_RIGHTS).

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Descriptors in one message; the kernel takes 253.
const BATCH: usize = 64;

/// What each message carries besides, since a message without a byte carries nothing.
const MARK: u8 = b'F';

/// Sends descriptors. They stay open here too.
///
/// # Errors
/// The peer has gone, or took none in the stream's time.
pub fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in descriptors.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(
            control.push(SendAncillaryMessage::ScmRights(batch)),
            "there is space for a batch"
        );
        let mark = [IoSlice::new(&[MARK])];
        sendmsg(stream, &mark, &mut control, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives as many descriptors as [`send`] was given.
///
/// # Errors
/// Something else came, or nothing in the stream's time.
pub fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut mark = [0];
        let mut bytes = [IoSliceMut::new(&mut mark)];
        let message = recvmsg(stream, &mut bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let before = received.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                received.extend(descriptors);
            }
        }
        if message.bytes == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if mark != [MARK] || received.len() == before {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "expected descriptors; the limit of open files may be too low for them",
            ));
        }
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_in_order_and_lead_to_the_same_files() {
        let (here, there) = UnixStream::pair().unwrap();
        let pipes: Vec<_> = (0..150).map(|_| UnixStream::pair().unwrap()).collect();
        let ends: Vec<_> = pipes.iter().map(|(_, end)| end.as_fd()).collect();
        send(&here, &ends).unwrap();
        let received = receive(&there, 150).unwrap();
        assert_eq!(received.len(), 150);
        for (number, (received, (start, _))) in received.into_iter().zip(&pipes).enumerate() {
            let number = u8::try_from(number).unwrap();
            let mut start = start;
            start.write_all(&[number]).unwrap();
            let mut byte = [0];
            UnixStream::from(received).read_exact(&mut byte).unwrap();
            assert_eq!(byte, [number]);
        }
    }

    #[test]
    fn what_else_comes_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(b"x").unwrap();
        let error = receive(&there, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        drop(here);
        let error = receive(&there, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
