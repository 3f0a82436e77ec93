//! `upstreams.set_headers`

use http::{HeaderName, HeaderValue};

use super::Validation;
use crate::config::key_path::KeyPath;
use crate::config::names::header_name;
use crate::config::schema;
use crate::config::types::{Secret, SecretSource};

impl Validation<'_> {
    /// The fields that requests to the upstream are sent with, sorted by name.
    pub(super) fn set_headers(
        &mut self,
        raw: &schema::Upstream,
        at: &KeyPath,
    ) -> Vec<(HeaderName, Secret)> {
        let mut fields: Vec<(HeaderName, Secret)> = Vec::new();
        for (name, source) in raw.set_headers.iter().flatten() {
            let at = at.key(name);
            match self.set_header(name, source) {
                Err(message) => self.problems.add(at, message),
                Ok((name, _)) if fields.iter().any(|(other, _)| *other == name) => {
                    self.problems
                        .add(at, "is given twice, in upper and lower case");
                }
                Ok(field) => fields.push(field),
            }
        }
        fields.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        fields
    }

    /// One field, or why it cannot be one. The message does not show the value, which may be a secret.
    fn set_header(
        &self,
        name: &str,
        source: &SecretSource,
    ) -> Result<(HeaderName, Secret), String> {
        let name = header_name(name).map_err(|error| error.to_string())?;
        if let Some(why) = not_to_be_set(name.as_str()) {
            return Err(format!("{why}; leave it out"));
        }
        let value = source.read(self.env).map_err(|error| error.to_string())?;
        if !is_field_value(value.expose()) {
            return Err(
                "is not a header's value; expected visible ASCII characters, at least one, with spaces only between them"
                    .to_owned(),
            );
        }
        let value = match source {
            SecretSource::Literal(_) => value.opened(),
            SecretSource::Variable(_) | SecretSource::File(_) => value,
        };
        Ok((name, value))
    }
}

/// Why the load balancer alone writes the field called `name`, if it does.
fn not_to_be_set(name: &str) -> Option<&'static str> {
    match name {
        "host" => Some("is set by \"preserve_host\" of the route"),
        "content-length" | "transfer-encoding" | "trailer" => {
            Some("frames the request's body, which the load balancer does")
        }
        "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" | "http2-settings"
        | "expect" => Some("is about one connection (hop by hop), which is the load balancer's"),
        _ => None,
    }
}

/// RFC 9110, section 5.5, without what is obsolete there.
fn is_field_value(text: &str) -> bool {
    !text.is_empty() && text.trim() == text && HeaderValue::from_str(text).is_ok()
}
