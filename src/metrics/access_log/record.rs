//! What a line of the access log says, and how.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// A line's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Apache's combined log format.
    Combined,
}

/// What a line says.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// When the request arrived.
    pub time: Timestamp,
    /// The client's address, from forwarding headers when the peer is trusted.
    pub client: IpAddr,
    /// The request's method.
    pub method: &'a str,
    /// The request's Host.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub protocol: &'a str,
    /// The answer's status; 0 if the client went away before there was one.
    pub status: u16,
    /// Body bytes received from the client.
    pub received: u64,
    /// Body bytes sent to the client.
    pub sent: u64,
    /// From the request's headers to the end of the answer, in seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// The Referer header, or empty.
    pub referer: &'a str,
    /// The User-Agent header, or empty.
    pub user_agent: &'a str,
    /// X-Request-Id.
    pub request_id: &'a str,
    /// The route's name, or empty when none matched.
    pub route: &'a str,
    /// The upstream's name, or empty when the request was not forwarded.
    pub upstream: &'a str,
    /// The last server that was tried, or empty.
    pub server: &'a str,
    /// Tries after the first.
    pub retries: u32,
    /// Why the last of them was made, or empty.
    pub retried: &'a str,
    /// Whether two servers were asked at a time.
    pub hedged: bool,
    /// Whether the answer reached its end.
    pub complete: bool,
    /// A word for why the load balancer answered itself or the answer broke off, or empty.
    pub error: &'a str,
}

/// What a line says of a connection that was passed on as it is.
#[derive(Debug, Serialize)]
pub struct ConnectionRecord<'a> {
    /// When it was accepted.
    pub time: Timestamp,
    /// The client's address, by the word of a PROXY header if there was one.
    pub client: IpAddr,
    /// `tcp` or `udp`.
    pub protocol: &'a str,
    /// The listener's name.
    pub listener: &'a str,
    /// The name that a ClientHello has asked for, or empty.
    pub name: &'a str,
    /// The upstream's name, or empty when there was none for it.
    pub upstream: &'a str,
    /// The last server that was tried, or empty.
    pub server: &'a str,
    /// Tries after the first.
    pub retries: u32,
    /// How long connecting to the server took, in seconds; 0 without success.
    #[serde(serialize_with = "seconds")]
    pub connect: Duration,
    /// How long the connection was open, in seconds.
    #[serde(serialize_with = "seconds")]
    pub duration: Duration,
    /// Bytes received from the client.
    pub received: u64,
    /// Bytes sent to the client.
    pub sent: u64,
    /// A word for why it has ended.
    pub reason: &'a str,
}

impl ConnectionRecord<'_> {
    pub(super) fn line(&self, format: Format) -> String {
        match format {
            Format::Json => json(self),
            // Apache has no such thing. It is a line that its readers take: a method, where to, and no status.
            Format::Combined => {
                let mut line = start(self.client, self.time);
                line.push_str(&self.protocol.to_ascii_uppercase());
                line.push(' ');
                escape(
                    &mut line,
                    if self.name.is_empty() {
                        self.listener
                    } else {
                        self.name
                    },
                );
                _ = writeln!(line, " -\" 0 {} \"-\" \"-\"", self.sent);
                line
            }
        }
    }
}

/// One JSON object.
fn json(record: &impl Serialize) -> String {
    let mut line = serde_json::to_string(record).unwrap_or_default();
    line.push('\n');
    line
}

/// The beginning of a line of the combined format, up to the request.
fn start(client: IpAddr, time: Timestamp) -> String {
    format!(
        "{client} - - [{}] \"",
        time.strftime("%d/%b/%Y:%H:%M:%S +0000")
    )
}

fn seconds<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

impl Record<'_> {
    pub(super) fn line(&self, format: Format) -> String {
        match format {
            Format::Json => json(self),
            Format::Combined => {
                let mut line = start(self.client, self.time);
                escape(&mut line, self.method);
                line.push(' ');
                escape(&mut line, self.target);
                _ = write!(
                    line,
                    " {}\" {} {} \"",
                    self.protocol, self.status, self.sent
                );
                escape(
                    &mut line,
                    if self.referer.is_empty() {
                        "-"
                    } else {
                        self.referer
                    },
                );
                line.push_str("\" \"");
                escape(
                    &mut line,
                    if self.user_agent.is_empty() {
                        "-"
                    } else {
                        self.user_agent
                    },
                );
                line.push_str("\"\n");
                line
            }
        }
    }
}

/// Keeps a client from ending a quoted field or a line.
fn escape(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            c if c.is_control() => _ = write!(line, "\\x{:02x}", u32::from(c)),
            c => line.push(c),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn record() -> Record<'static> {
        Record {
            time: Timestamp::from_second(1_700_000_000).unwrap(),
            client: IpAddr::from([192, 0, 2, 1]),
            method: "GET",
            host: "example.com",
            target: "/a?b=\"c\"",
            protocol: "HTTP/1.1",
            status: 200,
            received: 0,
            sent: 12,
            duration: Duration::from_millis(1500),
            referer: "",
            user_agent: "a\"b\n",
            request_id: "id",
            route: "r",
            upstream: "u",
            server: "127.0.0.1:3000",
            retries: 1,
            retried: "reset",
            hedged: false,
            complete: true,
            error: "",
        }
    }

    #[test]
    fn combined_lines_cannot_be_broken_by_a_client() {
        assert_eq!(
            record().line(Format::Combined),
            "192.0.2.1 - - [14/Nov/2023:22:13:20 +0000] \"GET /a?b=\\\"c\\\" HTTP/1.1\" 200 12 \"-\" \"a\\\"b\\x0a\"\n"
        );
    }

    #[test]
    fn json_lines_are_json() {
        let line = record().line(Format::Json);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20Z");
        assert_eq!(value["duration"], 1.5);
        assert_eq!(value["user_agent"], "a\"b\n");
        assert_eq!(line.matches('\n').count(), 1);
    }
}
