//! How nodes divide what a limit gives: max-min fairness. Whoever wants less than an equal part gets what he wants, and
//! those who want more share the rest equally.

/// What a node has of a budget, and what it wants besides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Claim {
    /// Used already.
    pub(super) used: f64,
    /// Wanted in all, what is used included; infinite if nobody knows how much.
    pub(super) wanted: f64,
}

impl Claim {
    /// Nothing used and so much wanted.
    pub(super) fn of(wanted: f64) -> Self {
        Self { used: 0.0, wanted }
    }
}

/// What `own` may have of `budget` in all. All nodes that see the same claims give themselves no more than the budget
/// together, unless more has been used already; what nobody claims is divided equally.
pub(super) fn entitlement(own: Claim, others: &[Claim], budget: f64) -> f64 {
    let all = || others.iter().chain([&own]);
    let wanted: f64 = all().map(|it| it.wanted.max(it.used)).sum();
    if wanted <= budget {
        return own.wanted.max(own.used) + (budget - wanted) / (others.len() + 1) as f64;
    }
    let at = |level: f64, it: &Claim| level.min(it.wanted).max(it.used);
    let (mut low, mut high) = (0.0, budget.max(0.0));
    for _ in 0..HALVINGS {
        let level = (low + high) / 2.0;
        if all().map(|it| at(level, it)).sum::<f64>() > budget {
            high = level;
        } else {
            low = level;
        }
    }
    at(low, &own)
}

/// Enough to find the level to a millionth of the budget.
const HALVINGS: u32 = 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(used: f64, wanted: f64) -> Claim {
        Claim { used, wanted }
    }

    fn shares(claims: &[Claim], budget: f64) -> Vec<f64> {
        let of = |own: usize| {
            let mut others = claims.to_vec();
            let own = others.swap_remove(own);
            entitlement(own, &others, budget)
        };
        (0..claims.len()).map(of).collect()
    }

    fn assert_shares(claims: &[(f64, f64)], expected: &[f64]) {
        let claims: Vec<_> = claims.iter().map(|it| claim(it.0, it.1)).collect();
        let shares = shares(&claims, 100.0);
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 0.001;
        assert!(
            shares.iter().zip(expected).all(near),
            "{shares:?} are not {expected:?}"
        );
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_the_rest() {
        const ALL: f64 = f64::INFINITY;
        assert_shares(
            &[(0.0, ALL), (0.0, ALL), (0.0, ALL), (0.0, ALL)],
            &[25.0; 4],
        );
        assert_shares(&[(0.0, ALL), (0.0, 10.0), (0.0, 0.0)], &[90.0, 10.0, 0.0]);
        assert_shares(&[(0.0, ALL), (0.0, ALL), (0.0, 20.0)], &[40.0, 40.0, 20.0]);
        assert_shares(&[(0.0, 30.0), (0.0, 0.0)], &[65.0, 35.0]);
        assert_shares(&[(70.0, 75.0), (10.0, ALL)], &[70.0, 30.0]);
        assert_shares(&[(120.0, ALL), (3.0, ALL)], &[120.0, 3.0]);
        assert_shares(&[(0.0, ALL)], &[100.0]);
    }

    proptest! {
        #[test]
        fn nobody_gets_more_than_there_is(claims in prop::collection::vec((0.0..50.0f64, 0.0..200.0f64), 1..9)) {
            let claims: Vec<_> = claims.iter().map(|it| claim(it.0, it.0 + it.1)).collect();
            let used: f64 = claims.iter().map(|it| it.used).sum();
            let sum: f64 = shares(&claims, 100.0).iter().sum();
            prop_assert!(sum <= used.max(100.0) + 0.001, "{}", sum);
            prop_assert!(sum >= used.max(99.99) - 0.001, "{}", sum);
        }
    }
}
