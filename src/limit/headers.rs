//! What a client is told about its quota: header values, formatted without I/O or clock.
//!
//! | field | value |
//! | --- | --- |
//! | `RateLimit-Policy` | `"name";q=requests;w=seconds` (draft-ietf-httpapi-ratelimit-headers-10) |
//! | `RateLimit` | `"name";r=remaining;t=seconds until the quota is whole again` (same) |
//! | `X-RateLimit-Limit` | the most requests that can be left |
//! | `X-RateLimit-Remaining` | requests left |
//! | `X-RateLimit-Reset` | seconds until the quota is whole again: a time span, not a time of day |
//! | `Retry-After` | seconds, on denials only (RFC 9110 section 10.2.3) |
//!
//! Seconds are whole and rounded up, so a client that waits as long as it was told is not early. After a denial nothing
//! is left and the reset is the time until the next request is admitted.

use std::fmt::Write;
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};

use super::{Quota, Verdict};

const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// One limit's header values; what does not depend on the verdict is formatted once.
#[derive(Debug, Clone)]
pub struct QuotaHeaders {
    /// The limit's name as a structured field string (RFC 9651 section 3.3.3), quotes included.
    name: Box<str>,
    policy: HeaderValue,
    capacity: HeaderValue,
}

impl QuotaHeaders {
    /// The headers of the limit `name`. Characters that a structured field string cannot hold become `_`.
    pub fn new(name: &str, quota: &Quota) -> Self {
        let name = quoted(name);
        let policy = format!(
            "{name};q={};w={}",
            quota.requests,
            seconds(quota.window).max(1)
        );
        Self {
            policy: visible(policy),
            capacity: HeaderValue::from(quota.capacity()),
            name: name.into(),
        }
    }

    /// Adds the fields to an answer. The two of the draft are lists, to which this limit's item is appended; the others
    /// are replaced, whatever the upstream said there.
    pub fn apply(&self, verdict: &Verdict, headers: &mut HeaderMap) {
        let (remaining, reset) = match *verdict {
            Verdict::Allow { remaining, reset } => (remaining, seconds(reset)),
            Verdict::Deny { retry_after } => {
                let retry_after = seconds(retry_after).max(1);
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
                (0, retry_after)
            }
        };
        let mut item = String::with_capacity(self.name.len() + 32);
        write!(item, "{};r={remaining};t={reset}", self.name)
            .expect("writing to a string does not fail");
        headers.append(RATELIMIT_POLICY, self.policy.clone());
        headers.append(RATELIMIT, visible(item));
        headers.insert(X_RATELIMIT_LIMIT, self.capacity.clone());
        headers.insert(X_RATELIMIT_REMAINING, HeaderValue::from(remaining));
        headers.insert(X_RATELIMIT_RESET, HeaderValue::from(reset));
    }
}

/// Whole seconds, rounded up, at most what a structured field integer can hold (RFC 9651 section 3.3.1).
fn seconds(duration: Duration) -> u64 {
    const MAX: u64 = 999_999_999_999_999;
    let rounded_up = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(rounded_up).min(MAX)
}

fn quoted(name: &str) -> String {
    let mut quoted = String::from('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('_'),
        }
    }
    quoted.push('"');
    quoted
}

fn visible(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("quoted names and digits are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Algorithm;
    use std::num::NonZeroU32;

    fn quota(algorithm: Algorithm, window: Duration) -> Quota {
        Quota {
            algorithm,
            requests: NonZeroU32::new(5).unwrap(),
            window,
            burst: NonZeroU32::new(8).unwrap(),
        }
    }

    fn lines(quota: &Quota, name: &str, verdict: Verdict) -> Vec<String> {
        let mut headers = HeaderMap::new();
        QuotaHeaders::new(name, quota).apply(&verdict, &mut headers);
        let mut lines: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    }

    #[test]
    fn an_admitted_request_is_told_what_is_left() {
        let quota = quota(Algorithm::FixedWindow, Duration::from_secs(60));
        let verdict = Verdict::Allow {
            remaining: 3,
            reset: Duration::from_millis(41_001),
        };
        assert_eq!(
            lines(&quota, "api", verdict),
            [
                r#"ratelimit-policy: "api";q=5;w=60"#,
                r#"ratelimit: "api";r=3;t=42"#,
                "x-ratelimit-limit: 5",
                "x-ratelimit-remaining: 3",
                "x-ratelimit-reset: 42",
            ]
        );
    }

    #[test]
    fn a_denied_one_when_to_come_back() {
        let quota = quota(Algorithm::TokenBucket, Duration::from_millis(1500));
        for (retry_after, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            let retry_after = Duration::from_millis(retry_after);
            assert_eq!(
                lines(&quota, "api", Verdict::Deny { retry_after }),
                [
                    r#"ratelimit-policy: "api";q=5;w=2"#.to_owned(),
                    format!(r#"ratelimit: "api";r=0;t={told}"#),
                    format!("retry-after: {told}"),
                    "x-ratelimit-limit: 8".to_owned(),
                    "x-ratelimit-remaining: 0".to_owned(),
                    format!("x-ratelimit-reset: {told}"),
                ]
            );
        }
    }

    #[test]
    fn any_name_and_any_time_can_be_told() {
        let quota = quota(Algorithm::SlidingWindow, Duration::ZERO);
        let verdict = Verdict::Deny {
            retry_after: Duration::MAX,
        };
        let told = lines(&quota, "a\"b\\c\nd\u{e9} ~", verdict);
        assert_eq!(told[0], r#"ratelimit-policy: "a\"b\\c_d_ ~";q=5;w=1"#);
    }

    #[test]
    fn an_upstreams_own_policy_stays_in_the_list() {
        let quota = quota(Algorithm::FixedWindow, Duration::from_secs(1));
        let mut headers = HeaderMap::new();
        headers.insert(RATELIMIT, HeaderValue::from_static(r#""theirs";r=1;t=9"#));
        headers.insert(X_RATELIMIT_REMAINING, HeaderValue::from_static("1"));
        let verdict = Verdict::Allow {
            remaining: 4,
            reset: Duration::from_secs(1),
        };
        QuotaHeaders::new("ours", &quota).apply(&verdict, &mut headers);
        assert_eq!(headers.get_all(RATELIMIT).iter().count(), 2);
        assert_eq!(headers.get_all(X_RATELIMIT_REMAINING).iter().count(), 1);
        assert_eq!(headers[X_RATELIMIT_REMAINING], "4");
    }
}
