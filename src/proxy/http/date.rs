//! The Date of answers that have none (RFC 9110, section 6.6.1), made once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use httpdate::HttpDate;
use tokio::time::Instant;

use crate::net::clock;

/// A worker's date.
#[derive(Debug, Default)]
pub struct Date(RefCell<Option<Cached>>);

#[derive(Debug)]
struct Cached {
    text: HeaderValue,
    until: Instant,
}

impl Date {
    /// Writes the date.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.with(|date| out.extend_from_slice(date.as_bytes()));
    }

    /// The date as a field's value.
    pub fn value(&self) -> HeaderValue {
        self.with(HeaderValue::clone)
    }

    fn with<T>(&self, use_it: impl FnOnce(&HeaderValue) -> T) -> T {
        let mut cached = self.0.borrow_mut();
        let now = clock::now();
        let fresh = cached.take().filter(|cached| now < cached.until);
        let date = fresh.unwrap_or_else(|| Cached::new(now, SystemTime::now()));
        let used = use_it(&date.text);
        *cached = Some(date);
        used
    }
}

impl Cached {
    /// The date at `time`, good until that second is over.
    fn new(now: Instant, time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let rest = Duration::from_secs(1)
            .saturating_sub(Duration::from_nanos(u64::from(since.subsec_nanos())));
        let text = HttpDate::from(time).to_string();
        Self {
            text: HeaderValue::try_from(text).expect("a date is text"),
            until: now + rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_kept_until_the_second_is_over() {
        let time = UNIX_EPOCH + Duration::from_millis(784_111_777_250);
        let date = Cached::new(Instant::now(), time);
        assert_eq!(date.text, "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(date.until - Instant::now(), Duration::from_millis(750));
    }

    #[test]
    fn it_is_written_as_it_is() {
        let date = Date::default();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        date.write(&mut first);
        date.write(&mut second);
        assert_eq!(first.len(), 29);
        assert!(second.ends_with(b" GMT"));
    }
}
