//! When somebody should be told that a node is alone, or that others' datagrams do not open: often enough to be seen, and
//! never as often as anybody likes to send.

use std::time::{Duration, Instant};

/// Pause between two warnings that nobody answers.
const ALONE_PAUSE: Duration = Duration::from_secs(5 * 60);
/// Pause between two warnings of datagrams that do not open, wherever they come from: anybody can send them.
const FORGED_PAUSE: Duration = Duration::from_secs(60);

/// What there is to be said of a node's company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    /// Nobody has answered for so long.
    Nobody(Duration),
    /// Somebody is there, after nobody had been.
    Somebody,
}

/// Watches whether anybody is there.
#[derive(Debug, Default)]
pub(super) struct Loneliness {
    /// Since when nobody has been.
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Loneliness {
    /// Looks, once a round. `alone`: there are places to look for others, and nobody is there. It is worth a word once it has
    /// lasted for `patience`.
    pub(super) fn look(
        &mut self,
        alone: bool,
        patience: Duration,
        now: Instant,
    ) -> Option<Company> {
        if !alone {
            self.since = None;
            return self.told.take().map(|_| Company::Somebody);
        }
        let since = *self.since.get_or_insert(now);
        let lasted = now.saturating_duration_since(since);
        let is_due = lasted >= patience && has_passed(ALONE_PAUSE, self.told, now);
        is_due.then(|| {
            self.told = Some(now);
            Company::Nobody(lasted)
        })
    }
}

/// Counts datagrams that do not open.
#[derive(Debug, Default)]
pub(super) struct Forgeries {
    untold: u64,
    told: Option<Instant>,
}

impl Forgeries {
    /// Notes one. Gives how many have come since the last warning, if it is time for one.
    pub(super) fn note(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        has_passed(FORGED_PAUSE, self.told, now).then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.untold)
        })
    }
}

fn has_passed(pause: Duration, last: Option<Instant>, now: Instant) -> bool {
    last.is_none_or(|last| now.saturating_duration_since(last) >= pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(4);

    /// What is said in rounds of half a second, and at which second.
    fn said(watch: &mut Loneliness, start: Instant, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let rounds = (seconds.start * 2..seconds.end * 2)
            .map(|round| start + Duration::from_millis(500) * round as u32);
        let said = rounds.filter(|now| watch.look(true, PATIENCE, *now).is_some());
        said.map(|now| (now - start).as_secs()).collect()
    }

    #[test]
    fn being_alone_is_told_once_and_again_every_few_minutes() {
        let start = Instant::now();
        let mut watch = Loneliness::default();
        assert_eq!(said(&mut watch, start, 0..700), [4, 304, 604]);
    }

    #[test]
    fn company_is_told_of_only_after_its_lack_was() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = Loneliness::default();
        assert_eq!(watch.look(true, PATIENCE, at(0)), None);
        assert_eq!(watch.look(false, PATIENCE, at(1)), None);
        // Alone anew: it is waited for as long as before.
        assert_eq!(watch.look(true, PATIENCE, at(5)), None);
        let alone = Some(Company::Nobody(PATIENCE));
        assert_eq!(watch.look(true, PATIENCE, at(9)), alone);
        assert_eq!(watch.look(false, PATIENCE, at(10)), Some(Company::Somebody));
        assert_eq!(watch.look(false, PATIENCE, at(11)), None);
    }

    #[test]
    fn forgeries_are_told_of_once_a_minute_with_their_count() {
        let start = Instant::now();
        let mut count = Forgeries::default();
        let told = (0..130_000).filter_map(|millis| {
            let now = start + Duration::from_millis(millis);
            count.note(now).map(|forged| (millis, forged))
        });
        let told: Vec<_> = told.collect();
        assert_eq!(told, [(0, 1), (60_000, 60_000), (120_000, 60_000)]);
    }
}
