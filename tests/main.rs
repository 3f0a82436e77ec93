//! The behaviour of the programs, a file a feature. `support` has the fixtures.

mod access_log;
mod admin;
mod balancing;
mod cli;
mod early_answers;
mod forwarding;
mod headers;
mod health;
mod layers;
mod parking;
mod rate_limit;
mod regressions;
mod retries;
mod routing;
mod shutdown;
mod streaming;
mod support;
mod support_smoke;
mod timeouts;
mod upgrades;
