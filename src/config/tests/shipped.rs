//! The shipped `config.toml`, docs/configuration.md, and the effective configuration: all say the same.

use std::collections::BTreeSet;

use super::*;

const SHIPPED: &str = include_str!("../../../config.toml");

const DOCUMENTATION: &str = include_str!("../../../docs/configuration.md");

/// Takes the settings that are commented out into force: lines that begin with "#" and no space.
fn with_everything_enabled(text: &str) -> String {
    text.lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_shipped_file_is_valid() {
    let config = toml(SHIPPED).unwrap();
    let servers: Vec<String> = config.upstreams[0]
        .servers
        .iter()
        .map(|server| server.address.to_string())
        .collect();
    assert_eq!(servers, ["127.0.0.1:3000", "127.0.0.1:3001"]);
    assert_eq!(
        config.listeners[0].addresses,
        ["127.0.0.1:8080".parse().unwrap()]
    );

    let redis = SHIPPED.replace("store = \"memory\"", "store = \"redis\"");
    let limit = toml(&redis).unwrap().rate_limit.unwrap();
    assert_eq!(limit.store, Store::Redis);
}

#[test]
fn the_shipped_file_is_valid_with_everything_enabled() {
    let config = toml_with(
        &with_everything_enabled(SHIPPED),
        &[("LB_ADMIN_TOKEN", "t")],
    )
    .unwrap();
    assert_eq!(config.routes.len(), SHIPPED.matches("#[[routes]]").count());
    assert!(config.access_log.is_some());
    assert!(config.admin.unwrap().token.is_some());
}

/// What `GET /config` shows reads back as the same configuration, but for the secrets.
#[track_caller]
pub(super) fn reads_back(config: &Config) {
    let mut shown = effective(config);
    for (path, secret) in [
        ("/admin/token", "t"),
        ("/redis/sentinel/password", "hush"),
        ("/cluster/key", "0123456789abcdef"),
    ] {
        if let Some(shown) = shown.pointer_mut(path) {
            assert_eq!(shown, "***");
            *shown = Value::from(secret);
        }
    }
    let is_tls = config.redis.as_ref().is_some_and(|it| it.tls.is_some());
    let url = match is_tls {
        true => "rediss://127.0.0.1:6379",
        false => "redis://127.0.0.1:6379",
    };
    for path in ["/redis/url", "/redis/urls", "/redis/sentinel/urls"] {
        match shown.pointer_mut(path) {
            Some(Value::Array(urls)) => urls.fill(Value::from(url)),
            Some(shown) => *shown = Value::from(url),
            None => {}
        }
    }
    for upstream in shown["upstreams"].as_array_mut().into_iter().flatten() {
        if let Some(shown) = upstream.pointer_mut("/sticky/secret") {
            *shown = Value::from("0123456789abcdef");
        }
    }
    let text = serde_json::to_string_pretty(&shown).unwrap();
    let again = parse(&text, Format::Json, "effective.json", std::iter::empty())
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    // `Debug` shows everything but secrets.
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}

#[test]
fn the_effective_configuration_reads_back() {
    reads_back(&toml(SMALLEST).unwrap());
    reads_back(&toml(SHIPPED).unwrap());
    let everything = with_everything_enabled(SHIPPED);
    reads_back(&toml_with(&everything, &[("LB_ADMIN_TOKEN", "t")]).unwrap());
    reads_back(&toml(&format!("admin = {{ listen = \"off\" }}\n{SMALLEST}")).unwrap());
    for health_check in ["{ kind = \"off\" }", "{ kind = \"tcp\", port = 81 }"] {
        reads_back(&toml(&format!("{SMALLEST}health_check = {health_check}")).unwrap());
    }
}

#[test]
fn the_effective_configuration_has_all_defaults_and_no_secret() {
    let env = [
        ("LB__ADMIN__TOKEN", "hush"),
        ("LB__REDIS__URL", "redis://:hush@a:1"),
    ];
    let shown = effective(&toml_with(SMALLEST, &env).unwrap());
    assert!(!shown.to_string().contains("hush"));
    assert_eq!(shown["redis"], json!({ "url": "***", "timeout": "50ms" }));
    assert_eq!(shown["listeners"][0]["timeouts"]["keep_alive"], "1m15s");
    assert_eq!(
        shown["upstreams"][0]["servers"],
        json!([
            { "address": "127.0.0.1:3000", "weight": 1 },
            { "address": "app.internal:3001", "weight": 1 },
        ])
    );
}

/// Tables that have the keys of another one, and are described there.
const SAME_AS_OTHERS: [&str; 3] = [
    "routes[].rate_limit",
    "routes[].bandwidth[]",
    "upstreams[].tcp",
];

/// The keys that docs/configuration.md describes: a heading names a table, a row a key of it.
fn documented_keys() -> Vec<String> {
    let mut table = None;
    let mut documented = Vec::new();
    for line in DOCUMENTATION.lines() {
        if line.starts_with('#') {
            table = line.split('`').nth(1);
        } else if let Some(key) = line
            .strip_prefix("| `")
            .and_then(|row| row.split('`').next())
            && let Some(table) = table
        {
            documented.push(format!("{table} {key}"));
        }
    }
    documented
}

#[test]
fn every_key_is_documented_once() {
    let documented = documented_keys();
    let unique: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(documented.len(), unique.len(), "a key is documented twice");
    let keys: BTreeSet<String> = keys::TABLES
        .iter()
        .filter(|(table, _)| !SAME_AS_OTHERS.contains(table))
        .flat_map(|(table, keys)| {
            let table = match *table {
                "" => "top level",
                // A table stands for a list of one.
                "listeners[].bandwidth[]" => "listeners[].bandwidth",
                table => table,
            };
            keys().iter().map(move |key| format!("{table} {key}"))
        })
        .collect();
    let missing: Vec<&String> = keys.difference(&unique).collect();
    let unknown: Vec<&String> = unique.difference(&keys).collect();
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "not documented: {missing:?}; documented, but no keys: {unknown:?}"
    );
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    let examples: Vec<&str> = DOCUMENTATION
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(examples.len() > 10);
    for example in examples {
        // An example shows what it is about; what else a file needs is added.
        let mut text = example.to_owned();
        if !example.contains("[[listeners]]") {
            text += "\n[[listeners]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n";
        }
        if !example.contains("[[upstreams]]") {
            text += "\n[[upstreams]]\nname = \"app\"\n";
        }
        if example.contains("\"redis\"") && !example.contains("[redis]") {
            text += "\n[redis]\nurl = \"redis://127.0.0.1:6379\"\n";
        }
        let env = [
            ("LB_ADMIN_TOKEN", "t"),
            ("REDIS_URL", "redis://127.0.0.1:6379"),
            ("LB_STICKY_KEY", "0123456789abcdef"),
            ("LB_CLUSTER_KEY", "0123456789abcdef"),
            ("REDIS_PASSWORD", "secret"),
        ];
        match toml_with(&text, &env) {
            // Of fields, what is hidden is not the same as what is written as stars.
            Ok(_) if text.contains("set_headers") => {}
            Ok(config) => reads_back(&config),
            Err(errors) => panic!("{errors}\n{text}"),
        }
    }
}
