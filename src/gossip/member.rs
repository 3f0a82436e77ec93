//! The other nodes, as this one knows them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::message::About;
use super::seal::{Session, SessionKey};

/// Nodes that a fleet may have besides this one; as many again may be remembered that are gone.
pub const MAX_LIVE: usize = 127;

/// Nodes that are remembered, the dead ones among them.
const MAX_MEMBERS: usize = 2 * MAX_LIVE;

/// How long a node that is gone is remembered, and called now and then.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    Alive,
    /// Nothing was heard of it for too long.
    Dead,
    /// It has said that it ends.
    Left,
}

impl Standing {
    /// As the admin API calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Left => "left",
        }
    }
}

/// Another node.
#[derive(Debug)]
pub struct Member {
    /// What it last said of itself.
    pub about: About,
    /// Its run.
    pub session: Session,
    /// What its datagrams are sealed with.
    pub key: SessionKey,
    /// Where it can be reached.
    pub address: SocketAddr,
    /// Whether it takes part.
    pub standing: Standing,
    /// When something was last heard of it.
    pub heard: Instant,
    /// The time to it and back, smoothed.
    pub round_trip: Option<Duration>,
}

impl Member {
    /// Notes a message.
    pub fn hear(
        &mut self,
        about: About,
        from: SocketAddr,
        round_trip: Option<Duration>,
        now: Instant,
    ) {
        self.address = about.address.unwrap_or(from);
        self.standing = match about.leaving {
            true => Standing::Left,
            false => Standing::Alive,
        };
        self.about = about;
        self.heard = now;
        if let Some(new) = round_trip {
            let smoothed = |old: Duration| (old * 7 + new) / 8;
            self.round_trip = Some(self.round_trip.map_or(new, smoothed));
        }
    }
}

/// All that are known.
#[derive(Debug, Default)]
pub struct Members(Vec<Member>);

impl Members {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.0.iter()
    }

    /// Those that take part.
    pub fn live(&self) -> impl Iterator<Item = &Member> {
        self.0.iter().filter(|it| it.standing == Standing::Alive)
    }

    /// The one whose run this is.
    pub fn of_session(&mut self, session: Session) -> Option<&mut Member> {
        self.0.iter_mut().find(|it| it.session == session)
    }

    /// The one of this name.
    pub fn named(&self, name: &str) -> Option<&Member> {
        self.0.iter().find(|it| it.about.name == name)
    }

    /// Whether one is reached there.
    pub fn is_at(&self, address: SocketAddr) -> bool {
        self.live().any(|it| it.address == address)
    }

    /// Adds one in the place of an earlier run of it, if any, or of the one that has been gone for longest if there is no
    /// room. False if there is none all the same.
    pub fn add(&mut self, member: Member) -> bool {
        self.0.retain(|it| it.about.name != member.about.name);
        if self.live().count() >= MAX_LIVE {
            return false;
        }
        if self.0.len() >= MAX_MEMBERS {
            let gone = self.0.iter().enumerate();
            let gone = gone.filter(|(_, it)| it.standing != Standing::Alive);
            let longest = gone.min_by_key(|(_, it)| it.heard).map(|(at, _)| at);
            let Some(longest) = longest else {
                return false;
            };
            self.0.swap_remove(longest);
        }
        self.0.push(member);
        true
    }

    /// Finds who has died, and forgets who did so long ago. Gives the names of the former.
    pub fn look(&mut self, dead_after: Duration, now: Instant) -> Vec<String> {
        let mut dead = Vec::new();
        self.0.retain_mut(|it| {
            let silent = now.saturating_duration_since(it.heard);
            if it.standing == Standing::Alive && silent > dead_after {
                it.standing = Standing::Dead;
                dead.push(it.about.name.clone());
            }
            silent < REMEMBERED
        });
        dead
    }
}
