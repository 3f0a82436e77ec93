//! Datagrams of the fleet: junk is refused, and what is sealed as it should be is either refused or survives being written.
#![no_main]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use loadbalancer::gossip::{
    Envelope, FleetKey, MAX_DATAGRAM, Message, Node, Refusal, Session, Settings,
};

const SECRET: &[u8] = b"a secret of a node and who it hears";

fuzz_target!(|input: &[u8]| {
    let message = Message::read(input);
    if let Some(message) = &message {
        assert_eq!(Message::read(&message.write()).as_ref(), Some(message));
    }

    let start = Instant::now();
    let settings = Settings {
        name: "a".to_owned(),
        advertise: None,
        version: "0.1.0".to_owned(),
        interval: Duration::from_millis(500),
        dead_after: Duration::from_secs(4),
    };
    let random = fastrand::Rng::with_seed(1);
    let unix = 1_763_000_000_000;
    let mut node = Node::new(settings, FleetKey::new(SECRET), unix, start, random);
    let peer = SocketAddr::from(([192, 0, 2, 2], 7946));
    node.set_seeds(vec![peer]);
    node.round(&[], start);
    let (_, call) = node.take_outgoing().remove(0);
    let called = Envelope::read(&call).expect("it is what nodes send");
    assert!(node.receive(input, peer, start).is_err());

    let envelope = Envelope {
        from: Session::random(),
        to: called.from,
        counter: 1,
    };
    let sealed = FleetKey::new(SECRET)
        .of(envelope.from)
        .seal(envelope, input.to_vec());
    match (node.receive(&sealed, peer, start), message) {
        (Ok(told), Some(message)) => {
            let told: Vec<_> = told.into_iter().map(|(_, part)| part).collect();
            assert_eq!(told, message.parts);
            assert_eq!(node.members().iter().count(), 1);
        }
        (Err(Refusal::Oversized), _) => assert!(sealed.len() > MAX_DATAGRAM),
        (Err(Refusal::SameName), Some(message)) => assert_eq!(message.about.name, "a"),
        (Err(Refusal::Invalid), None) => {}
        (taken, message) => panic!("{taken:?} for {message:?}"),
    }
    assert!(
        node.receive(&sealed, peer, start).is_err(),
        "it came before"
    );
    node.round(&[], start);
    for (_, datagram) in node.take_outgoing() {
        assert!(datagram.len() <= MAX_DATAGRAM);
    }
});
