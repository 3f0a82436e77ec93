//! How a route forwards: to which upstreams, and what is done when a server fails or is slow.

use std::time::Duration;

use http::{HeaderName, StatusCode};

use crate::config::types::Percent;

/// How a route forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Upstreams, as indices into `Config::upstreams`, and their weights. At least one entry, one weight above 0, and no
    /// upstream twice; from `upstream = "x"` there is one entry.
    pub split: Vec<(usize, u32)>,
    /// What decides which upstream of a split gets a request; random where there is one.
    pub split_by: SplitKey,
    /// Where copies of requests are sent; none by default.
    pub mirror: Option<Mirror>,
    /// Removed from the front of the path, at a segment boundary.
    pub strip_prefix: Option<String>,
    /// `true` (default) sends the client's Host, `false` the server's address.
    pub preserve_host: bool,
    /// To the response's headers; default the upstream's `response` timeout.
    pub timeout: Option<Duration>,
    /// See the fields.
    pub retry: Retry,
    /// A second request when the first one is slow; none by default.
    pub hedge: Option<Hedge>,
    /// Who goes first when there is too much; default normal.
    pub priority: Priority,
}

impl Forward {
    /// The upstreams that the route may send requests to, as indices: those of the split, then the mirror.
    pub fn upstreams(&self) -> impl Iterator<Item = usize> + '_ {
        let mirror = self.mirror.iter().map(|mirror| mirror.upstream);
        self.split.iter().map(|(index, _)| *index).chain(mirror)
    }
}

/// What decides which upstream of a split gets a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SplitKey {
    /// Each request by itself.
    Random,
    /// The client's address.
    ClientIp,
    /// A request header's value.
    Header(HeaderName),
    /// A cookie's value.
    Cookie(String),
}

/// Where copies of requests are sent; their answers are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mirror {
    /// Index into `Config::upstreams`; none of the route's own.
    pub upstream: usize,
    /// Of the route's requests; default all.
    pub share: Percent,
    /// Requests with a larger body, in bytes, are not copied; default 64 KiB.
    pub max_body: u64,
}

/// When a request is tried again, on another endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Further tries; default 2, 0 is none.
    pub attempts: u32,
    /// When there was no connection; default true.
    pub connect: bool,
    /// When the connection ended before an answer; default true.
    pub reset: bool,
    /// When there was no answer in time; default false, true with a `per_try_timeout`.
    pub timeout: bool,
    /// When an answer has one of these, 5xx, 425 or 429; sorted, default 502, 503 and 504.
    pub statuses: Vec<StatusCode>,
    /// To the response's headers, for each try; at most `Forward::timeout`. Default none.
    pub per_try_timeout: Option<Duration>,
    /// Further tries may be this share of the requests; default 20 %.
    pub budget: Percent,
    /// The wait before a further try, before jitter; default 25 ms, zero is none.
    pub backoff: Duration,
    /// Requests with a larger body, in bytes, are not tried again once some of it was sent; default 64 KiB.
    pub max_body: u64,
}

/// A second request, to another endpoint, when the first one is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// How slow; default the 95th percentile.
    pub after: HedgeAfter,
    /// Second requests may be this share of the requests; default 2 %.
    pub budget: Percent,
}

/// When a second request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HedgeAfter {
    /// When 95 % of the answers would have come.
    P95,
    /// After this long.
    Fixed(Duration),
}

/// Who goes first when there is too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Priority {
    /// Before the others.
    High,
    /// The default.
    Normal,
    /// After the others.
    Low,
    /// By this request header: `high`, `normal` or `low`; anything else is normal.
    Header(HeaderName),
}
