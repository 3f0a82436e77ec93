//! Whose turn it is: three classes by priority, in each of them clients that take turns, and of each client its requests
//! in their order. Plain data, without time and threads.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// How much a request matters when not all can be served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Before all others.
    High,
    /// As most are.
    #[default]
    Normal,
    /// When nobody else waits.
    Low,
}

impl Priority {
    /// All of them, the highest first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its word in the configuration and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// Whose requests take turns with others': an IPv4 address, or the /64 of an IPv6 one, which is what one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Client(u128);

impl Client {
    pub(super) fn new(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u128::from(address.to_bits())),
            IpAddr::V6(address) => Self(address.to_bits() >> 64 << 64),
        }
    }
}

/// A place in the lines. The number says who came earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) priority: Priority,
    pub(super) client: Client,
    pub(super) number: u64,
}

/// All who wait, each with something of its own.
#[derive(Debug)]
pub(super) struct Lines<T> {
    classes: [Class<T>; Priority::ALL.len()],
}

/// Those who wait with the same priority.
#[derive(Debug)]
struct Class<T> {
    /// In the order in which they came.
    places: BTreeMap<u64, (Client, T)>,
    lines: HashMap<Client, Line>,
    /// The clients, in the order in which it is their turn.
    turns: BTreeMap<i64, Client>,
    /// The clients by the length of their lines.
    lengths: BTreeSet<(usize, Client)>,
}

#[derive(Debug)]
struct Line {
    turn: i64,
    numbers: BTreeSet<u64>,
}

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self {
            classes: std::array::from_fn(|_| Class {
                places: BTreeMap::new(),
                lines: HashMap::new(),
                turns: BTreeMap::new(),
                lengths: BTreeSet::new(),
            }),
        }
    }
}

impl<T> Lines<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.places.len()).sum()
    }

    /// Has somebody wait at the end of its client's line; a client that had none takes its turn after all others.
    pub(super) fn push(&mut self, place: Place, what: T) {
        let class = &mut self.classes[place.priority as usize];
        let last = class.turns.last_key_value();
        let turn = last.map_or(0, |(turn, _)| turn + 1);
        class.insert(place, turn, what);
    }

    /// Has somebody wait again whose turn it was already: before all others of its class.
    pub(super) fn push_front(&mut self, place: Place, what: T) {
        let class = &mut self.classes[place.priority as usize];
        let first = class.turns.first_key_value();
        let turn = first.map_or(0, |(turn, _)| turn - 1);
        class.insert(place, turn, what);
        class.take_turn(place.client, turn);
    }

    /// Takes out whose turn it is.
    pub(super) fn pop(&mut self) -> Option<(Place, T)> {
        let mut classes = Priority::ALL.into_iter().zip(&mut self.classes);
        classes.find_map(|(priority, class)| {
            let (_, client) = class.turns.first_key_value()?;
            let client = *client;
            let number = *class.lines[&client].numbers.first()?;
            let what = class.remove(client, number)?;
            class.turn_is_over(client);
            let place = Place {
                priority,
                client,
                number,
            };
            Some((place, what))
        })
    }

    /// Takes somebody out who waits no longer; `None` if it was out already.
    pub(super) fn remove(&mut self, place: &Place) -> Option<T> {
        self.classes[place.priority as usize].remove(place.client, place.number)
    }

    /// Takes somebody out to make room for one more of this client and priority: the newest of the lowest class that
    /// matters less, otherwise the newest of a client that has at least two more in line.
    pub(super) fn make_room(&mut self, priority: Priority, client: Client) -> Option<T> {
        let lower = &mut self.classes[priority as usize + 1..];
        if let Some(class) = lower
            .iter_mut()
            .rev()
            .find(|class| !class.places.is_empty())
        {
            let (&number, &(client, _)) = class.places.last_key_value()?;
            return class.remove(client, number);
        }
        let class = &mut self.classes[priority as usize];
        let own = class.lines.get(&client).map_or(0, |it| it.numbers.len());
        let &(longest, greedy) = class.lengths.last()?;
        if longest < own + 2 {
            return None;
        }
        let number = *class.lines[&greedy].numbers.last()?;
        class.remove(greedy, number)
    }
}

impl<T> Class<T> {
    fn insert(&mut self, place: Place, turn: i64, what: T) {
        let Place { client, number, .. } = place;
        self.places.insert(number, (client, what));
        let line = self.lines.entry(client).or_insert_with(|| {
            self.turns.insert(turn, client);
            Line {
                turn,
                numbers: BTreeSet::new(),
            }
        });
        self.lengths.remove(&(line.numbers.len(), client));
        line.numbers.insert(number);
        self.lengths.insert((line.numbers.len(), client));
    }

    fn remove(&mut self, client: Client, number: u64) -> Option<T> {
        let (_, what) = self.places.remove(&number)?;
        let line = self.lines.get_mut(&client)?;
        self.lengths.remove(&(line.numbers.len(), client));
        line.numbers.remove(&number);
        if line.numbers.is_empty() {
            self.turns.remove(&line.turn);
            self.lines.remove(&client);
        } else {
            self.lengths.insert((line.numbers.len(), client));
        }
        Some(what)
    }

    /// Puts a client that still waits behind all others.
    fn turn_is_over(&mut self, client: Client) {
        let last = self.turns.last_key_value().map_or(0, |(turn, _)| *turn);
        self.take_turn(client, last + 1);
    }

    fn take_turn(&mut self, client: Client, turn: i64) {
        if let Some(line) = self.lines.get_mut(&client) {
            self.turns.remove(&line.turn);
            line.turn = turn;
            self.turns.insert(turn, client);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Priority::{High, Low, Normal};
    use super::*;

    fn client(last: u8) -> Client {
        Client::new(IpAddr::from([192, 0, 2, last]))
    }

    struct Fixture {
        lines: Lines<u64>,
        number: u64,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                lines: Lines::default(),
                number: 0,
            }
        }

        fn arrives(&mut self, priority: Priority, from: u8) -> Place {
            self.number += 1;
            let place = Place {
                priority,
                client: client(from),
                number: self.number,
            };
            self.lines.push(place, self.number);
            place
        }

        fn order(&mut self) -> Vec<u64> {
            std::iter::from_fn(|| self.lines.pop().map(|(_, what)| what)).collect()
        }
    }

    #[test]
    fn higher_classes_first_and_then_in_their_order() {
        let mut waiting = Fixture::new();
        for priority in [Low, Normal, High, Low, High, Normal] {
            waiting.arrives(priority, 1);
        }
        assert_eq!(waiting.order(), [3, 5, 2, 6, 1, 4]);
    }

    #[test]
    fn clients_take_turns_however_many_requests_each_has() {
        let mut waiting = Fixture::new();
        for from in [1, 1, 1, 1, 2, 2, 3] {
            waiting.arrives(Normal, from);
        }
        assert_eq!(waiting.order(), [1, 5, 7, 2, 6, 3, 4]);
    }

    #[test]
    fn who_comes_back_is_next_again() {
        let mut waiting = Fixture::new();
        for from in [1, 2, 1] {
            waiting.arrives(Normal, from);
        }
        let (place, what) = waiting.lines.pop().unwrap();
        waiting.lines.push_front(place, what);
        assert_eq!(waiting.order(), [1, 2, 3]);

        (4..6).for_each(|from| _ = waiting.arrives(Normal, from));
        let (place, what) = waiting.lines.pop().unwrap();
        waiting.lines.push_front(place, what);
        assert_eq!(waiting.order(), [4, 5]);
    }

    #[test]
    fn room_is_made_by_the_newest_of_the_lowest_class() {
        let mut waiting = Fixture::new();
        for (priority, from) in [(Low, 1), (Low, 2), (Normal, 3), (High, 4)] {
            waiting.arrives(priority, from);
        }
        assert_eq!(waiting.lines.make_room(High, client(9)), Some(2));
        assert_eq!(waiting.lines.make_room(Normal, client(9)), Some(1));
        assert_eq!(waiting.lines.make_room(High, client(9)), Some(3));
        assert_eq!(waiting.lines.make_room(High, client(9)), None);
        assert_eq!(waiting.lines.make_room(Low, client(9)), None);
    }

    #[test]
    fn a_client_cannot_take_all_room_of_its_class() {
        let mut waiting = Fixture::new();
        (0..4).for_each(|_| _ = waiting.arrives(Normal, 1));
        assert_eq!(waiting.lines.make_room(Normal, client(1)), None, "its own");
        assert_eq!(waiting.lines.make_room(Normal, client(2)), Some(4));
        waiting.arrives(Normal, 2);
        assert_eq!(waiting.lines.make_room(Normal, client(2)), Some(3));
        waiting.arrives(Normal, 2);
        assert_eq!(waiting.lines.make_room(Normal, client(2)), None, "as many");
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_client() {
        let client = |text: &str| Client::new(text.parse().unwrap());
        assert_eq!(client("2001:db8::1"), client("2001:db8::ffff:1"));
        assert_ne!(client("2001:db8::1"), client("2001:db8:0:1::1"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
    }

    proptest! {
        #[test]
        fn nobody_is_lost_or_served_twice(
            steps in proptest::collection::vec((0_u8..6, 0_usize..3, 0_u8..4), 1..300),
        ) {
            let mut waiting = Fixture::new();
            let mut there: BTreeMap<u64, Place> = BTreeMap::new();
            for (step, priority, from) in steps {
                let priority = Priority::ALL[priority];
                let gone = match step {
                    0..=2 => {
                        let place = waiting.arrives(priority, from);
                        there.insert(place.number, place);
                        None
                    }
                    3 => waiting.lines.pop().map(|(_, what)| what),
                    4 => waiting.lines.make_room(priority, client(from)),
                    _ => {
                        let place = there.values().nth(usize::from(from)).copied();
                        place.and_then(|place| waiting.lines.remove(&place))
                    }
                };
                if let Some(gone) = gone {
                    prop_assert!(there.remove(&gone).is_some());
                }
                prop_assert_eq!(waiting.lines.len(), there.len());
            }
            let mut rest = waiting.order();
            rest.sort_unstable();
            prop_assert_eq!(rest, there.into_keys().collect::<Vec<_>>());
            for class in &waiting.lines.classes {
                prop_assert!(class.lines.is_empty() && class.turns.is_empty() && class.lengths.is_empty());
            }
        }
    }
}
