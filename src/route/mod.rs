//! Which route a request takes: by host, path, method and headers, the most specific first.
//!
//! | | most specific first |
//! | --- | --- |
//! | host | exact, wildcard with the longest suffix, any |
//! | path, within the host | exact, template, longest prefix, any |
//! | conditions, within host and path | a route with methods before one without, then more headers first, then the earlier one |
//!
//! When the conditions of the most specific candidate are not met the next one is tried, down to the routes for any
//! host. What a request costs does not depend on the number of routes, except for those with the same host and path.
//!
//! [`RouteTable`] puts together three indices that know nothing of each other: `host` and `path` (with `template`)
//! yield candidates in the order of the table above, `matcher` decides on one. [`normal_path`] makes the path that they
//! see, of requests and of routes.

mod host;
mod matcher;
mod normal_path;
mod path;
mod table;
mod template;

pub use host::{Host, HostMap};
pub use normal_path::{InvalidPath, NormalPath, normal_path};
pub use path::Path;
pub use table::{BuildError, RouteSpec, RouteTable};
pub use template::TemplateError;

/// A map that is filled from the configuration and only read by requests: with no key of a client's choosing in it,
/// a fixed seed gives nothing away.
type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::FixedState>;

#[cfg(test)]
mod tests;
