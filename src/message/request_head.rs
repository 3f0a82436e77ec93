//! The head of a request, and what rules and rewriting ask of every one: a dozen fields, of which most requests have none.
//! Looking for each in the map would cost more than reading the head did, so that the names are looked through once.

use std::ops::Deref;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap, HeaderName,
    HeaderValue, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::request::Parts;
use http::{Uri, Version};

use super::headers::{self, CodingError, DoubtfulFraming, TooManyOptions};

/// The head of a request.
#[derive(Debug, Clone)]
pub struct Head {
    parts: Parts,
    /// A bit for each [`Field`] that is there.
    has: u16,
}

/// A field that every request is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the names of fields")]
pub enum Field {
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Expect,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    Via,
}

impl Field {
    fn of(name: &HeaderName) -> Option<Self> {
        Some(match *name {
            CONNECTION => Self::Connection,
            CONTENT_LENGTH => Self::ContentLength,
            CONTENT_TYPE => Self::ContentType,
            COOKIE => Self::Cookie,
            EXPECT => Self::Expect,
            TE => Self::Te,
            TRAILER => Self::Trailer,
            TRANSFER_ENCODING => Self::TransferEncoding,
            UPGRADE => Self::Upgrade,
            VIA => Self::Via,
            _ => return None,
        })
    }

    const fn name(self) -> HeaderName {
        match self {
            Self::Connection => CONNECTION,
            Self::ContentLength => CONTENT_LENGTH,
            Self::ContentType => CONTENT_TYPE,
            Self::Cookie => COOKIE,
            Self::Expect => EXPECT,
            Self::Te => TE,
            Self::Trailer => TRAILER,
            Self::TransferEncoding => TRANSFER_ENCODING,
            Self::Upgrade => UPGRADE,
            Self::Via => VIA,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Everything but the fields may be looked at as it is; changes go through [`Head::edit`] and its like.
impl Deref for Head {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl From<Parts> for Head {
    fn from(parts: Parts) -> Self {
        let has = asked_for(&parts.headers);
        Self { parts, has }
    }
}

fn asked_for(fields: &HeaderMap) -> u16 {
    let there = fields.keys().filter_map(Field::of);
    there.fold(0, |has, field| has | field.bit())
}

impl Head {
    /// Changes it in any way.
    pub fn edit<R>(&mut self, change: impl FnOnce(&mut Parts) -> R) -> R {
        let result = change(&mut self.parts);
        self.has = asked_for(&self.parts.headers);
        result
    }

    /// Gives it another target.
    pub fn set_uri(&mut self, uri: Uri) {
        self.parts.uri = uri;
    }

    /// Makes this its only Host.
    pub fn set_host(&mut self, host: HeaderValue) {
        self.parts.headers.insert(HOST, host); // which is no `Field`
    }

    /// Whether a field is there.
    pub const fn has(&self, field: Field) -> bool {
        self.has & field.bit() != 0
    }

    /// The lines of a field.
    pub fn lines(&self, field: Field) -> impl Iterator<Item = &HeaderValue> {
        let lines = || self.headers.get_all(field.name()).into_iter();
        self.has(field).then(lines).into_iter().flatten()
    }

    /// What Content-Length says, as [`headers::content_length`].
    ///
    /// # Errors
    /// There is no telling which length is meant.
    pub fn content_length(&self) -> Result<Option<u64>, DoubtfulFraming> {
        match self.has(Field::ContentLength) {
            true => headers::content_length(&self.headers),
            false => Ok(None),
        }
    }

    /// Whether the body comes in chunks, as [`headers::chunked`].
    ///
    /// # Errors
    /// Transfer-Encoding names anything but `chunked`, and that once.
    pub fn chunked(&self) -> Result<bool, CodingError> {
        match self.has(Field::TransferEncoding) {
            true => headers::chunked(&self.headers),
            false => Ok(false),
        }
    }

    /// Whether the client keeps the connection open, as [`headers::keeps_alive`].
    ///
    /// # Errors
    /// Connection names too much.
    pub fn keeps_alive(&self) -> Result<bool, TooManyOptions> {
        match self.has(Field::Connection) {
            true => headers::keeps_alive(self.version, &self.headers),
            false => Ok(self.version != Version::HTTP_10),
        }
    }

    /// The fields that Connection nominates, as [`headers::nominated`].
    pub fn nominated(&self) -> Vec<HeaderName> {
        match self.has(Field::Connection) {
            true => headers::nominated(&self.headers),
            false => Vec::new(),
        }
    }

    /// The protocol that it asks to switch to, as [`headers::upgrade`].
    pub fn upgrade(&self) -> Option<HeaderValue> {
        match self.has(Field::Upgrade) {
            true => headers::upgrade(&self.headers),
            false => None,
        }
    }

    /// Whether the client takes trailers (`TE: trailers`).
    pub fn takes_trailers(&self) -> bool {
        self.has(Field::Te) && headers::has_token(&self.headers, &TE, "trailers")
    }

    /// The trailers that it says it has.
    pub fn announced_trailers(&self) -> Vec<HeaderName> {
        match self.has(Field::Trailer) {
            true => headers::announced_trailers(&self.headers),
            false => Vec::new(),
        }
    }

    /// Whether the client waits to be told to send its body (RFC 9110, section 10.1.1). HTTP/1.0 has no such thing.
    pub fn expects_continue(&self) -> bool {
        self.may_expect() && headers::has_token(&self.headers, &EXPECT, CONTINUE)
    }

    /// Whether the client expects something else, which nobody can fulfil.
    pub fn expects_more(&self) -> bool {
        let is_more = |token: &[u8]| !token.eq_ignore_ascii_case(CONTINUE.as_bytes());
        self.may_expect() && headers::tokens(&self.headers, &EXPECT).any(is_more)
    }

    fn may_expect(&self) -> bool {
        self.has(Field::Expect) && self.version != Version::HTTP_10
    }
}

const CONTINUE: &str = "100-continue";

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: Version, fields: &[(&str, &str)]) -> Head {
        let request = http::Request::builder().version(version);
        let request = fields.iter().fold(request, |it, (n, v)| it.header(*n, *v));
        Head::from(request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn each_field_is_known_by_its_name() {
        let mut bits = 0_u16;
        for bit in 0..10 {
            let names = [
                "connection",
                "content-length",
                "content-type",
                "cookie",
                "expect",
                "te",
                "trailer",
                "transfer-encoding",
                "upgrade",
                "via",
            ];
            let name = HeaderName::from_static(names[bit]);
            let field = Field::of(&name).unwrap();
            assert_eq!(field.name(), name);
            bits |= field.bit();
            let head = head(Version::HTTP_11, &[("a", "b"), (names[bit], "5, 5")]);
            assert!(head.has(field));
            assert_eq!(head.lines(field).collect::<Vec<_>>(), ["5, 5"]);
            assert_eq!(head.has, field.bit());
        }
        assert_eq!(bits.count_ones(), 10, "no two have the same bit");
        assert_eq!(Field::of(&HeaderName::from_static("x-cookie")), None);
    }

    #[test]
    fn what_is_added_is_known_too() {
        let mut head = head(Version::HTTP_11, &[]);
        assert!(head.upgrade().is_none());
        head.edit(|parts| {
            parts
                .headers
                .insert(CONNECTION, HeaderValue::from_static("upgrade"));
            parts
                .headers
                .insert(UPGRADE, HeaderValue::from_static("websocket"))
        });
        assert_eq!(head.upgrade().unwrap(), "websocket");
        assert_eq!(head.nominated(), ["upgrade"]);
        head.edit(|parts| parts.headers.clear());
        assert!(!head.has(Field::Upgrade));
    }

    #[test]
    fn nothing_but_100_continue_can_be_expected() {
        let cases = [
            ("100-continue", true, false),
            ("100-Continue", true, false),
            ("100-continue, x", true, true),
            ("x", false, true),
            ("", false, false),
        ];
        for (value, waits, more) in cases {
            let of = |version| head(version, &[("expect", value)]);
            assert_eq!(of(Version::HTTP_11).expects_continue(), waits, "{value}");
            assert_eq!(of(Version::HTTP_11).expects_more(), more, "{value}");
            assert!(!of(Version::HTTP_10).expects_continue());
            assert!(!of(Version::HTTP_10).expects_more());
        }
    }

    #[test]
    fn connections_stay_open_by_default_since_http_1_1() {
        let keeps = |version, fields: &[(&str, &str)]| head(version, fields).keeps_alive();
        assert_eq!(keeps(Version::HTTP_11, &[]), Ok(true));
        assert_eq!(keeps(Version::HTTP_10, &[]), Ok(false));
        let close = [("connection", "close")];
        assert_eq!(keeps(Version::HTTP_11, &close), Ok(false));
        let stay = [("connection", "keep-alive")];
        assert_eq!(keeps(Version::HTTP_10, &stay), Ok(true));
    }
}
