//! Which keys there are: those of this version, asked of the schema itself, and those of later ones.

use serde::de::value::Error;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::key_path::{KeyPath, Segment};
use super::schema;
use super::suggest;

type KeysOf = fn() -> &'static [&'static str];

/// Every table, by the pattern of its path, and its keys.
pub(super) const TABLES: [(&str, KeysOf); 27] = [
    ("", keys_of::<schema::Root>),
    ("reload_guard", keys_of::<schema::ReloadGuard>),
    ("admin", keys_of::<schema::Admin>),
    ("redis", keys_of::<schema::Redis>),
    ("rate_limit", keys_of::<schema::RateLimit>),
    ("access_log", keys_of::<schema::AccessLog>),
    ("listeners[]", keys_of::<schema::Listener>),
    ("listeners[].timeouts", keys_of::<schema::ListenerTimeouts>),
    ("listeners[].tls", keys_of::<schema::ListenerTls>),
    (
        "listeners[].tls.certificates[]",
        keys_of::<schema::CertificateFiles>,
    ),
    ("routes[]", keys_of::<schema::Route>),
    ("routes[].redirect", keys_of::<schema::Redirect>),
    ("routes[].respond", keys_of::<schema::Respond>),
    ("routes[].rate_limit", keys_of::<schema::RateLimit>),
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
];

/// Keys that later versions have, with the one value, as JSON, that says what this version does anyway.
const LATER_KEYS: [(&str, Option<&str>); 9] = [
    ("cluster", None),
    ("redis.urls", None),
    ("redis.sentinel", None),
    ("listeners[].mode", Some(r#""http""#)),
    ("listeners[].allow", Some("[]")),
    ("listeners[].deny", Some("[]")),
    ("listeners[].bandwidth", None),
    ("listeners[].upstream", None),
    ("listeners[].sni", None),
];

/// Values that later versions have for keys of this one, and what to use meanwhile.
const LATER_VALUES: [(&str, &[&str], &str); 2] = [
    (
        "rate_limit.store",
        &["redis_leased", "cluster"],
        r#""memory" or "redis""#,
    ),
    (
        "routes[].rate_limit.store",
        &["redis_leased", "cluster"],
        r#""memory" or "redis""#,
    ),
];

/// What every list may look like, for the message about a value that is no list.
const LISTS: [(&str, &str); 12] = [
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
    ("routes[].methods", r#"["GET", "POST"]"#),
    ("routes[].retry.on", r#"["connect", "503"]"#),
    ("upstreams", "[[upstreams]]"),
    ("upstreams[].servers", r#"["127.0.0.1:3000"]"#),
    ("upstreams[].health_check.expect", r#"["2xx", "3xx"]"#),
];

/// What to say about a key that the schema does not have; nothing when its value changes nothing.
pub(super) fn explain_unknown(path: &KeyPath, value: Option<&Value>) -> Option<String> {
    let pattern = path.pattern();
    if let Some((_, accepted)) = LATER_KEYS.iter().find(|(key, _)| *key == pattern) {
        return match (accepted, value.map(Value::to_string)) {
            (Some(accepted), Some(value)) if value == *accepted => None,
            (Some(accepted), Some(value)) => Some(format!(
                "{value} is not supported by this version, only {accepted}"
            )),
            _ => Some("is not supported by this version; leave it out".to_owned()),
        };
    }
    let (table, key) = match path.split_last() {
        Some((table, Segment::Key(key))) => (table.pattern(), key.clone()),
        _ => (String::new(), pattern),
    };
    let hint = suggest::hint(&key, keys_in(&table).iter().copied());
    Some(format!("is not a key of the configuration{hint}"))
}

/// What to say about a value that the schema does not take, when a later version does.
pub(super) fn explain_later_value(path: &KeyPath, value: &Value) -> Option<String> {
    let pattern = path.pattern();
    let text = value.as_str()?;
    LATER_VALUES
        .iter()
        .find(|(key, values, _)| *key == pattern && values.contains(&text))
        .map(|(.., expected)| {
            format!("{text:?} is not supported by this version; expected {expected}")
        })
}

/// What the value at `path` may look like, if it is to be a list.
pub(super) fn example_of_list(path: &KeyPath) -> Option<&'static str> {
    let pattern = path.pattern();
    LISTS
        .iter()
        .find(|(key, _)| *key == pattern)
        .map(|(_, example)| *example)
}

fn keys_in(table: &str) -> &'static [&'static str] {
    TABLES
        .iter()
        .find(|(pattern, _)| *pattern == table)
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
    use serde_json::json;

    use super::*;

    #[test]
    fn every_table_has_keys() {
        for (table, keys) in TABLES {
            assert!(!keys().is_empty(), "{table}");
        }
        assert_eq!(keys_in("redis"), ["url", "timeout"]);
        assert_eq!(keys_in("nothing"), [""; 0]);
    }

    #[test]
    fn each_key_is_of_this_version_or_a_later_one() {
        for (key, _) in LATER_KEYS {
            let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
            assert!(!keys_in(table).contains(&name), "{key}");
            assert!(table.is_empty() || !keys_in(table).is_empty(), "{key}");
        }
        let later_values = LATER_VALUES.iter().map(|(key, ..)| key);
        for key in later_values.chain(LISTS.iter().map(|(key, _)| key)) {
            let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
            assert!(keys_in(table).contains(&name), "{key}");
        }
    }

    #[test]
    fn keys_of_later_versions_are_refused_unless_they_change_nothing() {
        let listener = KeyPath::default().key("listeners").index(3);
        let explain = |key, value| explain_unknown(&listener.key(key), Some(&value));
        assert_eq!(explain("mode", json!("http")), None);
        assert_eq!(explain("allow", json!([])), None);
        assert_eq!(
            explain("mode", json!("tcp")).as_deref(),
            Some(r#""tcp" is not supported by this version, only "http""#)
        );
        assert_eq!(
            explain("bandwidth", json!({})).as_deref(),
            Some("is not supported by this version; leave it out")
        );
        assert_eq!(
            explain("max_conections", json!(1)).as_deref(),
            Some(r#"is not a key of the configuration; did you mean "max_connections"?"#)
        );
    }
}
