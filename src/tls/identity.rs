//! What a client's verified certificate says, as header fields for the servers.

use std::fmt::Write as _;
use std::net::IpAddr;

use data_encoding::{BASE64, HEXLOWER};
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::asn1_rs::{Any, Oid, Tag, ToDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::provider::sha256;

const CERTIFICATE: HeaderName = HeaderName::from_static("client-cert");
const CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");
const SUBJECT: HeaderName = HeaderName::from_static("x-client-cert-subject");
const ALTERNATIVE_NAMES: HeaderName = HeaderName::from_static("x-client-cert-san");
const FINGERPRINT: HeaderName = HeaderName::from_static("x-client-cert-fingerprint");

/// The fields that speak of a client's certificate. What clients send under these names must not reach a server.
pub const IDENTITY_FIELDS: [HeaderName; 5] =
    [CERTIFICATE, CHAIN, SUBJECT, ALTERNATIVE_NAMES, FINGERPRINT];

/// Who a client is, by its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    fields: Vec<(HeaderName, HeaderValue)>,
}

impl ClientIdentity {
    /// The header fields for servers: `Client-Cert` (RFC 9440, section 2.2), `X-Client-Cert-Subject` (RFC 4514),
    /// `X-Client-Cert-San` and `X-Client-Cert-Fingerprint` (SHA-256). A subject or alternative names that are not there
    /// have none.
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }
}

/// Who the client is that has shown `certificates` and was verified; `None` if there are none.
pub fn identity(certificates: &[CertificateDer<'_>]) -> Option<ClientIdentity> {
    let der = certificates.first()?;
    let mut fields = Vec::with_capacity(4);
    let mut add = |name, text: String| {
        if !text.is_empty()
            && let Ok(value) = HeaderValue::from_str(&text)
        {
            fields.push((name, value));
        }
    };
    add(CERTIFICATE, format!(":{}:", BASE64.encode(der)));
    // The handshake has verified it; should this parser be stricter, the other fields still say who it is.
    if let Ok((_, certificate)) = X509Certificate::from_der(der) {
        add(SUBJECT, distinguished_name(certificate.subject()));
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|it| &it.value.general_names);
        let names: Vec<String> = names.filter_map(alternative_name).collect();
        add(ALTERNATIVE_NAMES, names.join(", "));
    }
    add(FINGERPRINT, HEXLOWER.encode(&sha256(der)));
    Some(ClientIdentity { fields })
}

/// The name as RFC 4514 writes it: the last part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter()
        .map(|part| {
            let attributes: Vec<String> = part.iter().map(attribute).collect();
            attributes.join("+")
        })
        .collect();
    parts.reverse();
    parts.join(",")
}

/// `CN=Ann`; a type without a short name, or a value that is no string, is `2.5.4.5=#1301...` (section 2.4).
fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let name = short_name(attribute.attr_type());
    match (name, text(attribute.attr_value())) {
        (Some(name), Some(text)) => format!("{name}={}", escaped_value(&text)),
        _ => {
            let der = attribute.attr_value().to_der_vec().unwrap_or_default();
            format!(
                "{}=#{}",
                attribute.attr_type().to_id_string(),
                HEXLOWER.encode(&der)
            )
        }
    }
}

/// RFC 4514, section 3, and the e-mail address, which others write so too.
fn short_name(oid: &Oid<'_>) -> Option<&'static str> {
    Some(match oid.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// The text of an ASN.1 string.
fn text(value: &Any<'_>) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            std::str::from_utf8(value.data).ok().map(str::to_owned)
        }
        // In practice Latin-1.
        Tag::TeletexString => Some(value.data.iter().map(|b| char::from(*b)).collect()),
        Tag::BmpString => {
            let (units, rest) = value.data.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            String::from_utf16(&units).ok().filter(|_| rest.is_empty())
        }
        _ => None,
    }
}

/// RFC 4514, section 2.4; all but printable ASCII as `\XX`.
fn escaped_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (position, byte) in text.bytes().enumerate() {
        let is_special = match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => true,
            b'#' => position == 0,
            b' ' => position == 0 || position == last,
            _ => false,
        };
        push_escaped(&mut escaped, byte, is_special);
    }
    escaped
}

/// `DNS:a.example`; names of other kinds are left out.
fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    let (kind, value) = match name {
        GeneralName::DNSName(name) => ("DNS", (*name).to_owned()),
        GeneralName::URI(uri) => ("URI", (*uri).to_owned()),
        GeneralName::RFC822Name(address) => ("email", (*address).to_owned()),
        GeneralName::IPAddress(octets) => ("IP", address(octets)?.to_string()),
        _ => return None,
    };
    let mut escaped = format!("{kind}:");
    for byte in value.bytes() {
        push_escaped(&mut escaped, byte, matches!(byte, b',' | b'\\'));
    }
    Some(escaped)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// Adds `byte`, with a backslash before it if it `is_special`, or as `\XX` if it is not printable ASCII.
fn push_escaped(text: &mut String, byte: u8, is_special: bool) {
    if !(b' '..=b'~').contains(&byte) {
        write!(text, "\\{byte:02X}").expect("a string can be written to");
        return;
    }
    if is_special {
        text.push('\\');
    }
    text.push(char::from(byte));
}
