//! The windows against independent models, over random traffic and clocks.

use std::num::NonZeroU32;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limit::Algorithm;

fn quota(requests: u32, window: u64) -> Quota {
    let requests = NonZeroU32::new(requests).unwrap();
    Quota {
        algorithm: Algorithm::FixedWindow,
        requests,
        window: Duration::from_millis(window),
        burst: requests,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Requests at growing times: steps of up to 400 ms, many of them zero.
fn arrivals() -> impl Strategy<Value = Vec<u64>> {
    let step = prop_oneof![Just(0), 0u64..20, 0u64..400];
    prop::collection::vec(step, 1..300).prop_map(|steps| {
        steps
            .into_iter()
            .scan(1_000_000, |now, step| {
                *now += step;
                Some(*now)
            })
            .collect()
    })
}

#[test]
fn a_fixed_window_starts_with_its_first_request() {
    let window = FixedWindow::new(&quota(2, 100));
    let (state, first) = window.check(FixedState::default(), 42);
    let reset = Duration::from_millis(100);
    assert_eq!(
        first,
        Verdict::Allow {
            remaining: 1,
            reset
        }
    );
    let (state, second) = window.check(state, 92);
    let reset = Duration::from_millis(50);
    assert_eq!(
        second,
        Verdict::Allow {
            remaining: 0,
            reset
        }
    );
    let (state, third) = window.check(state, 141);
    let retry_after = Duration::from_millis(1);
    assert_eq!(third, Verdict::Deny { retry_after });
    assert!(window.check(state, 142).1.is_allowed());
}

#[test]
fn a_sliding_window_weighs_the_one_before() {
    let window = SlidingWindow::new(&quota(6, 100));
    let state = SlidingState {
        index: 7,
        previous: 4,
        current: 3,
    };
    // 4 * 1/2 + 3 = 5: one more fits, and then none.
    let (state, verdict) = window.check(state, 750);
    let reset = Duration::from_millis(150);
    assert_eq!(
        verdict,
        Verdict::Allow {
            remaining: 0,
            reset
        }
    );
    let (same, verdict) = window.check(state, 750);
    let retry_after = Duration::from_millis(25);
    assert_eq!((same, verdict), (state, Verdict::Deny { retry_after }));
}

#[test]
fn sub_millisecond_windows_are_one_millisecond() {
    let mut quota = quota(1, 0);
    assert_eq!(quota.window_millis(), 1);
    quota.window = Duration::from_micros(1500);
    assert_eq!(quota.window_millis(), 2);
    quota.window = Duration::MAX;
    let window = SlidingWindow::new(&quota);
    window.check(SlidingState::default(), u64::MAX);
}

proptest! {
    /// A list of admitted times is the model: the window is open from its first entry on.
    #[test]
    fn a_fixed_window_admits_its_limit_and_no_more(
        limit in 1u32..20, length in 1u64..1000, arrivals in arrivals(),
    ) {
        let window = FixedWindow::new(&quota(limit, length));
        let (mut state, mut in_window) = (FixedState::default(), Vec::new());
        for now in arrivals {
            if in_window.first().is_some_and(|start| now >= start + length) {
                in_window.clear();
            }
            let (next, verdict) = window.check(state, now);
            prop_assert_eq!(verdict.is_allowed(), in_window.len() < limit as usize);
            match verdict {
                Verdict::Allow { remaining, .. } => {
                    in_window.push(now);
                    prop_assert_eq!(remaining as usize, limit as usize - in_window.len());
                }
                Verdict::Deny { retry_after } => {
                    let retry_at = now + millis(retry_after);
                    prop_assert!(window.check(next, retry_at).1.is_allowed());
                    prop_assert!(!window.check(next, retry_at - 1).1.is_allowed());
                }
            }
            state = next;
        }
    }

    /// A log of all admitted times is the model, counted anew for each request.
    #[test]
    fn a_sliding_window_keeps_its_estimate_within_the_limit(
        limit in 1u32..20, length in 1u64..1000, arrivals in arrivals(),
    ) {
        let window = SlidingWindow::new(&quota(limit, length));
        let (mut state, mut log) = (SlidingState::default(), Vec::<u64>::new());
        for now in arrivals {
            let in_window = |index: u64| {
                log.iter().filter(|&&at| at / length == index).count() as u64
            };
            let index = now / length;
            let in_view = length - now % length;
            let estimate = in_window(index - 1) * in_view + in_window(index) * length;
            let fits = estimate + length <= u64::from(limit) * length;

            let (next, verdict) = window.check(state, now);
            prop_assert_eq!(verdict.is_allowed(), fits);
            match verdict {
                Verdict::Allow { remaining, reset } => {
                    log.push(now);
                    let room = u64::from(limit) * length - estimate - length;
                    prop_assert_eq!(u64::from(remaining), room / length);
                    prop_assert!(window.is_over(next, now + millis(reset)));
                    prop_assert!(!window.is_over(next, now + millis(reset) - 1));
                }
                Verdict::Deny { retry_after } => {
                    let retry_at = now + millis(retry_after);
                    prop_assert!(window.check(next, retry_at).1.is_allowed());
                    prop_assert!(!window.check(next, retry_at - 1).1.is_allowed());
                }
            }
            state = next;
        }
    }

    /// However the clock jumps within one window's length, that window's limit holds, and the promise of
    /// `retry_after` as well.
    #[test]
    fn a_clock_that_jumps_gives_nothing_away(
        limit in 1u32..10, times in prop::collection::vec(5000u64..6000, 1..100),
    ) {
        let fixed = FixedWindow::new(&quota(limit, 1000));
        let sliding = SlidingWindow::new(&quota(limit, 1000));
        let (mut fixed_state, mut sliding_state) = (FixedState::default(), SlidingState::default());
        let mut admitted = (0, 0);
        for now in times {
            let (next, verdict) = fixed.check(fixed_state, now);
            fixed_state = next;
            admitted.0 += u32::from(verdict.is_allowed());
            if let Verdict::Deny { retry_after } = verdict {
                prop_assert!(fixed.check(next, now + millis(retry_after)).1.is_allowed());
            }
            let (next, verdict) = sliding.check(sliding_state, now);
            sliding_state = next;
            admitted.1 += u32::from(verdict.is_allowed());
        }
        prop_assert!(admitted.0 <= limit && admitted.1 <= limit);

        let (behind, verdict) = sliding.check(sliding_state, 3000);
        prop_assert_eq!(behind.index, sliding_state.index);
        if let Verdict::Deny { retry_after } = verdict {
            prop_assert!(sliding.check(behind, 3000 + millis(retry_after)).1.is_allowed());
        }
    }
}
