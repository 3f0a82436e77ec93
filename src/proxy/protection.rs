//! From the configuration's keys about overload and failing servers to the settings that upstreams have.

use super::snapshot::RoutePriority;
use crate::config::model;
use crate::upstream::{Priority, Protection, adaptive, ejection, queue};

/// What an upstream's keys come to.
pub(super) fn protection(upstream: &model::Upstream) -> Protection {
    Protection {
        ejection: upstream.ejection.as_ref().map(ejection),
        slow_start: upstream.slow_start,
        max_in_flight: upstream.max_in_flight,
        max_connections: upstream.max_connections,
        adaptive: upstream
            .adaptive_concurrency
            .as_ref()
            .map(|it| adaptive::Settings {
                min: it.min.get(),
                initial: it.initial.get(),
                max: it.max.get(),
            }),
        queue: queue::Settings {
            size: usize::try_from(upstream.queue.size).unwrap_or(usize::MAX),
            timeout: upstream.queue.timeout,
        },
    }
}

fn ejection(ejection: &model::Ejection) -> ejection::Settings {
    ejection::Settings {
        consecutive_failures: ejection.consecutive_failures,
        error_ratio: ejection.error_ratio.ratio(),
        latency_factor: ejection.latency_factor,
        interval: ejection.interval,
        base: ejection.base,
        max: ejection.max,
        max_share: ejection.max_share.ratio(),
        panic: ejection.panic.ratio(),
    }
}

/// What a route's key `priority` comes to.
pub(super) fn priority(priority: &model::Priority) -> RoutePriority {
    match priority {
        model::Priority::High => RoutePriority::Fixed(Priority::High),
        model::Priority::Normal => RoutePriority::Fixed(Priority::Normal),
        model::Priority::Low => RoutePriority::Fixed(Priority::Low),
        model::Priority::Header(name) => RoutePriority::Header(name.clone()),
    }
}
