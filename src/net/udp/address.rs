//! Addresses as the kernel writes them: those of peers (ip(7), ipv6(7)), and the own one that a datagram was sent to, which
//! comes and goes beside it as a control message (IP_PKTINFO, IPV6_PKTINFO).

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Between whom a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The other side.
    pub peer: SocketAddr,
    /// The address of this machine; `None` where the socket is bound to one, so that there is no other.
    pub local: Option<IpAddr>,
}

/// Bytes of the longer form of an address.
const NAME: usize = size_of::<libc::sockaddr_in6>();

/// A peer's address as the kernel writes it.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(8))]
pub(super) struct Name {
    bytes: [u8; NAME],
    /// How much of it there is.
    pub(super) length: u32,
}

impl Name {
    /// Room for any.
    pub(super) const ROOM: Self = Self {
        bytes: [0; NAME],
        length: NAME as u32,
    };

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// What it says; `None` if it is no IP address.
    pub(super) fn get(&self) -> Option<SocketAddr> {
        let bytes = &self.bytes[..(self.length as usize).min(NAME)];
        let family = u16::from_ne_bytes(field(bytes, 0)?);
        let port = u16::from_be_bytes(field(bytes, 2)?);
        match i32::from(family) {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(field::<4>(bytes, 4)?);
                Some(SocketAddr::from((ip, port)))
            }
            libc::AF_INET6 => {
                let ip = Ipv6Addr::from(field::<16>(bytes, 8)?);
                let scope = u32::from_ne_bytes(field(bytes, 24)?);
                // Without the flow label: it does not tell who somebody is.
                Some(SocketAddrV6::new(ip, port, 0, scope).into())
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for Name {
    fn from(address: SocketAddr) -> Self {
        let mut name = Self::default();
        let family = match address {
            SocketAddr::V4(_) => libc::AF_INET,
            SocketAddr::V6(_) => libc::AF_INET6,
        };
        let bytes = &mut name.bytes;
        bytes[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        name.length = match address {
            SocketAddr::V4(v4) => {
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                size_of::<libc::sockaddr_in>() as u32
            }
            SocketAddr::V6(v6) => {
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                NAME as u32
            }
        };
        name
    }
}

/// The head of a control message: its length, the head included, its level and its type (cmsg(3)).
const HEAD: usize = size_of::<libc::cmsghdr>();

/// Control messages are aligned to this.
const ALIGNMENT: usize = size_of::<usize>();

/// Room for a few control messages.
const ROOM: usize = 64;

/// What comes beside a datagram.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    bytes: [u8; ROOM],
    /// How much of it there is.
    pub(super) length: usize,
}

impl Control {
    /// Room for what the kernel says.
    pub(super) const ROOM: Self = Self {
        bytes: [0; ROOM],
        length: ROOM,
    };

    pub(super) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.bytes.as_mut_ptr()
    }

    /// The own address, if it is said.
    pub(super) fn local(&self) -> Option<IpAddr> {
        let mut bytes = &self.bytes[..self.length.min(ROOM)];
        loop {
            let length = usize::from_ne_bytes(field(bytes, 0)?);
            let level = i32::from_ne_bytes(field(bytes, HEAD - 8)?);
            let kind = i32::from_ne_bytes(field(bytes, HEAD - 4)?);
            let content = bytes.get(HEAD..length)?;
            match (level, kind) {
                // What it was sent to may be a broadcast: the second field is the own address in any case.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    return Some(Ipv4Addr::from(field::<4>(content, 4)?).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    return Some(Ipv6Addr::from(field::<16>(content, 0)?).into());
                }
                _ => bytes = bytes.get(length.next_multiple_of(ALIGNMENT)..)?,
            }
        }
    }
}

impl From<IpAddr> for Control {
    /// Has a datagram sent from this address.
    fn from(local: IpAddr) -> Self {
        let mut control = Self::ROOM;
        let (level, kind, content) = match local {
            IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, 12),
            IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20),
        };
        let length = HEAD + content;
        let bytes = &mut control.bytes;
        bytes[..ALIGNMENT].copy_from_slice(&length.to_ne_bytes());
        bytes[HEAD - 8..HEAD - 4].copy_from_slice(&level.to_ne_bytes());
        bytes[HEAD - 4..HEAD].copy_from_slice(&kind.to_ne_bytes());
        // No interface is named: the route decides.
        match local {
            IpAddr::V4(v4) => bytes[HEAD + 4..HEAD + 8].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes[HEAD..HEAD + 16].copy_from_slice(&v6.octets()),
        }
        control.length = length.next_multiple_of(ALIGNMENT);
        control
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        for text in ["192.0.2.1:53", "[2001:db8::1]:443", "[fe80::1%7]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::from(address).get(), Some(address));
        }
        assert_eq!(Name::ROOM.get(), None);
        let mut cut = Name::from(SocketAddr::from(([192, 0, 2, 1], 53)));
        cut.length = 6;
        assert_eq!(cut.get(), None);
    }

    #[test]
    fn own_addresses_are_found_among_what_comes_beside_a_datagram() {
        for text in ["2001:db8::1", "::1"] {
            let local: IpAddr = text.parse().unwrap();
            assert_eq!(Control::from(local).local(), Some(local));
        }
        let local = IpAddr::from([192, 0, 2, 1]);
        let own = Control::from(local);
        assert_eq!(own.local(), Some(local));
        // Behind a message of another type, such as a mark of the kernel's.
        let mut two = Control::ROOM;
        two.length = own.length;
        two.bytes[..own.length].copy_from_slice(&own.bytes[..own.length]);
        two.bytes[HEAD - 4..HEAD].copy_from_slice(&99_i32.to_ne_bytes());
        assert_eq!(two.local(), None);
        two.bytes[own.length..2 * own.length].copy_from_slice(&own.bytes[..own.length]);
        two.length = 2 * own.length;
        assert_eq!(two.local(), Some(local));
        two.length = own.length + HEAD;
        assert_eq!(two.local(), None, "cut off");
        two.length = 0;
        assert_eq!(two.local(), None);
    }

    #[test]
    fn lengths_that_are_none_end_the_search() {
        let mut control = Control::ROOM;
        assert_eq!(control.local(), None);
        control.bytes[..ALIGNMENT].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(control.local(), None);
    }
}
