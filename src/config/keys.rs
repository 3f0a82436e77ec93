//! Which keys there are, asked of the schema itself.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

use super::foreign;
use super::key_path::{KeyPath, Segment};
use super::schema;
use super::suggest;

type KeysOf = fn() -> &'static [&'static str];

/// Every table, by the pattern of its path, and its keys.
pub(super) const TABLES: [(&str, KeysOf); 35] = [
    ("", keys_of::<schema::Root>),
    ("reload_guard", keys_of::<schema::ReloadGuard>),
    ("admin", keys_of::<schema::Admin>),
    ("redis", keys_of::<schema::Redis>),
    ("redis.sentinel", keys_of::<schema::Sentinel>),
    ("cluster", keys_of::<schema::Cluster>),
    ("rate_limit", keys_of::<schema::RateLimit>),
    ("access_log", keys_of::<schema::AccessLog>),
    ("listeners[]", keys_of::<schema::Listener>),
    ("listeners[].timeouts", keys_of::<schema::ListenerTimeouts>),
    (
        "listeners[].connection_rate",
        keys_of::<schema::ConnectionRate>,
    ),
    ("listeners[].bandwidth[]", keys_of::<schema::Bandwidth>),
    ("listeners[].tcp", keys_of::<schema::SocketOptions>),
    ("listeners[].tls", keys_of::<schema::ListenerTls>),
    (
        "listeners[].tls.certificates[]",
        keys_of::<schema::CertificateFiles>,
    ),
    ("routes[]", keys_of::<schema::Route>),
    ("routes[].redirect", keys_of::<schema::Redirect>),
    ("routes[].respond", keys_of::<schema::Respond>),
    ("routes[].rate_limit", keys_of::<schema::RateLimit>),
    ("routes[].bandwidth[]", keys_of::<schema::Bandwidth>),
    ("routes[].mirror", keys_of::<schema::Mirror>),
    ("routes[].retry", keys_of::<schema::Retry>),
    ("routes[].hedge", keys_of::<schema::Hedge>),
    ("routes[].hsts", keys_of::<schema::Hsts>),
    ("upstreams[]", keys_of::<schema::Upstream>),
    ("upstreams[].servers[]", keys_of::<schema::Server>),
    ("upstreams[].health_check", keys_of::<schema::HealthCheck>),
    ("upstreams[].timeouts", keys_of::<schema::UpstreamTimeouts>),
    ("upstreams[].tls", keys_of::<schema::UpstreamTls>),
    ("upstreams[].queue", keys_of::<schema::Queue>),
    (
        "upstreams[].adaptive_concurrency",
        keys_of::<schema::AdaptiveConcurrency>,
    ),
    ("upstreams[].sticky", keys_of::<schema::Sticky>),
    ("upstreams[].ejection", keys_of::<schema::Ejection>),
    ("upstreams[].bandwidth", keys_of::<schema::ServerBandwidth>),
    ("upstreams[].tcp", keys_of::<schema::SocketOptions>),
];

/// What every list may look like, for the message about a value that is no list.
const LISTS: [(&str, &str); 19] = [
    ("trusted_proxies", r#"["10.0.0.0/8"]"#),
    ("listeners", "[[listeners]]"),
    (
        "listeners[].tls.certificates",
        r#"[{ cert = "server.crt", key = "server.key" }]"#,
    ),
    ("routes", "[[routes]]"),
    ("routes[].listeners", r#"["web"]"#),
    ("routes[].hosts", r#"["api.example.com"]"#),
    ("routes[].paths", r#"["/v1/*"]"#),
    ("redis.urls", r#"["redis://10.0.0.1:6379"]"#),
    ("redis.sentinel.urls", r#"["redis://10.0.0.1:26379"]"#),
    ("cluster.seeds", r#"["lb2.internal:7946"]"#),
    ("listeners[].allow", r#"["10.0.0.0/8"]"#),
    ("listeners[].deny", r#"["10.0.0.0/8"]"#),
    ("routes[].allow", r#"["10.0.0.0/8"]"#),
    ("routes[].deny", r#"["10.0.0.0/8"]"#),
    ("routes[].methods", r#"["GET", "POST"]"#),
    ("routes[].retry.on", r#"["connect", "503"]"#),
    ("upstreams", "[[upstreams]]"),
    ("upstreams[].servers", r#"["127.0.0.1:3000"]"#),
    ("upstreams[].health_check.expect", r#"["2xx", "3xx"]"#),
];

/// What to say about a key that the schema does not have.
pub(super) fn explain_unknown(path: &KeyPath) -> String {
    let (table, key) = match path.split_last() {
        Some((table, Segment::Key(key))) => (table.pattern(), key.clone()),
        _ => (String::new(), path.pattern()),
    };
    let hint = match foreign::key(&table, &key) {
        Some(advice) => format!("; {advice}"),
        None => suggest::hint(&key, keys_in(&table).iter().copied()),
    };
    format!("is not a key of the configuration{hint}")
}

/// What the value at `path` may look like, if it is to be a list.
pub(super) fn example_of_list(path: &KeyPath) -> Option<&'static str> {
    let pattern = path.pattern();
    LISTS
        .iter()
        .find(|(key, _)| *key == pattern)
        .map(|(_, example)| *example)
}

/// The keys of the tables at `table`. A table may stand for a list of one.
fn keys_in(table: &str) -> &'static [&'static str] {
    TABLES
        .iter()
        .find(|(pattern, _)| *pattern == table || pattern.strip_suffix("[]") == Some(table))
        .map_or(&[], |(_, keys)| keys())
}

/// The names of `T`'s fields, which its `Deserialize` gives to the deserializer.
fn keys_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    struct FieldNames<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for FieldNames<'_> {
        type Error = Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
            Err(Error::custom("not a struct"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Error> {
            *self.0 = fields;
            Err(Error::custom("only the names are of interest"))
        }

        forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
            unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names: &[&str] = &[];
    // Always an error: nothing is deserialized.
    let _: Result<T, Error> = T::deserialize(FieldNames(&mut names));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_keys() {
        for (table, keys) in TABLES {
            assert!(!keys().is_empty(), "{table}");
        }
        assert_eq!(keys_in("access_log"), ["format", "path"]);
        let of_bandwidth = ["upload", "download", "key"];
        assert_eq!(keys_in("routes[].bandwidth"), of_bandwidth);
        assert_eq!(keys_in("routes[].bandwidth[]"), of_bandwidth);
        assert_eq!(keys_in("nothing"), [""; 0]);
    }

    #[test]
    fn each_list_is_a_key() {
        for (key, _) in LISTS {
            let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
            assert!(keys_in(table).contains(&name), "{key}");
        }
    }

    #[test]
    fn keys_that_are_none_are_explained() {
        let listener = KeyPath::default().key("listeners").index(3);
        assert_eq!(
            explain_unknown(&listener.key("max_conections")),
            r#"is not a key of the configuration; did you mean "max_connections"?"#
        );
        assert_eq!(
            explain_unknown(&listener.key("bandwidth").key("down")),
            "is not a key of the configuration; known: upload, download, key"
        );
    }
}
