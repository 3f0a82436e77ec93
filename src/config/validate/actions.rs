//! `[[routes]]`: what a route does, one of `upstream`, `split`, `redirect` and `respond`.

use http::{StatusCode, Uri};

use super::{Names, Validation};
use crate::config::key_path::KeyPath;
use crate::config::model::{Action, RedirectTarget};
use crate::config::schema;
use crate::config::types::parse_host;

impl Validation<'_> {
    pub(super) fn action(
        &mut self,
        raw: &schema::Route,
        upstreams: &Names,
        at: &KeyPath,
    ) -> Option<Action> {
        match (&raw.upstream, &raw.split, &raw.redirect, &raw.respond) {
            (Some(name), None, None, None) => {
                let upstream = self.resolve(name, upstreams, at.key("upstream"))?;
                let split = vec![(upstream, 1)];
                Some(Action::Forward(self.forward(raw, split, upstreams, at)))
            }
            (None, Some(split), None, None) => {
                let split = self.split(split, upstreams, &at.key("split"))?;
                Some(Action::Forward(self.forward(raw, split, upstreams, at)))
            }
            (None, None, Some(redirect), None) => {
                self.nothing_to_forward(raw, at);
                self.redirect(redirect, &at.key("redirect"))
            }
            (None, None, None, Some(respond)) => {
                self.nothing_to_forward(raw, at);
                self.respond(respond, &at.key("respond"))
            }
            (None, None, None, None) => {
                let actions = ["upstream", "split", "redirect", "respond"];
                if !actions
                    .iter()
                    .any(|key| self.problems.contains(&at.key(key)))
                {
                    self.problems.add(
                        at.clone(),
                        "does nothing; expected one of \"upstream\", \"split\", \"redirect\" and \"respond\"",
                    );
                }
                None
            }
            _ => {
                self.problems.add(
                    at.clone(),
                    "does several things; expected one of \"upstream\", \"split\", \"redirect\" and \"respond\"",
                );
                None
            }
        }
    }

    fn nothing_to_forward(&mut self, raw: &schema::Route, at: &KeyPath) {
        for (key, is_given) in [
            ("strip_prefix", raw.strip_prefix.is_some()),
            ("preserve_host", raw.preserve_host.is_some()),
            ("timeout", raw.timeout.is_some()),
            ("retry", raw.retry.is_some()),
            ("hedge", raw.hedge.is_some()),
            ("mirror", raw.mirror.is_some()),
            ("priority", raw.priority.is_some()),
            ("split_by", raw.split_by.is_some()),
        ] {
            if is_given {
                self.problems
                    .add(at.key(key), "is for routes with an upstream; leave it out");
            }
        }
    }

    pub(super) fn strip_prefix(&mut self, prefix: &str, at: KeyPath) {
        if prefix.ends_with('/') {
            self.problems.add(
                at,
                format!("{prefix:?} ends with \"/\"; expected for example \"/v1\""),
            );
        } else {
            self.request_path(prefix, at);
        }
    }

    fn redirect(&mut self, raw: &schema::Redirect, at: &KeyPath) -> Option<Action> {
        let status = raw.status.unwrap_or(308);
        if ![301, 302, 303, 307, 308].contains(&status) {
            self.problems.add(
                at.key("status"),
                format!("{status} is not a redirect; expected 301, 302, 303, 307 or 308"),
            );
        }
        Some(Action::Redirect {
            status: StatusCode::from_u16(status).ok()?,
            to: self.redirect_target(raw, at)?,
        })
    }

    fn redirect_target(&mut self, raw: &schema::Redirect, at: &KeyPath) -> Option<RedirectTarget> {
        let has_parts = raw.scheme.is_some() || raw.host.is_some() || raw.port.is_some();
        match &raw.to {
            Some(_) if has_parts => {
                self.problems.add(
                    at.key("to"),
                    "is the whole location; leave \"scheme\", \"host\" and \"port\" out, or \"to\"",
                );
                None
            }
            Some(to) => self.location(to, at.key("to")),
            None if has_parts => Some(self.replaced_parts(raw, at)),
            None => {
                self.problems.add(
                    at.key("to"),
                    "is missing; expected it, or one or more of \"scheme\", \"host\" and \"port\"",
                );
                None
            }
        }
    }

    fn location(&mut self, to: &str, at: KeyPath) -> Option<RedirectTarget> {
        let is_absolute = to.starts_with("http://") || to.starts_with("https://");
        let is_path = to.starts_with('/') && !to.starts_with("//");
        // `Uri` drops a fragment without a word.
        let uri = to.parse::<Uri>().ok();
        let location = uri.filter(|_| (is_absolute || is_path) && !to.contains('#'));
        if location.is_none() {
            self.problems.add(
                at,
                format!("{to:?} is not a location; expected a URL such as \"https://example.com/x\" or a path, without fragment"),
            );
        }
        location.map(RedirectTarget::Location)
    }

    fn replaced_parts(&mut self, raw: &schema::Redirect, at: &KeyPath) -> RedirectTarget {
        if let Some(scheme) = &raw.scheme
            && scheme != "http"
            && scheme != "https"
        {
            self.problems.add(
                at.key("scheme"),
                format!("{scheme:?} is not a scheme; expected \"http\" or \"https\""),
            );
        }
        let host = raw.host.as_deref().and_then(|host| match parse_host(host) {
            Ok(host) => Some(host),
            Err(why) => {
                self.problems.add(
                    at.key("host"),
                    format!("{host:?} {why}; expected for example \"www.example.com\""),
                );
                None
            }
        });
        RedirectTarget::Parts {
            scheme: raw.scheme.clone(),
            host,
            port: raw.port.map(u16::from),
        }
    }

    fn respond(&mut self, raw: &schema::Respond, at: &KeyPath) -> Option<Action> {
        let status = raw.status.unwrap_or(200);
        let body = raw.body.clone().unwrap_or_default();
        if !(200..=599).contains(&status) {
            self.problems.add(
                at.key("status"),
                format!("{status} is not a status of a whole answer; expected 200 to 599"),
            );
        }
        if matches!(status, 204 | 205 | 304) && !body.is_empty() {
            self.problems.add(
                at.key("body"),
                format!("answers with status {status} have no body; leave it out"),
            );
        }
        Some(Action::Respond {
            status: StatusCode::from_u16(status).ok()?,
            body,
        })
    }
}
