//! Relays one of whose connections breaks, and relays that are given up.

use super::*;

#[test]
fn a_connection_that_breaks_breaks_the_other() {
    let gone = relay(
        b"",
        |mut stream| {
            stream.write_all(b"half a").unwrap();
            let mut seen = [0];
            stream.read_exact(&mut seen).unwrap();
            break_off(stream);
        },
        |mut stream| {
            stream.write_all(b"!").unwrap();
            read_all(&stream).unwrap_err().kind()
        },
    );
    assert_eq!(gone.server, ErrorKind::ConnectionReset);
    assert_eq!(gone.end, End::Reset(Side::Client));

    let gone = relay(
        b"",
        |stream| read_all(&stream).unwrap_err().kind(),
        |mut stream| {
            stream.write_all(b"half an").unwrap();
            break_off(stream);
        },
    );
    assert_eq!(gone.client, ErrorKind::ConnectionReset);
    assert_eq!(gone.end, End::Reset(Side::Server));
}

#[test]
fn a_server_that_breaks_while_much_is_sent_to_it_breaks_the_client() {
    let gone = relay(
        b"",
        |mut stream| {
            let written = stream.write_all(&pattern(MUCH, 0));
            written.and_then(|()| read_all(&stream)).unwrap_err();
        },
        |mut stream| {
            stream.read_exact(&mut [0; 1000]).unwrap();
            break_off(stream);
        },
    );
    assert_eq!(gone.end, End::Reset(Side::Server));
}

#[test]
fn a_break_that_only_a_write_has_met_is_one_too() {
    let ((to_client, mut client), (to_server, server)) = (pair(), pair());
    break_off(server);
    client.write_all(b"too late").unwrap();
    let mut relay = between(to_client, to_server);
    let end = run(poll_fn(|cx| relay.poll(cx)));
    assert_eq!(end, End::Reset(Side::Server));
    drop(relay);
    assert_eq!(
        read_all(&client).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

/// Has a relay pass on a word both ways, and maybe the end of one side's sending; gives it up, and returns how much the
/// client and the server have got, or how it ended for them.
fn given_up(quiet: Duration, ends: Option<Side>) -> [Result<usize, ErrorKind>; 2] {
    let ((to_client, mut client), (to_server, mut server)) = (pair(), pair());
    for (stream, side) in [(&mut client, Side::Client), (&mut server, Side::Server)] {
        stream.write_all(b"word").unwrap();
        if ends == Some(side) {
            stream.shutdown(Shutdown::Write).unwrap();
        }
    }
    let mut relay = between(to_client, to_server);
    run(poll_fn(|cx| match relay.poll(cx) {
        Poll::Ready(_) => panic!("it has not ended"),
        Poll::Pending if relay.moved() == 16 && relay.first == ends => Poll::Ready(()),
        Poll::Pending => Poll::Pending,
    }));
    relay.give_up(quiet);
    drop(relay);
    [client, server].map(|end| read_all(&end).map(|it| it.len()).map_err(|it| it.kind()))
}

#[test]
fn what_is_given_up_is_reset_unless_it_is_quiet() {
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(given_up(Duration::ZERO, None), [Ok(4), Ok(4)]);
    assert_eq!(given_up(LIMIT, None), [reset, reset]);
    // An end that was passed on is one, and the other is not made up.
    assert_eq!(given_up(Duration::ZERO, Some(Side::Client)), [reset, Ok(4)]);
    assert_eq!(given_up(Duration::ZERO, Some(Side::Server)), [Ok(4), reset]);
}

#[test]
fn what_is_held_is_lost_and_that_is_not_hidden() {
    let ((to_client, client), (to_server, mut server)) = (pair(), pair());
    let mut relay = between(to_client, to_server);
    server.set_nonblocking(true).unwrap();
    // More and more, until the client's socket is full and the relay holds what it has read.
    run(poll_fn(|cx| {
        _ = server.write(&[7; 64 * 1024]);
        assert!(relay.poll(cx).is_pending());
        cx.waker().wake_by_ref();
        match relay.down.holds() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }));
    relay.give_up(Duration::ZERO);
    drop(relay);
    server.set_nonblocking(false).unwrap();
    for end in [client, server] {
        assert_eq!(
            read_all(&end).unwrap_err().kind(),
            ErrorKind::ConnectionReset
        );
    }
}

/// Has a relay pass on what a client sends until its server takes no more.
async fn stop(relay: &mut Relay, mut client: &TcpStream) {
    client.set_nonblocking(true).unwrap();
    poll_fn(|cx| {
        _ = client.write(&[7; 64 * 1024]);
        assert!(relay.poll(cx).is_pending());
        cx.waker().wake_by_ref();
        match relay.is_stopped() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[test]
fn a_client_that_breaks_while_its_server_takes_nothing_is_seen_by_a_look() {
    let ((to_client, client), (to_server, server)) = (pair(), pair());
    let mut relay = between(to_client, to_server);
    let end = run(async {
        stop(&mut relay, &client).await;
        break_off(client);
        loop {
            if let Poll::Ready(end) = poll_fn(|cx| Poll::Ready(relay.poll(cx))).await {
                return end;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert_eq!(end, End::Reset(Side::Client));
    drop(relay);
    let error = read_all(&server).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_client_that_breaks_while_its_server_takes_nothing_is_seen_when_something_is_sent_to_it() {
    let ((to_client, client), (to_server, mut server)) = (pair(), pair());
    let mut relay = between(to_client, to_server);
    let end = run(async {
        stop(&mut relay, &client).await;
        break_off(client);
        server.write_all(b"an answer").unwrap();
        poll_fn(|cx| relay.poll(cx)).await
    });
    assert_eq!(end, End::Reset(Side::Client));
}
