//! TLS where connections are passed on: ended here, begun anew, and what an end says.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::passthrough::Site;
use crate::support::backend::{report, reporting};
use crate::support::proxy::Proxy;
use crate::support::tls::{self, Authority, TlsConnection};
use crate::support::{DEADLINE, wait_until};
use crate::tcp::{connect, echo, echoes, read_to_end, relaying_with};

/// Says something over TLS, and hears it again.
fn echoes_over(connection: &mut TlsConnection, text: &str) {
    connection.send(text).expect("sent");
    assert_eq!(connection.read_until(text).expect("an echo"), text);
}

#[test]
fn tls_ends_here_and_begins_anew() {
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let tls = format!("tls = {{ certificates = [{}] }}", files.entry());
    let server = echo();
    let ending = relaying_with(&[server.addr()], &tls).start();
    let mut client = authority.anonymous();
    // Whatever it is that the client wants to speak.
    client.alpn_protocols = vec![b"mqtt".to_vec()];
    let mut direct = tls::connect(ending.addr(), "localhost", &client).expect("a handshake");
    assert_eq!(direct.protocol(), None);
    echoes_over(&mut direct, "decrypted");

    let address = format!("localhost:{}", ending.addr().port());
    let upstream = format!("tls = {{ ca = {:?} }}", authority.ca());
    let beginning = Proxy::new()
        .setting("workers = 1")
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with("db", &[&address], &upstream)
        .start();
    let mut plain = connect(beginning.addr());
    echoes(&mut plain, b"encrypted on the way");
    let much = vec![5; 3 << 20];
    let mut writer = plain.try_clone().expect("a handle");
    let echoed = thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&much).expect("sent");
            writer.shutdown(Shutdown::Write).expect("open");
        });
        read_to_end(&mut plain).expect("all of it, and the end")
    });
    assert!(echoed == much);

    let both = Proxy::new()
        .setting("workers = 1")
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .listener(&tls)
        .unprobed_with("db", &[&address], &upstream)
        .start();
    let mut client = tls::connect(both.addr(), "localhost", &client).expect("a handshake");
    echoes_over(&mut client, "twice");
    client.close().expect("open");
    assert_eq!(client.read_to_end().expect("an end that is said"), b"");
    wait_until("it is counted", || {
        both.metric_with("lb_tcp_connections_ended_total", "reason=\"client\"") == 1
    });
}

#[test]
fn an_end_that_is_not_said_is_passed_on_as_one_that_is_not() {
    let authority = Authority::new();
    let files = authority.issue(&["localhost"]);
    let config = files.server();
    let (server, heard) = reporting(move |connection| {
        let mut stream = tls::accept(connection.stream.try_clone()?, &config)?;
        stream.write_all(b"hello")?;
        let mut rest = Vec::new();
        let end = stream.read_to_end(&mut rest);
        stream.write_all(b"bye")?; // and leaves without a close_notify
        Ok(end.map_err(|error| error.kind()))
    });
    let address = format!("localhost:{}", server.addr().port());
    let upstream = format!("tls = {{ ca = {:?} }}", authority.ca());
    let keys = format!("tls = {{ certificates = [{}] }}", files.entry());
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .listener(&keys)
        .unprobed_with("db", &[&address], &upstream)
        .start();
    let greeted = || {
        let config = authority.anonymous();
        let mut client = tls::connect(proxy.addr(), "localhost", &config).expect("a handshake");
        assert_eq!(client.read_exact(5).expect("a greeting"), b"hello");
        client
    };
    let mut client = greeted();
    client.shutdown().expect("open");
    assert_eq!(report(&heard), Err(ErrorKind::UnexpectedEof));
    let mut client = greeted();
    client.close().expect("open");
    assert_eq!(report(&heard), Ok(0));
    assert_eq!(client.read_exact(3).expect("the rest"), b"bye");
    let end = client.read_to_end().expect_err("an end that is not said");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn a_server_whose_certificate_does_not_verify_gets_nothing() {
    let (authority, others) = (Authority::new(), Authority::new());
    let site = Site::start(&authority.issue(&["localhost"]));
    let address = format!("localhost:{}", site.addr().port());
    let upstream = format!("tls = {{ ca = {:?} }}", others.ca());
    let proxy = Proxy::new()
        .listener("mode = \"tcp\"\nupstream = \"db\"")
        .unprobed_with("db", &[&address], &upstream)
        .start();
    let mut client = TcpStream::connect(proxy.addr()).expect("the proxy listens");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket");
    let error = read_to_end(&mut client).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    proxy.process().wait_for_line("TLS failed");
}
