//! Answers as servers send them, and what is none.

use super::*;

fn read_whole(text: &str) -> Result<Option<Answer>, Invalid> {
    read(&mut Scan::default(), &mut BytesMut::from(text), false)
}

fn framing(head: &str) -> Result<(Framing, bool), Invalid> {
    read_whole(&format!("{head}\r\n\r\n")).map(|answer| {
        let answer = answer.unwrap();
        (answer.framing, answer.keep_alive)
    })
}

#[test]
fn a_body_ends_where_rfc_9112_says() {
    use Framing::{Chunked, Empty, Length, UntilClose};
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5", (Length(5), true)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0", (Empty, true)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5", (Length(5), true)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5",
            (Length(5), true),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
            (Chunked, true),
        ),
        ("HTTP/1.1 200 OK", (UntilClose, false)),
        ("HTTP/1.1 204 No Content", (Empty, true)),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 5",
            (Empty, true),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close",
            (Length(5), false),
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 5", (Length(5), false)),
        (
            "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: Keep-Alive",
            (Length(5), true),
        ),
    ];
    for (head, expected) in cases {
        assert_eq!(framing(head), Ok(expected), "{head}");
    }
}

#[test]
fn doubtful_framing_is_refused() {
    let heads = [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked",
        "HTTP/1.1 204 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 0",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6",
        "HTTP/1.1 200 OK\r\ncontent-length: 5, 6",
        "HTTP/1.1 200 OK\r\ncontent-length: +5",
        "HTTP/1.1 200 OK\r\ncontent-length: ",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: ",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
    ];
    for head in heads {
        assert_eq!(framing(head).unwrap_err(), Invalid::Framing, "{head}");
    }
}

#[test]
fn a_head_is_found_however_it_is_cut() {
    let text = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\nb: 1\r\nA: 1\r\nVia: 1.0 x\r\n\
                Connection: b, Keep-Alive\r\nB: 2\r\nKeep-Alive: 5\r\nvia: 1.1 y\r\nX-Request-Id: server's\r\n\
                Content-Length: 2\r\n\r\nok";
    for step in 1..text.len() {
        let (mut scan, mut input) = (Scan::default(), BytesMut::new());
        let mut answers = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            input.extend_from_slice(piece);
            while answers.len() < 2
                && let Some(answer) = read(&mut scan, &mut input, false).unwrap()
            {
                let lines = String::from_utf8(answer.fields.lines).unwrap();
                answers.push((answer.status.as_u16(), lines));
            }
        }
        let expected = [
            (103, "link: x\r\nvia: 1.1 loadbalancer\r\n".to_owned()),
            (
                200,
                "A: 1\r\nvia: 1.0 x, 1.1 y, 1.1 loadbalancer\r\n".to_owned(),
            ),
        ];
        assert_eq!(answers, expected, "in steps of {step}");
        assert_eq!(input, "ok", "in steps of {step}");
    }
}

#[test]
fn trailers_that_do_not_pass_are_not_announced() {
    let trailers = |connection: &str| {
        let text = format!(
            "HTTP/1.1 200 OK\r\nconnection: {connection}\r\nTrailer: A, b\r\ntrailer: c\r\n\r\n"
        );
        let answer = read_whole(&text).unwrap().expect("a head");
        String::from_utf8(answer.fields.lines).unwrap()
    };
    let via = "via: 1.1 loadbalancer\r\n";
    assert_eq!(
        trailers("x"),
        format!("Trailer: A, b\r\ntrailer: c\r\n{via}")
    );
    assert_eq!(trailers("a"), format!("trailer: b, c\r\n{via}"));
    assert_eq!(trailers("c, b, a"), via);
}

#[test]
fn what_is_no_head_is_refused_and_bounded() {
    for text in [
        "garbage\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: 1\r\n folded\r\n\r\n",
    ] {
        assert_eq!(read_whole(text).unwrap_err(), Invalid::Syntax, "{text:?}");
    }
    let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_SIZE));
    assert_eq!(read_whole(&endless).unwrap_err(), Invalid::TooLarge);
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        "a: 1\r\n".repeat(MAX_FIELDS + 1)
    );
    assert_eq!(read_whole(&many).unwrap_err(), Invalid::TooLarge);
}

#[test]
fn an_answer_to_head_has_no_body() {
    let mut input = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    let answer = read(&mut Scan::default(), &mut input, true)
        .unwrap()
        .unwrap();
    assert_eq!(answer.framing, Framing::Empty);
    assert_eq!(answer.length, Some(5));
}
