//! `quic = true`: a client whose address changes stays with its server.

use crate::support::udp::{UdpClient, UdpServer};
use crate::support::wait_until;
use crate::udp::relaying_with;

/// A server of something like QUIC: the id that it chooses for a connection is its name and what it was called first, and
/// it says in the clear who it is.
fn server(name: &'static str) -> UdpServer {
    UdpServer::start(move |packet| {
        if packet[0] & 0x80 == 0 {
            return vec![[b"\x40client", name.as_bytes()].concat()];
        }
        let called = &packet[6..][..usize::from(packet[5])];
        let id = [name.as_bytes(), b"-", called].concat();
        vec![[&long(b"client", &id)[..], name.as_bytes()].concat()]
    })
}

/// A packet that sets a connection up.
fn long(destination: &[u8], source: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xc0, 0, 0, 0, 1];
    for id in [destination, source] {
        packet.push(u8::try_from(id.len()).expect("short"));
        packet.extend(id);
    }
    packet
}

fn short(id: &[u8]) -> Vec<u8> {
    [b"\x40", id, b"encrypted"].concat()
}

/// The name of the server that a packet's answer is from.
fn server_of(client: &UdpClient, packet: &[u8]) -> String {
    client.send(packet);
    let answer = client.receive();
    String::from_utf8_lossy(&answer[answer.len() - 1..]).into_owned()
}

#[test]
fn a_client_that_has_moved_is_known_by_its_connection() {
    let servers = [server("a"), server("b")];
    let [a, b] = &servers;
    let proxy = relaying_with(&[a, b], "quic = true", "strategy = \"round_robin\"").start();
    // All are kept: a port that is somebody else's next is the session of whoever had it.
    let mut clients = Vec::new();
    for number in 0..20 {
        let client = UdpClient::of(proxy.addr());
        let made_up = format!("made up {number:02}");
        let name = server_of(&client, &long(made_up.as_bytes(), b"client"));
        let id = format!("{name}-{made_up}");
        assert_eq!(server_of(&client, &short(id.as_bytes())), name);
        // From another port each time, so that the other worker gets some of them too; and one that is lost in between.
        for _ in 0..3 {
            let moved = UdpClient::of(proxy.addr());
            assert_eq!(server_of(&moved, &short(id.as_bytes())), name, "{id}");
            clients.push(moved);
        }
        // While it sets its connection up, too.
        let moved = UdpClient::of(proxy.addr());
        let again = server_of(&moved, &long(made_up.as_bytes(), b"client"));
        assert_eq!(again, name);
        clients.extend([client, moved]);
    }
    assert_eq!(proxy.metric("lb_udp_quic_ids"), 40);
}

#[test]
fn ids_are_forgotten_with_the_last_session_that_had_them() {
    let server = server("a");
    let keys = "quic = true\ntimeouts = { idle = \"300ms\" }";
    let proxy = relaying_with(&[&server], keys, "").start();
    let client = UdpClient::of(proxy.addr());
    server_of(&client, &long(b"made up", b"client"));
    assert_eq!(proxy.metric("lb_udp_quic_ids"), 2);
    wait_until("all are forgotten", || proxy.metric("lb_udp_quic_ids") == 0);
}

#[test]
fn what_is_not_quic_is_passed_on_all_the_same() {
    let echo = UdpServer::echo();
    let proxy = relaying_with(&[&echo], "quic = true", "").start();
    let client = UdpClient::of(proxy.addr());
    for datagram in [
        &b""[..],
        b"\xff",
        b"\xc0\0\0\0\x01\xff",
        b"hello",
        &[0xc0; 64],
    ] {
        client.send(datagram);
        assert_eq!(client.receive(), datagram);
    }
}
