//! All addresses of one family, as ranges that are allowed and ranges that are not, in turns.
//!
//! Of networks within networks only the answers matter. Neighbours with the same answer are one range, so that answers
//! alternate, and a range's number says which it has: what is kept is the borders, in order, 4 or 16 bytes each. A look
//! into an index by the leading bits in which borders differ leaves a few borders among which to search. Where borders
//! crowd, as in lists of single addresses of one network, it is a binary search among those.
//!
//! A multibit trie would need one to three dependent reads too, and more memory: a table of 100,000 networks is 1 MB here
//! and fits the processor's second-level cache.

/// How many leading bits the index has at most: 256 KB.
const INDEX_BITS: u32 = 16;

/// The bits of an address.
pub(super) trait Bits: Copy + Ord {
    /// How many leading bits it shares with another.
    fn shared(self, other: Self) -> u32;

    /// Its `count` bits after the first `skip`; zeros where it has no more.
    fn slice(self, skip: u32, count: u32) -> usize;

    /// The address after it, if it is not the last.
    fn next(self) -> Option<Self>;
}

impl Bits for u32 {
    fn shared(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    fn slice(self, skip: u32, count: u32) -> usize {
        (u64::from(self) << (32 + skip) >> (64 - count)) as usize
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Bits for u128 {
    fn shared(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    fn slice(self, skip: u32, count: u32) -> usize {
        (self << skip >> (128 - count)) as usize
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

/// A network, from its first address to its last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Net<T> {
    pub(super) first: T,
    pub(super) last: T,
    pub(super) allowed: bool,
}

/// Which addresses are allowed.
#[derive(Debug)]
pub(super) struct Ranges<T> {
    /// Whether those before the first border are.
    first: bool,
    /// The addresses from which on the answer is the other one, in order.
    borders: Box<[T]>,
    /// How many leading bits all borders share.
    skip: u32,
    /// How many bits after them the index has, at least one.
    bits: u32,
    /// How many borders are before those with these bits; empty without borders.
    index: Box<[u32]>,
}

impl<T: Bits> Ranges<T> {
    /// What comes of these networks, each of which lies within another one or apart from it. Addresses in none of them are
    /// allowed if `others` are.
    pub(super) fn new(zero: T, mut nets: Vec<Net<T>>, others: bool) -> Self {
        // Whatever lies within another comes after it; of the same network twice the denial does.
        nets.sort_unstable_by(|a, b| {
            let by_place = a.first.cmp(&b.first).then(b.last.cmp(&a.last));
            by_place.then(b.allowed.cmp(&a.allowed))
        });
        let mut turns = vec![(zero, others)];
        let mut around: Vec<Net<T>> = Vec::new();
        for net in nets {
            while let Some(before) = around.pop_if(|it| it.last < net.first) {
                leave(&mut turns, before, &around, others);
            }
            turn(&mut turns, net.first, net.allowed);
            around.push(net);
        }
        while let Some(last) = around.pop() {
            leave(&mut turns, last, &around, others);
        }
        let first = turns[0].1;
        Self::between(first, turns[1..].iter().map(|(at, _)| *at).collect())
    }

    fn between(first: bool, borders: Box<[T]>) -> Self {
        let [lowest, .., highest] = *borders else {
            // None, or one: there is nothing to search in.
            return Self {
                first,
                borders,
                skip: 0,
                bits: 1,
                index: Box::default(),
            };
        };
        let skip = lowest.shared(highest);
        let bits = (borders.len().ilog2() + 1).min(INDEX_BITS);
        let mut index = vec![0_u32; (1 << bits) + 1];
        for border in &borders {
            index[border.slice(skip, bits) + 1] += 1;
        }
        for slot in 1..index.len() {
            index[slot] += index[slot - 1];
        }
        Self {
            first,
            borders,
            skip,
            bits,
            index: index.into(),
        }
    }

    /// Whether this address is allowed.
    pub(super) fn allows(&self, address: T) -> bool {
        self.first ^ (self.up_to(address) % 2 == 1)
    }

    /// How many borders there are up to an address.
    fn up_to(&self, address: T) -> usize {
        let (Some(lowest), Some(highest)) = (self.borders.first(), self.borders.last()) else {
            return 0;
        };
        if address < *lowest {
            return 0;
        }
        if address >= *highest {
            return self.borders.len();
        }
        // It is between two borders, and has the bits that all of them share.
        let slot = address.slice(self.skip, self.bits);
        let (from, to) = (self.index[slot] as usize, self.index[slot + 1] as usize);
        from + self.borders[from..to].partition_point(|border| *border <= address)
    }

    /// How many bytes it takes.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.borders) + size_of_val(&*self.index)
    }
}

/// Has the answer be this one from an address on.
fn turn<T: Bits>(turns: &mut Vec<(T, bool)>, at: T, allowed: bool) {
    turns.pop_if(|(last, _)| *last == at);
    if turns.last().is_none_or(|(_, before)| *before != allowed) {
        turns.push((at, allowed));
    }
}

/// Has the answer after a network be that of the network around it.
fn leave<T: Bits>(turns: &mut Vec<(T, bool)>, left: Net<T>, around: &[Net<T>], others: bool) {
    if let Some(after) = left.last.next() {
        turn(turns, after, around.last().map_or(others, |it| it.allowed));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(first: u32, length: u32, allowed: bool) -> Net<u32> {
        let rest = u32::MAX.checked_shr(length).unwrap_or(0);
        Net {
            first: first & !rest,
            last: first | rest,
            allowed,
        }
    }

    /// The answer by the definition: the smallest network around it, a denial first.
    fn naive(nets: &[Net<u32>], address: u32, others: bool) -> bool {
        let around = nets
            .iter()
            .filter(|it| it.first <= address && address <= it.last);
        let best = around.min_by_key(|it| (it.last - it.first, it.allowed));
        best.map_or(others, |it| it.allowed)
    }

    #[test]
    fn bits_are_cut_out_of_either_family() {
        assert_eq!(0x1234_5678_u32.slice(0, 16), 0x1234);
        assert_eq!(0x1234_5678_u32.slice(8, 16), 0x3456);
        assert_eq!(0x1234_5678_u32.slice(24, 8), 0x78);
        let v6 = 0x2001_0db8_u128 << 96;
        assert_eq!(v6.slice(0, 16), 0x2001);
        assert_eq!(v6.slice(16, 16), 0x0db8);
        assert_eq!((v6 | 1).slice(127, 1), 1);
        assert_eq!(v6.shared(v6 | 1), 127);
    }

    #[test]
    fn the_first_and_the_last_address_are_like_others() {
        let all = |allowed| vec![net(0, 0, allowed)];
        for (nets, others, expected) in [
            (all(true), false, true),
            (all(false), true, false),
            (vec![], true, true),
        ] {
            let ranges = Ranges::new(0, nets, others);
            for address in [0, 1, u32::MAX - 1, u32::MAX] {
                assert_eq!(ranges.allows(address), expected, "{address}");
            }
            assert!(ranges.borders.is_empty());
        }
        let ends = vec![net(0, 32, false), net(u32::MAX, 32, false)];
        let ranges = Ranges::new(0, ends, true);
        let answers = [0, 1, u32::MAX - 1, u32::MAX].map(|it| ranges.allows(it));
        assert_eq!(answers, [false, true, true, false]);
    }

    #[test]
    fn neighbours_with_one_answer_are_one_range() {
        let nets = (0..256).map(|host| net(0x0a00_0000 + host, 32, false));
        let ranges = Ranges::new(0, nets.collect(), true);
        assert_eq!(*ranges.borders, [0x0a00_0000, 0x0a00_0100]);
    }

    proptest! {
        /// Few bits differ, so that networks lie in each other often.
        #[test]
        fn the_smallest_network_decides(
            drawn in prop::collection::vec((0_u32..4096, 18_u32..=32, any::<bool>()), 0..60),
            others: bool,
            shift in 0_u32..=20,
        ) {
            let place = |low: u32| (low << shift) | (0xc0a8_0000 & !(0xfff << shift));
            let nets = drawn.iter().map(|(low, length, allowed)| {
                net(place(*low), length.saturating_sub(shift), *allowed)
            });
            let nets: Vec<_> = nets.collect();
            let ranges = Ranges::new(0, nets.clone(), others);
            for net in &nets {
                for address in [net.first, net.last, net.first.wrapping_sub(1), net.last.wrapping_add(1)] {
                    prop_assert_eq!(ranges.allows(address), naive(&nets, address, others));
                }
            }
            for low in (0..4096).step_by(13) {
                prop_assert_eq!(ranges.allows(place(low)), naive(&nets, place(low), others));
            }
        }
    }
}
