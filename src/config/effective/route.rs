//! `[[routes]]` as a file would say them.

use super::limit::{bandwidth, networks, rate_limit};
use super::list;
use crate::config::choices::RetryOn;
use crate::config::forms::{OrOff, Shorthand, Table};
use crate::config::model::{
    Action, Config, Forward, Hsts, RedirectTarget, Retry, Route, RouteLimit,
};
use crate::config::names::{MethodName, Name};
use crate::config::schema;
use crate::config::types::ByteSize;

pub(super) fn route(route: &Route, config: &Config) -> schema::Route {
    let conditions = schema::Route {
        name: Some(Name(route.name.clone())),
        listeners: Some(list(&route.listeners, |index| {
            Name(config.listeners[*index].name.clone())
        })),
        hosts: Some(route.hosts.iter().cloned().map(Some).collect()),
        paths: Some(route.paths.iter().cloned().map(Some).collect()),
        methods: Some(list(&route.methods, |method| MethodName(method.clone()))),
        headers: Some(route.headers.iter().map(header).collect()),
        max_body: route.max_body.map(ByteSize::from),
        allow: Some(networks(&route.access.allow)),
        deny: Some(networks(&route.access.deny)),
        bandwidth: Some(bandwidth(&route.bandwidth)),
        hsts: route.hsts.as_ref().map(|it| Shorthand(hsts(it))),
        rate_limit: match &route.rate_limit {
            RouteLimit::Inherit => None,
            RouteLimit::Off => Some(OrOff::Off),
            RouteLimit::Own(limit) => Some(OrOff::On(rate_limit(limit))),
        },
        ..schema::Route::default()
    };
    match &route.action {
        Action::Forward(it) => forward(it, conditions, config),
        Action::Redirect { status, to } => schema::Route {
            redirect: Some(Table(schema::Redirect {
                status: Some(status.as_u16()),
                ..redirect(to)
            })),
            ..conditions
        },
        Action::Respond { status, body } => schema::Route {
            respond: Some(Table(schema::Respond {
                status: Some(status.as_u16()),
                body: Some(body.clone()),
            })),
            ..conditions
        },
    }
}

/// `route` with what `forward` says.
fn forward(forward: &Forward, route: schema::Route, config: &Config) -> schema::Route {
    let name = |index: usize| Name(config.upstreams[index].name.clone());
    let one = match forward.split[..] {
        [(index, _)] => Some(name(index)),
        _ => None,
    };
    let split = forward
        .split
        .iter()
        .map(|(index, weight)| (name(*index).0, *weight));
    schema::Route {
        split: one.is_none().then(|| split.collect()),
        split_by: one.is_none().then(|| forward.split_by.clone()),
        upstream: one,
        mirror: forward.mirror.as_ref().map(|it| {
            Table(schema::Mirror {
                upstream: Some(name(it.upstream)),
                share: Some(it.share),
                max_body: Some(it.max_body.into()),
            })
        }),
        strip_prefix: forward.strip_prefix.clone(),
        preserve_host: Some(forward.preserve_host),
        timeout: forward.timeout.map(Into::into),
        retry: Some(Table(retry(&forward.retry))),
        hedge: forward.hedge.as_ref().map(|it| {
            Table(schema::Hedge {
                after: Some(it.after),
                budget: Some(it.budget),
            })
        }),
        priority: Some(forward.priority.clone()),
        ..route
    }
}

fn retry(retry: &Retry) -> schema::Retry {
    let kinds = [
        (retry.connect, RetryOn::Connect),
        (retry.reset, RetryOn::Reset),
        (retry.timeout, RetryOn::Timeout),
    ];
    let kinds = kinds
        .iter()
        .filter(|(is_on, _)| *is_on)
        .map(|(_, kind)| *kind);
    let statuses = retry.statuses.iter().copied().map(RetryOn::Status);
    schema::Retry {
        attempts: Some(retry.attempts),
        on: Some(kinds.chain(statuses).map(Some).collect()),
        per_try_timeout: retry.per_try_timeout.map(Into::into),
        budget: Some(retry.budget),
        backoff: Some(retry.backoff.into()),
        max_body: Some(retry.max_body.into()),
    }
}

fn hsts(hsts: &Hsts) -> schema::Hsts {
    schema::Hsts {
        max_age: Some(hsts.max_age.into()),
        include_subdomains: Some(hsts.include_subdomains),
        preload: Some(hsts.preload),
    }
}

fn header((name, value): &(http::HeaderName, http::HeaderValue)) -> (String, String) {
    let value = value.to_str().expect("it was made of a string");
    (name.to_string(), value.to_owned())
}

fn redirect(to: &RedirectTarget) -> schema::Redirect {
    match to {
        RedirectTarget::Location(uri) => schema::Redirect {
            to: Some(uri.to_string()),
            ..schema::Redirect::default()
        },
        RedirectTarget::Parts { scheme, host, port } => schema::Redirect {
            scheme: scheme.clone(),
            host: host.clone(),
            port: port.and_then(|port| port.try_into().ok()),
            ..schema::Redirect::default()
        },
    }
}
