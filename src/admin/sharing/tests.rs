//! Fleets in memory that lose messages.

use proptest::prelude::*;

use super::*;

/// Nodes with registers of their own.
struct Fleet {
    nodes: Vec<Node>,
    lost: f64,
    random: fastrand::Rng,
}

struct Node {
    register: Arc<ArcSwapOption<Register>>,
    sharing: Sharing,
    news: mpsc::Receiver<News>,
}

impl Fleet {
    fn new(nodes: usize, lost: f64, seed: u64) -> Self {
        let node = |number: usize| {
            let register = Arc::new(ArcSwapOption::from_pointee(Register::default()));
            let (sender, news) = mpsc::channel(64);
            let random = fastrand::Rng::with_seed(seed + number as u64);
            Node {
                sharing: Sharing::new(Arc::clone(&register), sender, random),
                register,
                news,
            }
        };
        Self {
            nodes: (0..nodes).map(node).collect(),
            lost,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn edit(&self, at: usize, edit: impl FnOnce(&mut Register)) {
        let mut register = self.register(at);
        edit(&mut register);
        self.nodes[at].register.store(Some(Arc::new(register)));
    }

    fn register(&self, at: usize) -> Register {
        Register::clone(&self.nodes[at].register.load_full().unwrap())
    }

    fn round(&mut self) -> usize {
        let mut sent = 0;
        for at in 0..self.nodes.len() {
            let sharing = &mut self.nodes[at].sharing;
            let mut told = sharing.turn();
            told.extend(sharing.round());
            sent += self.pass(at, told);
        }
        sent
    }

    /// Hands messages on, and the answers to them.
    fn pass(&mut self, from: usize, told: Vec<Told>) -> usize {
        let mut sent = told.len();
        for (to, message) in told {
            assert!(message.len() <= MAX_MESSAGE);
            for at in 0..self.nodes.len() {
                let is_for = to.is_none_or(|to| to == at as u64);
                if at == from || !is_for || self.random.f64() < self.lost {
                    continue;
                }
                let answers = self.nodes[at].sharing.hear(from as u64, &message).unwrap();
                while let Ok(News(news)) = self.nodes[at].news.try_recv() {
                    self.edit(at, |register| {
                        for entry in news {
                            register.merge(entry, unix_millis());
                        }
                    });
                }
                sent += self.pass(at, answers);
            }
        }
        sent
    }

    fn agree(&self) -> bool {
        let first = self.register(0);
        (1..self.nodes.len()).all(|at| self.register(at) == first)
    }
}

fn server(number: usize) -> Server {
    Server {
        upstream: format!("app-{}", number % 3),
        address: format!("10.{}.{}.1:8080", number / 250, number % 250)
            .parse()
            .unwrap(),
    }
}

fn removal(register: &mut Register, number: usize, node: &str) {
    let now = unix_millis();
    register.put(server(number), Some(Difference::Removed), node, now);
}

#[test]
fn a_change_is_everywhere_within_a_round() {
    let mut fleet = Fleet::new(5, 0.0, 1);
    fleet.round();
    fleet.edit(3, |register| removal(register, 7, "d"));
    fleet.round();
    assert!(fleet.agree());
    assert_eq!(fleet.register(0).entries().count(), 1);
    fleet.round(); // for those that were told before they knew
    let quiet = fleet.round();
    assert_eq!(quiet, 5, "nothing is sent but sums");
}

#[test]
fn who_joins_learns_everything_however_much_it_is() {
    let mut fleet = Fleet::new(3, 0.0, 2);
    for at in 0..2 {
        fleet.edit(at, |register| {
            for number in 0..2000 {
                register.merge(
                    Entry {
                        server: server(number),
                        stamp: Stamp {
                            clock: 5,
                            node: "a".to_owned(),
                        },
                        difference: Some(Difference::Removed),
                    },
                    5,
                );
            }
        });
    }
    let rounds = (1..).find(|_| {
        let sent = fleet.round();
        assert!(sent < 100, "{sent}");
        fleet.agree()
    });
    assert!(rounds < Some(40), "{rounds:?}");
    assert_eq!(fleet.register(2).entries().count(), 2000);
}

#[test]
fn all_agree_at_last_whatever_is_lost() {
    for seed in 0..10 {
        let mut fleet = Fleet::new(6, 0.4, seed);
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..30 {
            let (at, number) = (random.usize(0..6), random.usize(0..8));
            let node = at.to_string();
            let difference = match random.u8(0..4) {
                0 => None,
                1 => Some(Difference::Removed),
                2 => Some(Difference::Added {
                    weight: Weight::new(random.u32(0..256)).unwrap(),
                    draining: random.bool(),
                }),
                _ => Some(Difference::Changed {
                    weight: None,
                    draining: Some(random.bool()),
                }),
            };
            // Clocks differ by hours.
            let now = unix_millis() + at as u64 * 3_600_000;
            fleet.edit(at, |register| {
                register.put(server(number), difference, &node, now)
            });
            fleet.round();
        }
        let rounds = (0..60).find(|_| {
            fleet.round();
            fleet.agree()
        });
        assert!(rounds.is_some(), "seed {seed}");
    }
}

#[test]
fn what_one_has_forgotten_makes_no_difference() {
    let mut fleet = Fleet::new(2, 0.0, 6);
    fleet.edit(0, |register| {
        let old = unix_millis() - 31 * 24 * 60 * 60 * 1000;
        register.merge(
            Entry {
                server: server(1),
                stamp: Stamp {
                    clock: old,
                    node: "a".to_owned(),
                },
                difference: None,
            },
            old,
        );
    });
    assert_eq!(fleet.register(0).entries().count(), 1);
    fleet.round();
    assert_eq!(fleet.round(), 2, "nothing is sent but sums");
}

#[test]
fn who_does_not_share_neither_tells_nor_hears() {
    let mut fleet = Fleet::new(2, 0.0, 3);
    fleet.nodes[1].register.store(None);
    fleet.edit(0, |register| removal(register, 1, "a"));
    for _ in 0..3 {
        fleet.round();
    }
    assert!(fleet.nodes[1].register.load().is_none());
    // It begins to.
    fleet.nodes[1].register.store(Some(Arc::default()));
    for _ in 0..3 {
        fleet.round();
    }
    assert!(fleet.agree());
}

#[test]
fn entries_survive() {
    for difference in [
        None,
        Some(Difference::Removed),
        Some(Difference::Added {
            weight: Weight::default(),
            draining: true,
        }),
        Some(Difference::Changed {
            weight: None,
            draining: None,
        }),
        Some(Difference::Changed {
            weight: Weight::new(0),
            draining: Some(false),
        }),
    ] {
        let entry = Entry {
            server: server(1),
            stamp: Stamp {
                clock: u64::MAX >> 2,
                node: "lb-1:7946".to_owned(),
            },
            difference,
        };
        let mut bytes = Vec::new();
        write_entry(&entry, &mut bytes);
        assert_eq!(read_entry(&mut Reader::new(&bytes)), Some(entry));
    }
}

#[test]
fn what_comes_before_something_unknown_is_taken() {
    let mut fleet = Fleet::new(1, 0.0, 5);
    let mut register = Register::default();
    removal(&mut register, 1, "a");
    let mut message = write_entries(register.entries()).remove(0);
    message.extend([9; 9]);
    let node = &mut fleet.nodes[0];
    assert!(node.sharing.hear(9, &message).is_none());
    let News(news) = node.news.try_recv().unwrap();
    assert_eq!(news, register.entries().collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn anything_is_heard_without_harm(kind in 0u8..4, bytes: Vec<u8>, at in 0usize..200, to: u8) {
        let mut fleet = Fleet::new(1, 0.0, 4);
        fleet.edit(0, |register| removal(register, 1, "a"));
        let mut message = vec![kind];
        message.extend(bytes);
        _ = fleet.nodes[0].sharing.hear(9, &message);
        let mut changed = write_entries(fleet.register(0).entries()).remove(0);
        let at = at % changed.len();
        changed[at] = to;
        _ = fleet.nodes[0].sharing.hear(9, &changed);
    }
}
