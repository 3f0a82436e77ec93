//! A blocking HTTP/1.1 client that hides nothing: requests are bytes, and an answer that breaks the protocol is an
//! error. Reads and writes have a deadline.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::DEADLINE;

/// An answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// Of a chunked body.
    pub trailers: Headers,
}

/// Fields in the order of arrival, names as they were sent.
#[derive(Debug, Default)]
pub struct Headers(pub Vec<(String, String)>);

/// A status line and its headers; [`Connection::read_body`] reads what follows.
#[derive(Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Headers,
}

/// A connection for any number of requests.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

/// How an answer's body ends (RFC 9112 section 6.3).
enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

/// GET on a connection of its own. Panics without a whole answer.
pub fn get(addr: SocketAddr, path: &str) -> Response {
    try_get(addr, path).unwrap_or_else(|error| panic!("GET {path} from {addr}: {error}"))
}

/// GET on a connection of its own; the address is the Host, as from any client of a URL with an address.
pub fn try_get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    let headers = [("host", &*addr.to_string()), ("connection", "close")];
    Connection::open(addr)?.request(message("GET", path, &headers, b""))
}

/// One request, as bytes, on a connection of its own. Panics without a whole answer.
pub fn request(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let answer = Connection::open(addr).and_then(|mut connection| connection.request(bytes));
    answer.unwrap_or_else(|error| panic!("no answer from {addr}: {error}"))
}

/// A request's bytes, with `Host: test` and `Content-Length` where `headers` does not say otherwise.
pub fn message(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| {
        headers
            .iter()
            .any(|(other, _)| other.eq_ignore_ascii_case(name))
    };
    let mut bytes = format!("{method} {path} HTTP/1.1\r\n");
    if !has("host") {
        bytes += "host: test\r\n";
    }
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        bytes += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    bytes += "\r\n";
    [bytes.as_bytes(), body].concat()
}

impl Response {
    /// The body, which is known to be text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body, which is known to be JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }
}

impl Headers {
    /// The first value of a field, whatever the case of its name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a field.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl Connection {
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut connection = Self {
            stream: BufReader::new(stream),
        };
        connection.set_read_timeout(DEADLINE)?;
        Ok(connection)
    }

    /// The same from this address of the machine, such as 127.0.0.7.
    pub fn open_from(client: [u8; 4], addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((client, 0)).into())?;
        socket.connect_timeout(&addr.into(), DEADLINE)?;
        let stream = TcpStream::from(socket);
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// [`DEADLINE`] unless set.
    pub fn set_read_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(timeout))
    }

    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        self.request(message("GET", path, &[], b""))
    }

    /// Sends a whole request while the answer is read, so that neither side waits for the other with full buffers.
    pub fn request(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<Response> {
        let bytes = bytes.as_ref();
        let mut writer = self.stream.get_ref().try_clone()?;
        thread::scope(|scope| {
            // Whoever answers early may stop reading: the answer decides, not the error.
            scope.spawn(move || writer.write_all(bytes));
            let answer = self.read_response(bytes.starts_with(b"HEAD "));
            if answer.is_err() {
                // Or the writer would go on until its deadline; failing means that it is closed already.
                let _ = self.stream.get_ref().shutdown(Shutdown::Both);
            }
            answer
        })
    }

    /// Sends bytes as they are: half a request, or several at once.
    pub fn send_raw(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Ends the sending direction.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.get_ref().shutdown(Shutdown::Write)
    }

    /// Reads the next answer, interim ones (1xx) included; one `to_head` has no body.
    pub fn read_response(&mut self, to_head: bool) -> io::Result<Response> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        let trailers = if to_head {
            Headers::default()
        } else {
            self.read_body(&head, |data| body.extend_from_slice(data))?
        };
        Ok(Response {
            status: head.status,
            headers: head.headers,
            body,
            trailers,
        })
    }

    /// Reads a status line and headers.
    pub fn read_head(&mut self) -> io::Result<Head> {
        let line = self.read_line()?;
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| broken(format!("status line {line:?}")))?;
        Ok(Head {
            status,
            headers: self.read_fields()?,
        })
    }

    /// Reads the body after `head` piece by piece and returns its trailers.
    pub fn read_body(&mut self, head: &Head, mut each: impl FnMut(&[u8])) -> io::Result<Headers> {
        match framing(head)? {
            Framing::Length(length) => self.read_pieces(length, &mut each)?,
            Framing::UntilClose => while self.read_piece(u64::MAX, &mut each)? > 0 {},
            Framing::Chunked => loop {
                let line = self.read_line()?;
                let size = line.split(';').next().unwrap_or_default();
                let size = u64::from_str_radix(size, 16)
                    .map_err(|_| broken(format!("chunk size {line:?}")))?;
                if size == 0 {
                    return self.read_fields();
                }
                self.read_pieces(size, &mut each)?;
                let end = self.read_line()?;
                if !end.is_empty() {
                    return Err(broken(format!("chunk that ends in {end:?}")));
                }
            },
        }
        Ok(Headers::default())
    }

    /// Reads exactly so many bytes, for example of an upgraded connection.
    pub fn read_exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads until the other side closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// A second handle, to write with while this one reads.
    pub fn try_clone_stream(&self) -> io::Result<TcpStream> {
        self.stream.get_ref().try_clone()
    }

    fn read_pieces(&mut self, mut length: u64, each: &mut impl FnMut(&[u8])) -> io::Result<()> {
        while length > 0 {
            match self.read_piece(length, each)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => length -= read,
            }
        }
        Ok(())
    }

    fn read_piece(&mut self, at_most: u64, each: &mut impl FnMut(&[u8])) -> io::Result<u64> {
        let available = self.stream.fill_buf()?;
        let length = at_most.min(available.len() as u64);
        each(&available[..length as usize]);
        self.stream.consume(length as usize);
        Ok(length)
    }

    fn read_fields(&mut self) -> io::Result<Headers> {
        let mut fields = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Headers(fields));
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| broken(format!("field {line:?}")))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A line without its CRLF.
    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(if line.ends_with(b"\n") {
                broken("line without a carriage return".to_owned())
            } else {
                io::ErrorKind::UnexpectedEof.into()
            });
        };
        Ok(String::from_utf8_lossy(line).into_owned())
    }
}

fn framing(head: &Head) -> io::Result<Framing> {
    if matches!(head.status, 100..200 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    let codings: Vec<_> = head.headers.all("transfer-encoding").collect();
    let lengths: Vec<_> = head.headers.all("content-length").collect();
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(Framing::UntilClose),
        ([], [length]) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| broken(format!("length {length:?}"))),
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        _ => Err(broken(format!(
            "framing by codings {codings:?} and lengths {lengths:?}"
        ))),
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
