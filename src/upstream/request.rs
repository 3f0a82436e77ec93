//! The head of a request, written as HTTP/1.1 has it, as HTTP/2 has it.

use std::io;

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

/// Most fields of a request: a client's, and those that are added.
const MAX_FIELDS: usize = 512;

/// The request whose head is written as HTTP/1.1 has it (RFC 9113, section 8.3.1).
pub(super) fn request(head: &[u8], https: bool, has_body: bool) -> io::Result<Request<()>> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let head = Bytes::copy_from_slice(head);
    let mut found = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut found);
    parsed.parse(&head).map_err(|_| invalid())?;
    let (mut request, ()) = Request::new(()).into_parts();
    let method = parsed.method.unwrap_or_default().as_bytes();
    request.method = Method::from_bytes(method).map_err(|_| invalid())?;
    let target = head.slice_ref(parsed.path.unwrap_or_default().as_bytes());
    let mut parts = Uri::from_maybe_shared(target)
        .map_err(|_| invalid())?
        .into_parts();
    let mut host = None;
    request.headers.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid())?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
        let value = value.map_err(|_| invalid())?;
        match name {
            HOST => host = Some(value),
            CONNECTION | TRANSFER_ENCODING | UPGRADE => {}
            CONTENT_LENGTH if !has_body && request.method == Method::GET => {}
            name => _ = request.headers.append(name, value),
        }
    }
    let host = host.ok_or_else(invalid)?;
    parts.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    let authority = Authority::try_from(host.as_bytes()).map_err(|_| invalid())?;
    parts.authority = Some(authority);
    parts
        .path_and_query
        .get_or_insert(PathAndQuery::from_static("/"));
    request.uri = Uri::from_parts(parts).map_err(|_| invalid())?;
    request.version = Version::HTTP_2;
    Ok(Request::from_parts(request, ()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_http_1_becomes_one_of_http_2() {
        let head =
            b"POST /a?b HTTP/1.1\r\nhost: a.example:81\r\nconnection: te\r\nte: trailers\r\n\
            transfer-encoding: chunked\r\nX-A: 1\r\nx-a: 2\r\n\r\n";
        let request = request(head, true, true).unwrap();
        assert_eq!(request.uri(), "https://a.example:81/a?b");
        assert_eq!(request.method(), Method::POST);
        let values: Vec<_> = request.headers().get_all("x-a").iter().collect();
        assert_eq!(values, ["1", "2"]);
        assert_eq!(request.headers().len(), 3);
        assert_eq!(request.headers()["te"], "trailers");
    }

    #[test]
    fn all_fields_that_a_client_may_send_have_room_beside_ours() {
        let fields: String = (0..400)
            .map(|number| format!("x-{number}: 1\r\n"))
            .collect();
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
        let request = request(head.as_bytes(), false, false).unwrap();
        assert_eq!(request.headers().len(), 400);
    }
}
