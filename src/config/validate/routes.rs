//! `[[routes]]`: which requests a route is for.

use http::{HeaderName, HeaderValue};

use super::access::access;
use super::uses::mode_of;
use super::{Names, Validation, name_or_position, nth, present};
use crate::config::forms::OrOff;
use crate::config::key_path::KeyPath;
use crate::config::model::{Action, Hsts, Mode, Route, RouteLimit};
use crate::config::names::header_name;
use crate::config::schema;
use crate::config::types::ByteSize;

impl Validation<'_> {
    pub(super) fn routes(&mut self, listeners: &Names, upstreams: &Names) -> Vec<Route> {
        let root = self.root;
        let list = KeyPath::default().key("routes");
        if root.routes.as_ref().is_none_or(Vec::is_empty) {
            let has_listeners = present(&root.listeners).next().is_some();
            if has_listeners && !self.needs_routes() {
                return Vec::new();
            }
            return self.catch_all(listeners, upstreams).into_iter().collect();
        }
        let names = present(&root.routes)
            .map(|(position, raw)| (position, name_or_position(&raw.name, "route", position)));
        self.names("route", "routes", names);
        let mut routes = Vec::new();
        for (position, raw) in present(&root.routes) {
            let at = list.index(position);
            if let Some(action) = self.action(raw, upstreams, &at) {
                routes.push((position, self.route(raw, position, action, listeners)));
            }
        }
        self.no_ambiguity(&routes);
        routes.into_iter().map(|(_, route)| route).collect()
    }

    /// The route of a file that has none: everything to the only upstream.
    fn catch_all(&mut self, listeners: &Names, upstreams: &Names) -> Option<Route> {
        let count = self.root.upstreams.as_ref().map_or(0, Vec::len);
        if count == 0 {
            self.problems.add(
                KeyPath::default().key("upstreams"),
                "there are none; expected at least one, for example: [[upstreams]] name = \"app\" servers = [\"127.0.0.1:3000\"]",
            );
        }
        if count > 1 {
            self.problems.add(
                KeyPath::default().key("routes"),
                format!("there are none, and {count} upstreams; expected routes that choose, for example: [[routes]] upstream = \"app\""),
            );
        }
        let raw = schema::Route::default();
        let forward = self.forward(&raw, vec![(0, 1)], upstreams, &KeyPath::default());
        let action = Action::Forward(forward);
        Some(self.route(&raw, 0, action, listeners)).filter(|_| count == 1)
    }

    fn route(
        &mut self,
        raw: &schema::Route,
        position: usize,
        action: Action,
        listeners: &Names,
    ) -> Route {
        let at = KeyPath::default().key("routes").index(position);
        Route {
            name: name_or_position(&raw.name, "route", position),
            listeners: self.route_listeners(raw, listeners, &at.key("listeners")),
            hosts: present(&raw.hosts).map(|(_, host)| host.clone()).collect(),
            paths: present(&raw.paths).map(|(_, path)| path.clone()).collect(),
            methods: present(&raw.methods)
                .map(|(_, method)| method.0.clone())
                .collect(),
            headers: self.header_conditions(raw, &at.key("headers")),
            action,
            rate_limit: match &raw.rate_limit {
                None => RouteLimit::Inherit,
                Some(OrOff::Off) => RouteLimit::Off,
                Some(OrOff::On(limit)) => self
                    .rate_limit(limit, &at.key("rate_limit"))
                    .map_or(RouteLimit::Inherit, RouteLimit::Own),
            },
            max_body: raw.max_body.map(ByteSize::bytes),
            hsts: raw
                .hsts
                .as_deref()
                .and_then(|hsts| self.hsts(hsts, &at.key("hsts"))),
            access: access(&raw.allow, &raw.deny),
            bandwidth: self.bandwidth(&raw.bandwidth, &at.key("bandwidth")),
        }
    }

    fn hsts(&mut self, raw: &schema::Hsts, at: &KeyPath) -> Option<Hsts> {
        let expected = "how long browsers are to use HTTPS only, for example \"365d\"";
        let max_age = self
            .problems
            .required(&raw.max_age, at.key("max_age"), expected)?
            .get();
        if max_age.subsec_nanos() > 0 {
            self.problems
                .add(at.key("max_age"), "is not in whole seconds");
        }
        Some(Hsts {
            max_age,
            include_subdomains: raw.include_subdomains.unwrap_or(false),
            preload: raw.preload.unwrap_or(false),
        })
    }

    /// Whether a listener speaks HTTP. One that has an upstream, or a mode that is none, was not meant to: that it has no
    /// routes would only hide what is wrong with it.
    fn needs_routes(&self) -> bool {
        let list = KeyPath::default().key("listeners");
        let mut listeners = present(&self.root.listeners);
        listeners.any(|(position, raw)| {
            let has_mode = !self.problems.contains(&list.index(position).key("mode"));
            mode_of(raw) == Mode::Http && has_mode && raw.upstream.is_none()
        })
    }

    /// The listeners of a route, in their order; all that speak HTTP when it names none.
    fn route_listeners(&mut self, raw: &schema::Route, names: &Names, at: &KeyPath) -> Vec<usize> {
        let root = self.root;
        let mode = |position: usize| nth(&root.listeners, position).map(|it| mode_of(it));
        if raw.listeners.is_none() {
            let all = names.positions.values().copied();
            let mut all: Vec<usize> = all.filter(|it| mode(*it) == Some(Mode::Http)).collect();
            all.sort_unstable();
            if all.is_empty() && !names.positions.is_empty() {
                let (route, _) = at.split_last().expect("it is a key of a route");
                self.problems.add(
                    route,
                    "is for requests, and no listener has mode = \"http\"; leave the route out",
                );
            }
            return all;
        }
        if raw.listeners.as_ref().is_some_and(Vec::is_empty) {
            self.problems.add(
                at.clone(),
                "is empty, so that the route has no requests; leave it out for all listeners",
            );
        }
        let mut listeners = Vec::new();
        for (index, name) in present(&raw.listeners) {
            let position = self.resolve(name, names, at.index(index));
            if position.is_some_and(|position| mode(position) != Some(Mode::Http)) {
                self.problems.add(
                    at.index(index),
                    format!("{:?} has no requests, but the mode \"tcp\" or \"udp\": where it sends to is its \"upstream\"; leave it out here", name.0),
                );
            }
            listeners.extend(position);
        }
        listeners.sort_unstable();
        listeners.dedup();
        listeners
    }

    /// The headers that a request must have, sorted by name.
    fn header_conditions(
        &mut self,
        raw: &schema::Route,
        at: &KeyPath,
    ) -> Vec<(HeaderName, HeaderValue)> {
        let mut conditions: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for (name, value) in raw.headers.iter().flatten() {
            let at = at.key(name);
            let name = match header_name(name) {
                Ok(name) => name,
                Err(error) => {
                    self.problems.add(at, error.to_string());
                    continue;
                }
            };
            if conditions.iter().any(|(other, _)| *other == name) {
                self.problems
                    .add(at, "is given twice, in upper and lower case");
                continue;
            }
            match HeaderValue::from_str(value) {
                Ok(value) => conditions.push((name, value)),
                Err(_) => self.problems.add(
                    at,
                    format!("{value:?} is not a header's value; expected visible ASCII characters"),
                ),
            }
        }
        conditions.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        conditions
    }
}
