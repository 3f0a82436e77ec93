//! Tests of the Maglev table: its shares, what it depends on, and what a change moves.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};

use super::super::tests::{Server, members};
use super::*;

fn slots_of(table: &[u32], member: usize) -> usize {
    table.iter().filter(|&&it| it as usize == member).count()
}

/// The identities that the slots belong to, which can be compared between sets of members.
fn identities(members: &[Member]) -> Vec<u64> {
    let table = ConsistentHash::new(members).table;
    table
        .iter()
        .map(|&member| members[member as usize].identity)
        .collect()
}

fn pick(strategy: &ConsistentHash, set: &[Server], hash: u64, seed: u64) -> Option<usize> {
    let mut pick = Pick {
        rng: &mut fastrand::Rng::with_seed(seed),
        now: std::time::Instant::now(),
        hash,
        retry: false,
    };
    strategy.pick(set, &mut pick)
}

#[test]
fn sizes_are_primes_with_enough_slots() {
    for size in SIZES {
        assert!(
            (2..)
                .take_while(|it| it * it <= size)
                .all(|it| size % it != 0)
        );
    }
    for (count, size) in [(1, 65_537), (655, 65_537), (656, 262_147)] {
        let strategy = ConsistentHash::new(&members(&vec![1; count]));
        assert_eq!(strategy.table.len(), size);
    }
}

#[test]
fn equal_members_have_equally_many_slots() {
    let table = ConsistentHash::new(&members(&[4; 7])).table;
    for member in 0..7 {
        assert!(slots_of(&table, member).abs_diff(65_537 / 7) <= 1);
    }
}

#[test]
fn slots_follow_the_weights() {
    let weights = [1, 256, 2, 64, 30, 7];
    let table = ConsistentHash::new(&members(&weights)).table;
    for (member, weight) in weights.into_iter().enumerate() {
        let share = 65_537 * weight as usize / 360;
        let slots = slots_of(&table, member);
        assert!(slots.abs_diff(share) <= 4, "{slots} instead of {share}");
    }
}

#[test]
fn nobody_is_left_without_a_slot() {
    let mut weights = vec![256; 600];
    weights[300] = 1;
    let table = ConsistentHash::new(&members(&weights)).table;
    assert!(slots_of(&table, 300) > 0);
}

#[test]
fn the_table_never_changes_between_versions() {
    let strategy = ConsistentHash::new(&members(&[1, 2, 3, 1]));
    let fingerprint = strategy.table.iter().fold(0, |fingerprint, member| {
        xxh3_64_with_seed(&member.to_le_bytes(), fingerprint)
    });
    // Another result here would move the keys of everyone who upgrades.
    assert_eq!(fingerprint, 9_593_600_034_190_951_490);
}

#[test]
fn a_removed_member_moves_little_besides_its_own_keys() {
    for count in [2, 3, 10, 100] {
        let mut members = members(&vec![1; count]);
        let before = identities(&members);
        let removed = members.remove(count / 2).identity;
        let after = identities(&members);

        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let own = before.iter().filter(|&&it| it == removed).count();
        assert!(
            moved - own <= before.len() / 100,
            "{count}: {moved} of which {own} had to"
        );
    }
}

#[test]
fn a_changed_weight_moves_little_besides_the_difference() {
    let mut members = members(&[4, 8, 8, 8, 8, 4]);
    let before = identities(&members);
    members[0].weight = 3;
    let after = identities(&members);
    let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
    // From 4/40 to 3/39.
    let difference = before.len() / 10 - before.len() / 13;
    assert!(
        moved <= difference + before.len() / 100,
        "{moved} instead of {difference}"
    );
}

#[test]
fn all_workers_agree_on_the_next_choice() {
    let strategy = ConsistentHash::new(&members(&[1; 5]));
    let mut set = [Server::idle(); 5];
    set[2].available = false;
    let mut picked = [0_usize; 5];
    for hash in (0..20_000).map(|key: u64| xxhash_rust::xxh3::xxh3_64(&key.to_le_bytes())) {
        let owner = strategy.member_for(hash);
        let choice = pick(&strategy, &set, hash, 1);
        assert_eq!(choice, pick(&strategy, &set, hash, 2));
        if owner == 2 {
            picked[choice.unwrap()] += 1;
        } else {
            assert_eq!(choice, Some(owner));
        }
    }
    // What it leaves over, about 4,000 keys, goes to all the others.
    for others in [0, 1, 3, 4] {
        assert!(picked[others].abs_diff(1_000) < 150, "{picked:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_table_does_not_depend_on_the_order_of_members(
        weights in prop::collection::vec(1_u32..=256, 1..30),
        seed in any::<u64>(),
    ) {
        let mut members = members(&weights);
        let before = identities(&members);
        fastrand::Rng::with_seed(seed).shuffle(&mut members);
        prop_assert_eq!(before, identities(&members));
    }
}
