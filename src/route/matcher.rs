//! A route's conditions beyond host and path: methods and headers.

use std::cmp::Reverse;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Conditions in a normal form, so that equal ones compare equal however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Matcher {
    /// Empty matches every method.
    methods: Box<[Method]>,
    /// All must be met.
    headers: Box<[(HeaderName, HeaderValue)]>,
}

impl Matcher {
    pub(super) fn new(
        mut methods: Vec<Method>,
        mut headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Self {
        methods.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        methods.dedup();
        headers.sort_by(|(a, x), (b, y)| (a.as_str(), x).cmp(&(b.as_str(), y)));
        headers.dedup();
        Self {
            methods: methods.into(),
            headers: headers.into(),
        }
    }

    /// Sorts the more specific first: methods before none, then by the number of headers.
    pub(super) fn precedence(&self) -> impl Ord + use<> {
        (self.methods.is_empty(), Reverse(self.headers.len()))
    }

    pub(super) fn is_unconditional(&self) -> bool {
        self.methods.is_empty() && self.headers.is_empty()
    }

    /// A header that occurs several times meets a condition with any of its values. A method is met in any case: to servers
    /// `delete` may be `DELETE`, and is not to get around a rule for that.
    pub(super) fn matches(&self, method: &Method, headers: &HeaderMap) -> bool {
        let is_named = || {
            let method = method.as_str();
            let mut named = self.methods.iter().map(Method::as_str);
            named.any(|named| named.eq_ignore_ascii_case(method))
        };
        (self.methods.is_empty() || is_named())
            && self
                .headers
                .iter()
                .all(|(name, value)| headers.get_all(name).iter().any(|given| given == value))
    }
}
