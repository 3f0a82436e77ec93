//! A key's state in one atomic word, so that a compare-and-swap updates it as a whole.
//!
//! ```text
//! bit 63    62 … 0
//! retired   fixed window    start in ticks          | count
//!           sliding window  low bits of the index   | previous | current
//!           token bucket    theoretical arrival time in nanoseconds (292 years)
//! ```
//!
//! A count takes as many bits as the quota needs and leaves the others to the time. A zero word is a key that was
//! never seen.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::bucket::TokenBucket;
use super::super::window::{FixedState, FixedWindow, SlidingState, SlidingWindow};
use super::super::{Algorithm, Quota, Verdict};

const RETIRED: u64 = 1 << 63;
const STATE_BITS: u32 = 63;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// One key's state.
#[derive(Default)]
pub(super) struct Cell(AtomicU64);

// Relaxed is enough throughout: the word is all that a cell has, and no other memory is read on its account.
impl Cell {
    /// Counts one request by a rule that makes of a state the next one and a verdict; `None` when the cell has been
    /// retired.
    pub(super) fn check_by(&self, rule: impl Fn(u64) -> (u64, Verdict)) -> Option<Verdict> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            if word == RETIRED {
                return None;
            }
            let (next, verdict) = rule(word);
            // A denied request writes nothing: a flood of them does not pass the cache line around.
            if !verdict.is_allowed() {
                return Some(verdict);
            }
            match self.replace(word, next) {
                Ok(()) => return Some(verdict),
                Err(current) => word = current,
            }
        }
    }

    /// Marks the cell as removed if its state has run out; returns whether it is marked.
    pub(super) fn retire(&self, ledger: &Ledger, now: u64) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        word == RETIRED || (ledger.is_over(word, now) && self.replace(word, RETIRED).is_ok())
    }

    /// Forgets a state that has run out, lest the clock come round to it.
    pub(super) fn clear(&self, ledger: &Ledger, now: u64) {
        let word = self.0.load(Ordering::Relaxed);
        if word != 0 && ledger.is_over(word, now) {
            // A request that came first has put a live state there.
            let _ = self.replace(word, 0);
        }
    }

    /// The state, unless it has been retired.
    pub(super) fn state(&self) -> Option<u64> {
        let word = self.0.load(Ordering::Relaxed);
        (word != RETIRED).then_some(word)
    }

    pub(super) fn is_retired(&self) -> bool {
        self.0.load(Ordering::Relaxed) == RETIRED
    }

    fn replace(&self, word: u64, next: u64) -> Result<(), u64> {
        self.0
            .compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed)
            .map(drop)
    }
}

/// How a quota is counted, and how its state is written into a word.
pub(super) enum Ledger {
    Fixed(FixedWindow, FixedLayout),
    Sliding(SlidingWindow, SlidingLayout),
    Bucket(TokenBucket),
}

impl Ledger {
    pub(super) fn new(quota: &Quota) -> Self {
        let limit = quota.requests.get();
        match quota.algorithm {
            Algorithm::FixedWindow => Self::Fixed(FixedWindow::new(quota), FixedLayout::new(limit)),
            Algorithm::SlidingWindow => {
                Self::Sliding(SlidingWindow::new(quota), SlidingLayout::new(limit))
            }
            Algorithm::TokenBucket => Self::Bucket(TokenBucket::new(quota)),
        }
    }

    pub(super) fn check(&self, word: u64, now: u64) -> (u64, Verdict) {
        let millis = now / NANOS_PER_MILLI;
        match self {
            Self::Fixed(window, layout) => {
                let (state, verdict) = window.check(layout.unpack(word), millis);
                (layout.pack(state), verdict)
            }
            Self::Sliding(window, layout) => {
                let state = layout.unpack(word, window.index(millis));
                let (state, verdict) = window.check(state, millis);
                (layout.pack(state), verdict)
            }
            Self::Bucket(bucket) => {
                let (tat, verdict) = bucket.check(word, now);
                (tat.min(RETIRED - 1), verdict)
            }
        }
    }

    fn is_over(&self, word: u64, now: u64) -> bool {
        let millis = now / NANOS_PER_MILLI;
        match self {
            Self::Fixed(window, layout) => window.is_over(layout.unpack(word), millis),
            Self::Sliding(window, layout) => {
                window.is_over(layout.unpack(word, window.index(millis)), millis)
            }
            Self::Bucket(bucket) => bucket.is_full(word, now),
        }
    }
}

/// A tick is a millisecond for quotas of up to 2^24 requests and up to 256 ms beyond, so that the start always has
/// room for 17 years.
#[derive(Debug, Clone, Copy)]
pub(super) struct FixedLayout {
    count_bits: u32,
    tick_shift: u32,
}

impl FixedLayout {
    fn new(limit: u32) -> Self {
        let count_bits = bits(limit);
        Self {
            count_bits,
            tick_shift: count_bits.saturating_sub(24),
        }
    }

    fn pack(self, state: FixedState) -> u64 {
        let start = low(state.start >> self.tick_shift, STATE_BITS - self.count_bits);
        start << self.count_bits | u64::from(state.count)
    }

    fn unpack(self, word: u64) -> FixedState {
        FixedState {
            start: word >> self.count_bits << self.tick_shift,
            count: low(word, self.count_bits) as u32,
        }
    }
}

/// The current count is exact. The previous one keeps its 16 highest bits, rounded up so that nothing is given away.
/// The index keeps its low bits, at least 14, and is restored as the one nearest to now; sweeps remove a state long
/// before the index comes round to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlidingLayout {
    limit: u32,
    count_bits: u32,
    previous_bits: u32,
    previous_shift: u32,
}

impl SlidingLayout {
    fn new(limit: u32) -> Self {
        let count_bits = bits(limit);
        Self {
            limit,
            count_bits,
            // One bit more than is kept, for what rounding up carries.
            previous_bits: count_bits.min(17),
            previous_shift: count_bits.saturating_sub(16),
        }
    }

    fn index_bits(self) -> u32 {
        STATE_BITS - self.previous_bits - self.count_bits
    }

    fn pack(self, state: SlidingState) -> u64 {
        let index = low(state.index, self.index_bits());
        let previous = u64::from(state.previous).div_ceil(1 << self.previous_shift);
        (index << self.previous_bits | previous) << self.count_bits | u64::from(state.current)
    }

    fn unpack(self, word: u64, index_now: u64) -> SlidingState {
        let current = low(word, self.count_bits) as u32;
        let previous = low(word >> self.count_bits, self.previous_bits) << self.previous_shift;
        // An empty state has no time of its own.
        if current == 0 && previous == 0 {
            return SlidingState {
                index: index_now,
                ..SlidingState::default()
            };
        }
        let index = word >> (self.count_bits + self.previous_bits);
        SlidingState {
            index: nearest(index, self.index_bits(), index_now),
            // Rounding up must not go beyond what any window can have admitted.
            previous: previous.min(u64::from(self.limit)) as u32,
            current,
        }
    }
}

/// How many bits the numbers up to `max` take.
fn bits(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// The low `bits` of `number`; fewer than 64.
fn low(number: u64, bits: u32) -> u64 {
    number & ((1 << bits) - 1)
}

/// The number nearest to `near` whose low `bits` are these.
fn nearest(low_bits: u64, bits: u32, near: u64) -> u64 {
    let unused = u64::BITS - bits;
    let ahead = (low_bits.wrapping_sub(near) << unused).cast_signed() >> unused;
    near.saturating_add_signed(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::num::NonZeroU32;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;
    use std::{hint, thread};

    /// A request and a sweep meet at a state that has run out: whoever is first, the other one knows.
    #[test]
    fn a_cell_is_either_retired_or_counted_in() {
        const ROUNDS: u32 = 50_000;
        let requests = NonZeroU32::MIN;
        let window = Duration::from_millis(1);
        for algorithm in [Algorithm::FixedWindow, Algorithm::TokenBucket] {
            let ledger = Ledger::new(&Quota {
                algorithm,
                requests,
                window,
                burst: requests,
            });
            let later = 2 * NANOS_PER_MILLI;
            let cells: Vec<_> = (0..ROUNDS).map(|_| Cell::default()).collect();
            for cell in &cells {
                assert!(cell.check_by(|word| ledger.check(word, 0)).is_some());
            }
            // Each side says which round it has come to and waits for the other, so that both act at the same time.
            let rounds = [AtomicU32::new(0), AtomicU32::new(0)];
            let meet = |mine: usize, round: u32| {
                rounds[mine].store(round, Ordering::Release);
                while rounds[1 - mine].load(Ordering::Acquire) < round {
                    thread::yield_now();
                }
                // A little earlier or later each time.
                for _ in 0..(round >> (4 * mine)) % 16 {
                    hint::spin_loop();
                }
            };
            let (retired, counted) = thread::scope(|scope| {
                let sweep = scope.spawn(|| -> Vec<bool> {
                    let rounds = (1..).zip(&cells);
                    let retire = |(round, cell): (u32, &Cell)| {
                        meet(0, round);
                        cell.retire(&ledger, later)
                    };
                    rounds.map(retire).collect()
                });
                let rounds = (1..).zip(&cells);
                let check = |(round, cell): (u32, &Cell)| {
                    meet(1, round);
                    cell.check_by(|word| ledger.check(word, later)).is_some()
                };
                let counted: Vec<_> = rounds.map(check).collect();
                (sweep.join().unwrap(), counted)
            });
            assert!(
                retired
                    .iter()
                    .zip(&counted)
                    .all(|(retired, counted)| retired != counted)
            );
        }
    }

    #[test]
    fn numbers_are_restored_around_the_wrap() {
        for (number, near) in [
            (5, 5),
            (4, 5),
            (6, 5),
            (1023, 1024),
            (1025, 1023),
            (1024, 1023),
        ] {
            assert_eq!(nearest(low(number, 10), 10, near), number);
        }
    }

    #[test]
    fn layouts_fill_the_word_and_no_more() {
        for limit in [1, 2, 1000, 65_535, 65_536, 1 << 24, u32::MAX] {
            let sliding = SlidingLayout::new(limit);
            assert!(sliding.index_bits() >= 14);
            let full = SlidingState {
                index: u64::MAX,
                previous: limit,
                current: limit,
            };
            assert_eq!(sliding.pack(full) & RETIRED, 0);
            assert_eq!(sliding.unpack(sliding.pack(full), 7).previous, limit);
            let fixed = FixedLayout::new(limit);
            let full = FixedState {
                start: u64::MAX,
                count: limit,
            };
            assert_eq!(fixed.pack(full) & RETIRED, 0);
        }
    }

    proptest! {
        #[test]
        fn fixed_states_survive(
            limit in 1u32.., start in 0u64..1 << 39, fill in 0.0..=1.0f64,
        ) {
            let layout = FixedLayout::new(limit);
            let count = (f64::from(limit) * fill) as u32;
            let state = layout.unpack(layout.pack(FixedState { start, count }));
            prop_assert_eq!(state.count, count);
            prop_assert!(state.start <= start && start - state.start < 1 << layout.tick_shift);
        }

        #[test]
        fn sliding_states_survive(
            limit in 1u32..,
            fill in (0.0..=1.0f64, 0.0..=1.0f64),
            index in 10_000u64..1 << 40,
            ago in 0u64..8000,
        ) {
            let layout = SlidingLayout::new(limit);
            let previous = (f64::from(limit) * fill.0) as u32;
            let current = (f64::from(limit) * fill.1) as u32;
            let word = layout.pack(SlidingState { index, previous, current });
            let state = layout.unpack(word, index + ago);
            prop_assert_eq!(state.current, current);
            prop_assert!(state.previous >= previous);
            prop_assert!(u64::from(state.previous - previous) <= u64::from(limit) >> 15);
            if previous > 0 || current > 0 {
                prop_assert_eq!(state.index, index);
            }
        }
    }
}
