//! A new configuration of an upstream that exists: what it does not change stays as it is.
//!
//! Servers are made before they are needed and removed when nobody needs them any more:
//!
//! ```text
//! add_ahead ─▶ proven ─▶ (the workers take over the new routes) ─▶ reconfigure
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::endpoint::{Endpoint, Origin, Spec};
use super::group::Upstream;
use super::settings::Settings;
use crate::config::types::ServerAddress;
use crate::health;

/// Time between two looks at servers that are waited for.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

impl Upstream {
    /// Adds those servers of a new configuration that are not there yet, and returns them. While others can be used, they
    /// get no request before their first good probe: what was just written down may not run yet.
    ///
    /// Does nothing if the new servers are to be spoken to in another way than those that are there.
    pub fn add_ahead(&self, settings: &Settings, specs: &[Spec]) -> Vec<Arc<Endpoint>> {
        let mut added = Vec::new();
        {
            let mut roster = self.roster();
            if !settings.connects_like(&roster.settings) {
                return added;
            }
            let others = roster.endpoints.iter().any(|it| it.eligible());
            for spec in specs {
                let is_same = |it: &Arc<Endpoint>| *it.address() == spec.address;
                if roster.endpoints.iter().any(is_same) {
                    continue;
                }
                let endpoint = self.newcomer(spec.clone(), &roster.settings);
                if others && roster.settings.health.is_some() {
                    endpoint.set_trusted(false);
                }
                roster.endpoints.push(Arc::clone(&endpoint));
                added.push(endpoint);
            }
        }
        if !added.is_empty() {
            self.publish_roster();
        }
        added
    }

    /// Takes over new settings and servers, the kept ones with their connections, health and counts. Workers see all of
    /// it, or nothing yet. Servers that are gone get no new request; those in flight go on to their end.
    pub fn reconfigure(&self, settings: Settings, specs: Vec<Spec>) {
        let mut former: HashMap<ServerAddress, Arc<Endpoint>> = HashMap::new();
        self.bandwidth.set(settings.bandwidth);
        {
            let mut roster = self.roster();
            let new_checks = settings.health != roster.settings.health;
            roster.settings = Arc::new(settings);
            for endpoint in std::mem::take(&mut roster.endpoints) {
                former.insert(endpoint.address().clone(), endpoint);
            }
            for spec in specs {
                let endpoint = match former.remove(&spec.address) {
                    Some(endpoint) => {
                        endpoint.follow(&spec);
                        endpoint
                    }
                    None => self.newcomer(spec, &roster.settings),
                };
                if new_checks {
                    endpoint.set_fall(roster.settings.fall());
                }
                roster.endpoints.push(endpoint);
            }
        }
        former.values().for_each(|it| it.leave());
        self.publish_roster();
        self.regulate_soon();
    }
}

/// Waits until something is known of the health of servers that were just added, for `limit` at most. Of which nothing is
/// known by then is used like a server at the start.
pub async fn proven(endpoints: &[Arc<Endpoint>], limit: Duration) {
    let end = Instant::now() + limit;
    let is_open = |it: &Arc<Endpoint>| it.is_checked() && it.health() == health::State::Unknown;
    while endpoints.iter().any(is_open) && Instant::now() < end {
        sleep(LOOK_INTERVAL).await;
    }
    for endpoint in endpoints.iter().filter(|it| it.origin() == Origin::Config) {
        let was_fit = endpoint.is_fit();
        endpoint.set_trusted(true);
        if endpoint.is_fit() && !was_fit && endpoint.standing().is_late() {
            endpoint.standing().start_slowly(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::Kind;
    use crate::upstream::{Announces, Protection, Protocol};

    fn settings() -> Settings {
        let one = std::num::NonZeroU32::MIN;
        let checks = health::Settings {
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            fall: one,
            rise: one,
        };
        Settings {
            strategy: Kind::RoundRobin,
            health: Some((health::Probe::Tcp(health::TcpProbe), checks)),
            health_port: None,
            protocol: Protocol::Http1,
            tls: None,
            announces: None,
            tcp: crate::net::TcpOptions::default(),
            bandwidth: crate::limit::Rates::default(),
            connect: Duration::from_secs(3),
            response: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            pool_idle: Duration::from_secs(30),
            protection: Protection::default(),
        }
    }

    fn specs(addresses: &[&str]) -> Vec<Spec> {
        let spec = |address: &&str| Spec {
            address: address.parse().unwrap(),
            weight: 1,
            origin: Origin::Config,
            draining: false,
        };
        addresses.iter().map(spec).collect()
    }

    fn upstream(addresses: &[&str]) -> Arc<Upstream> {
        Upstream::new("app".to_owned(), settings(), specs(addresses), 1)
    }

    /// The eligible servers.
    fn members(upstream: &Upstream) -> Vec<String> {
        let members = upstream.members();
        let addresses = members.endpoints.iter().map(|it| it.address().to_string());
        addresses.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_server_is_used_after_its_first_good_probe() {
        let upstream = upstream(&["a:1"]);
        let new = specs(&["a:1", "b:1", "c:1"]);
        let added = upstream.add_ahead(&settings(), &new);
        assert_eq!(added.len(), 2);
        assert_eq!(members(&upstream), ["a:1"]);
        let found_out = async {
            sleep(Duration::from_millis(300)).await;
            upstream.set_health(&added[0], health::State::Up);
            upstream.set_health(&added[1], health::State::Down);
        };
        let begin = Instant::now();
        tokio::join!(proven(&added, Duration::from_secs(3)), found_out);
        assert!(begin.elapsed() < Duration::from_secs(1));
        upstream.reconfigure(settings(), new);
        assert_eq!(members(&upstream), ["a:1", "b:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_of_which_nothing_is_known_in_time_is_used() {
        let upstream = upstream(&["a:1"]);
        let new = specs(&["a:1", "b:1"]);
        let added = upstream.add_ahead(&settings(), &new);
        proven(&added, Duration::from_secs(3)).await;
        upstream.reconfigure(settings(), new);
        assert_eq!(members(&upstream), ["a:1", "b:1"]);
    }

    #[test]
    fn the_first_servers_of_an_upstream_are_used_at_once() {
        let upstream = upstream(&[]);
        upstream.add_ahead(&settings(), &specs(&["a:1"]));
        assert_eq!(members(&upstream), ["a:1"]);
    }

    #[test]
    fn what_stays_is_the_same_and_what_goes_drains() {
        let upstream = upstream(&["a:1", "b:1"]);
        let [a, b] = ["a:1", "b:1"].map(|it| upstream.find(&it.parse().unwrap()).unwrap());
        upstream.set_health(&b, health::State::Down);
        let mut new = specs(&["c:1", "b:1"]);
        new[1].weight = 7;
        upstream.reconfigure(settings(), new);
        let now = upstream.endpoints();
        assert!(Arc::ptr_eq(&now[1], &b));
        assert_eq!((b.weight(), b.health()), (7, health::State::Down));
        assert!(a.draining());
        assert_eq!(members(&upstream), ["c:1"]);
    }

    #[test]
    fn servers_that_are_spoken_to_in_another_way_come_with_it() {
        let upstream = upstream(&["a:1"]);
        let new = Settings {
            announces: Some(Announces::V1),
            ..settings()
        };
        assert!(upstream.add_ahead(&new, &specs(&["b:1"])).is_empty());
        upstream.reconfigure(new, specs(&["b:1"]));
        let members = upstream.members();
        assert_eq!(members.settings.announces, Some(Announces::V1));
        assert_eq!(members.endpoints.len(), 1);
    }

    #[test]
    fn without_checks_a_server_that_was_down_is_used_again() {
        let upstream = upstream(&["a:1"]);
        upstream.set_health(&upstream.endpoints()[0], health::State::Down);
        let off = Settings {
            health: None,
            ..settings()
        };
        upstream.reconfigure(off, specs(&["a:1"]));
        assert_eq!(members(&upstream), ["a:1"]);
    }
}
