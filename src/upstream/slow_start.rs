//! A server that has just come gets a share that grows in a straight line, so that its caches fill and its connections
//! open before it has its full share.

use std::time::Duration;

use tokio::time::Instant;

/// By how much weights are multiplied while somebody starts slowly, so that parts of them can be told apart.
const SCALE: u32 = 64;

/// The share that a server has at once, from 0 to 1.
const FIRST: f64 = 0.05;

/// What has come of a server's start at `since`: a share of its weight, from 0 to 1, or `None` when it is over.
pub(super) fn share(since: Instant, now: Instant, length: Duration) -> Option<f64> {
    let age = now.saturating_duration_since(since);
    (age < length).then(|| (age.as_secs_f64() / length.as_secs_f64()).max(FIRST))
}

/// The weights of servers of which some have a share only. If that is all of them, their weights are as without.
pub(super) fn weights(servers: &[(u32, Option<f64>)]) -> Vec<u32> {
    let some = servers.iter().any(|(_, share)| share.is_some());
    let all = servers.iter().all(|(_, share)| share.is_some());
    if !some || all {
        return servers.iter().map(|(weight, _)| *weight).collect();
    }
    let scaled = servers.iter().map(|(weight, share)| {
        let scaled = weight * SCALE;
        share.map_or(scaled, |share| ((f64::from(scaled) * share) as u32).max(1))
    });
    scaled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_to_the_whole() {
        let start = Instant::now();
        let length = Duration::from_secs(30);
        let at = |seconds| share(start, start + Duration::from_secs(seconds), length);
        assert_eq!(at(0), Some(FIRST));
        assert_eq!(at(15), Some(0.5));
        assert_eq!(at(27), Some(0.9));
        assert_eq!(at(30), None);
        assert_eq!(share(start, start, Duration::ZERO), None, "switched off");
    }

    #[test]
    fn weights_are_scaled_only_while_some_and_not_all_start() {
        assert_eq!(weights(&[(1, None), (3, None)]), [1, 3]);
        assert_eq!(weights(&[(1, Some(0.5)), (3, Some(0.1))]), [1, 3]);
        assert_eq!(weights(&[(1, Some(0.5)), (3, None)]), [32, 192]);
        assert_eq!(weights(&[(1, Some(0.001)), (256, None)]), [1, 16_384]);
        assert!(weights(&[]).is_empty());
    }
}
