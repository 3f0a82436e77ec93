//! Two nodes and what passes between them.

use super::*;
use crate::gossip::message::MAX_PART;
use crate::gossip::seal::MAX_DATAGRAM;

const SECRET: &[u8] = b"a secret of two nodes and no more";

fn node(name: &str, start: Instant) -> Node {
    let settings = Settings {
        name: name.to_owned(),
        advertise: None,
        version: "0.1.0".to_owned(),
        interval: Duration::from_millis(500),
        dead_after: Duration::from_secs(4),
    };
    Node::new(
        settings,
        FleetKey::new(SECRET),
        1_763_000_000_000,
        start,
        fastrand::Rng::with_seed(1),
    )
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 7946))
}

/// Two nodes that know each other.
fn pair(start: Instant) -> (Node, Node) {
    let (mut a, mut b) = (node("a", start), node("b", start));
    a.set_seeds(vec![address(2)]);
    a.round(&[], start);
    for _ in 0..3 {
        pass(&mut a, &mut b, 1, start);
        pass(&mut b, &mut a, 2, start);
    }
    assert_eq!(
        (a.members().live().count(), b.members().live().count()),
        (1, 1)
    );
    (a, b)
}

/// Hands on what `from` has to send, and gives what `to` was told.
fn pass(from: &mut Node, to: &mut Node, place: u8, now: Instant) -> Vec<Told> {
    let outgoing = from.take_outgoing();
    let told = outgoing
        .iter()
        .map(|(_, datagram)| to.receive(datagram, address(place), now));
    told.flat_map(Result::unwrap).collect()
}

fn part(bytes: usize) -> Telling {
    Telling {
        to: None,
        part: Part {
            kind: 1,
            bytes: vec![7; bytes],
        },
    }
}

#[test]
fn parts_arrive_in_datagrams_that_fit() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    let parts: Vec<_> = [MAX_PART, 1, 300, 300, 300, MAX_PART, 0].map(part).into();
    a.tell(&parts, start);
    let sent = a.outgoing.iter().map(|(_, datagram)| datagram.len());
    assert!(
        sent.clone().all(|length| length <= MAX_DATAGRAM),
        "{sent:?}"
    );
    let told = pass(&mut a, &mut b, 1, start);
    assert!(told.iter().all(|(peer, _)| *peer == a.session.short()));
    let parts: Vec<_> = parts.into_iter().map(|it| it.part).collect();
    assert_eq!(
        told.into_iter().map(|(_, part)| part).collect::<Vec<_>>(),
        parts
    );
}

#[test]
fn a_node_that_has_just_started_counts_its_seeds() {
    let start = Instant::now();
    let mut a = node("a", start);
    a.set_seeds(vec![address(2), address(3)]);
    assert_eq!(a.expected(start), 2);
    assert_eq!(
        a.expected(start + Duration::from_secs(5)),
        0,
        "nobody is there"
    );
}

#[test]
fn a_seed_that_is_the_node_itself_is_found_out() {
    let start = Instant::now();
    let mut a = node("a", start);
    a.set_seeds(vec![address(1)]);
    a.round(&[], start);
    let (to, call) = a.take_outgoing().remove(0);
    assert_eq!(to, address(1));
    assert_eq!(a.receive(&call, address(1), start), Ok(Vec::new()));
    assert_eq!(a.missing_seeds().count(), 0);
    a.round(&[], start);
    assert!(a.take_outgoing().is_empty(), "it calls itself no more");
}

#[test]
fn round_trips_are_measured() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    let at = |millis| start + Duration::from_millis(millis);
    a.round(&[], at(1000));
    pass(&mut a, &mut b, 1, at(1010));
    b.round(&[], at(1200));
    pass(&mut b, &mut a, 2, at(1230));
    let round_trip = a.members().named("b").unwrap().round_trip.unwrap();
    // Smoothed over one before, of no time at all.
    assert_eq!(round_trip, Duration::from_millis(40) / 8);
}

#[test]
fn a_node_is_where_it_says() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    assert_eq!(b.members().named("a").unwrap().address, address(1));
    a.settings.advertise = Some(address(9));
    a.round(&[], start);
    pass(&mut a, &mut b, 1, start);
    assert_eq!(b.members().named("a").unwrap().address, address(9));
}

#[test]
fn each_refusal_is_counted() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    a.round(&[], start);
    let datagram = a.take_outgoing().remove(0).1;
    let mut changed = datagram.clone();
    *changed.last_mut().unwrap() ^= 1;
    let mut of_stranger = node("c", start);
    of_stranger.fleet = FleetKey::new(b"another secret");
    of_stranger.key = of_stranger.fleet.of(of_stranger.session);
    of_stranger.set_seeds(vec![address(2)]);
    of_stranger.round(&[], start);
    let foreign = of_stranger.take_outgoing().remove(0).1;
    assert!(b.receive(&datagram, address(1), start).is_ok());
    let for_others = {
        a.send(Session::random(), address(2), Vec::new());
        a.take_outgoing().remove(0).1
    };
    let senseless = {
        a.send(b.session, address(2), vec![9, 9, 9]);
        a.take_outgoing().remove(0).1
    };
    for (bytes, refusal) in [
        (changed, Refusal::Forged),
        (foreign, Refusal::Forged),
        (datagram, Refusal::Replayed),
        (for_others, Refusal::Stale),
        (senseless, Refusal::Invalid),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Refusal::Malformed),
        (vec![b'L'; 1500], Refusal::Oversized),
    ] {
        assert_eq!(b.receive(&bytes, address(1), start), Err(refusal));
    }
    assert_eq!(b.refused(), [1, 1, 0, 2, 1, 1, 1, 0, 0]);
    assert_eq!(b.members().live().count(), 1);
}

/// A datagram of a session that nobody has, and a number for it.
fn junk(number: u32) -> Vec<u8> {
    let mut junk = vec![0; 100];
    junk[..4].copy_from_slice(b"LBC\x01");
    junk[4..8].copy_from_slice(&number.to_be_bytes());
    junk
}

#[test]
fn strangers_are_looked_at_so_many_a_second() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    let mut refusals = (0..STRANGERS).map(|it| b.receive(&junk(it), address(66), start));
    assert!(refusals.any(|it| it == Err(Refusal::Full)));
    assert_eq!(refusals.next_back(), Some(Err(Refusal::Full)));
    assert!(b.take_outgoing().is_empty(), "nobody is answered for that");
    a.round(&[], start);
    pass(&mut a, &mut b, 1, start); // who is known is heard all the same
    let later = start + Duration::from_millis(1);
    let refused = b.receive(&junk(0), address(66), later);
    assert_eq!(
        refused,
        Err(Refusal::Forged),
        "it need not wait for a round"
    );
}

#[test]
fn strangers_do_not_keep_out_who_starts_anew() {
    let start = Instant::now();
    let (_, mut b) = pair(start);
    for number in 0..STRANGERS {
        _ = b.receive(&junk(number), address(66), start);
    }
    let mut a = node("a", start);
    a.generation += 1;
    a.set_seeds(vec![address(2)]);
    a.round(&[], start);
    for _ in 0..3 {
        pass(&mut a, &mut b, 1, start);
        pass(&mut b, &mut a, 2, start);
    }
    let known = b.members().named("a").unwrap();
    assert_eq!(known.session, a.session);
    assert_eq!(a.members().live().count(), 1);
}

#[test]
fn some_junk_keeps_nobody_out_wherever_it_is() {
    let start = Instant::now();
    let (_, mut b) = pair(start);
    for number in 0..STRANGERS / 10 {
        _ = b.receive(&junk(number), address(66), start);
    }
    let mut c = node("c", start);
    c.set_seeds(vec![address(2)]);
    c.round(&[], start);
    for _ in 0..3 {
        pass(&mut c, &mut b, 3, start);
        pass(&mut b, &mut c, 2, start);
    }
    assert_eq!(b.members().live().count(), 2);
}

#[test]
fn answers_are_so_many_a_second() {
    let start = Instant::now();
    let (mut a, mut b) = (node("a", start), node("b", start));
    b.set_seeds(vec![address(1)]);
    b.round(&[], start);
    let call = b.take_outgoing().remove(0).1;
    for _ in 0..ANSWERS {
        _ = a.receive(&call, address(66), start);
    }
    let answers = a.take_outgoing().len();
    assert!(answers < ANSWERS as usize / 2, "{answers}");
}

#[test]
fn what_somebody_sends_back_hides_no_seed() {
    let start = Instant::now();
    let (mut a, mut b) = (node("a", start), node("b", start));
    a.set_seeds(vec![address(2)]);
    a.round(&[], start);
    let call = a.take_outgoing().remove(0).1;
    a.round(&[], start);
    a.round(&[], start);
    let refused = a.receive(&call, address(2), start);
    assert_eq!(refused, Err(Refusal::Replayed), "it is old");
    a.take_outgoing();
    // Even one that is new does so for a while only.
    a.round(&[], start);
    let call = a.take_outgoing().remove(0).1;
    assert_eq!(a.receive(&call, address(2), start), Ok(Vec::new()));
    assert_eq!(a.missing_seeds().count(), 0);
    let found = (0..30).position(|_| {
        a.round(&[], start);
        pass(&mut a, &mut b, 1, start);
        pass(&mut b, &mut a, 2, start);
        a.members().live().count() == 1
    });
    assert!(found.is_some(), "it is called again");
}

#[test]
fn a_seed_that_is_the_node_itself_stays_so() {
    let start = Instant::now();
    let mut a = node("a", start);
    a.set_seeds(vec![address(1)]);
    let mut calls = 0;
    for round in 0..100 {
        a.round(&[], start);
        for (_, call) in a.take_outgoing() {
            calls += 1;
            a.receive(&call, address(1), start).unwrap();
        }
        assert_eq!(a.missing_seeds().count(), 0, "round {round}");
    }
    assert!((2..10).contains(&calls), "{calls}");
}

#[test]
fn the_least_that_is_asked_gets_no_more_than_it_brought() {
    let start = Instant::now();
    let (mut a, mut b) = (node("a", start), node("b", start));
    b.set_seeds(vec![address(1)]);
    b.round(&[], start);
    let call = b.take_outgoing().remove(0).1;
    assert!(a.receive(&call, address(2), start).unwrap().is_empty());
    assert_eq!(a.members().iter().count(), 0, "it may have been recorded");
    let answer = a.take_outgoing().remove(0).1;
    assert!(answer.len() <= call.len());
}

#[test]
fn one_may_be_told_alone() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    let for_b = Telling {
        to: Some(b.session.short()),
        ..part(3)
    };
    let for_others = Telling {
        to: Some(7),
        ..part(4)
    };
    a.tell(&[for_others.clone(), for_b.clone()], start);
    let told = pass(&mut a, &mut b, 1, start);
    assert_eq!(told, [(a.session.short(), for_b.part)]);
    a.tell(&[for_others], start);
    assert!(a.take_outgoing().is_empty());
}

#[test]
fn a_goodbye_is_for_those_too_that_seem_to_be_dead() {
    let start = Instant::now();
    let (mut a, mut b) = pair(start);
    // Nothing comes to a for a while.
    let late = start + Duration::from_secs(5);
    a.round(&[], late);
    assert_eq!(a.members().live().count(), 0);
    a.take_outgoing();
    a.leave();
    a.round(&[], late);
    pass(&mut a, &mut b, 1, start);
    let seen = b.members().named("a").map(|it| it.standing);
    assert_eq!(seen, Some(Standing::Left));
}
