//! Routes that no rule of precedence tells apart.

use std::borrow::Cow;
use std::collections::HashMap;

use http::{HeaderName, HeaderValue, Method};

use super::Validation;
use crate::config::key_path::KeyPath;
use crate::config::model::Route;
use crate::config::types::{HostPattern, PathPattern};

/// Where a route applies, all but the method.
#[derive(PartialEq, Eq, Hash)]
struct Conditions<'a> {
    listener: usize,
    host: Option<&'a HostPattern>,
    /// Without the names of its parameters: they do not tell requests apart.
    path: Option<Cow<'a, PathPattern>>,
    /// Sorted.
    headers: &'a [(HeaderName, HeaderValue)],
}

impl Validation<'_> {
    /// Checks the routes, each with its position in the file.
    pub(super) fn no_ambiguity(&mut self, routes: &[(usize, Route)]) {
        let list = KeyPath::default().key("routes");
        let mut seen: HashMap<Conditions<'_>, Vec<&(usize, Route)>> = HashMap::new();
        for entry in routes {
            let (position, route) = entry;
            for (conditions, path) in conditions(route) {
                let host = conditions.host;
                let others = seen.entry(conditions).or_default();
                let same = others
                    .iter()
                    .find(|(other, it)| other != position && overlap(&it.methods, &route.methods));
                if let Some((other, it)) = same {
                    self.problems.add(
                        list.index(*position),
                        format!(
                            "{:?} matches the same requests as {} ({:?}), for {} and {}; expected another condition in one of them",
                            route.name,
                            list.index(*other),
                            it.name,
                            host.map_or("every host".to_owned(), |host| format!("host {host}")),
                            path.map_or("every path".to_owned(), |path| format!("path {path}")),
                        ),
                    );
                }
                others.push(entry);
            }
        }
    }
}

/// Every combination of a listener, a host and a path of `route`, with the path as it is written.
fn conditions(route: &Route) -> impl Iterator<Item = (Conditions<'_>, Option<&PathPattern>)> {
    let hosts = or_any(&route.hosts);
    let paths = or_any(&route.paths);
    route.listeners.iter().flat_map(move |&listener| {
        let paths = paths.clone();
        hosts.clone().into_iter().flat_map(move |host| {
            paths.clone().into_iter().map(move |path| {
                let conditions = Conditions {
                    listener,
                    host,
                    path: path.map(shape),
                    headers: &route.headers,
                };
                (conditions, path)
            })
        })
    })
}

/// A pattern without the names of its parameters.
fn shape(pattern: &PathPattern) -> Cow<'_, PathPattern> {
    let PathPattern::Template(template) = pattern else {
        return Cow::Borrowed(pattern);
    };
    let mut shape = String::with_capacity(template.len());
    let mut rest = template.as_str();
    while let Some((before, parameter)) = rest.split_once('{') {
        shape.push_str(before);
        shape.push('{');
        rest = match parameter.strip_prefix('{') {
            // A doubled brace stands for itself.
            Some(literal) => {
                shape.push('{');
                literal
            }
            None => {
                shape.push_str(if parameter.starts_with('*') { "*" } else { "" });
                parameter.find('}').map_or("", |end| &parameter[end..])
            }
        };
    }
    shape.push_str(rest);
    Cow::Owned(PathPattern::Template(shape))
}

/// The items, or the one absent item that stands for any.
fn or_any<T>(items: &[T]) -> Vec<Option<&T>> {
    if items.is_empty() {
        vec![None]
    } else {
        items.iter().map(Some).collect()
    }
}

/// Whether some request has a method of both, and neither comes before the other by naming methods at all.
fn overlap(a: &[Method], b: &[Method]) -> bool {
    (a.is_empty() && b.is_empty()) || a.iter().any(|method| b.contains(method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parameters_are_not_part_of_the_shape() {
        for (template, expected) in [
            ("/users/{id}", "/users/{}"),
            ("/{a}/x{b}.png/{*rest}", "/{}/x{}.png/{*}"),
            ("/{{literal}}/{id}", "/{{literal}}/{}"),
        ] {
            let pattern = PathPattern::Template(template.to_owned());
            assert_eq!(*shape(&pattern), PathPattern::Template(expected.to_owned()));
        }
    }
}
