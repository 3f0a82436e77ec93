//! Configurations in all three languages: no text panics, and what is accepted says the same when it is written out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use loadbalancer::config::{Config, Format, effective, parse};
use serde_json::Value;

fuzz_target!(|text: &str| {
    if text.contains("file:") {
        return; // it would be read
    }
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        match parse(text, format, "fuzz", std::iter::empty()) {
            Ok(config) => write_again(&config),
            Err(errors) => {
                let lines = errors.to_string();
                assert!(!lines.is_empty());
            }
        }
    }
});

fn write_again(config: &Config) {
    let mut shown = effective(config);
    // These are not shown.
    let url = match config.redis.as_ref().is_some_and(|it| it.tls.is_some()) {
        true => "rediss://a:1",
        false => "redis://a:1",
    };
    for (path, secret) in [
        ("/admin/token", "t"),
        ("/cluster/key", "0123456789abcdef"),
        ("/redis/url", url),
        ("/redis/urls", url),
        ("/redis/sentinel/urls", url),
        ("/redis/sentinel/password", "p"),
    ] {
        match shown.pointer_mut(path) {
            Some(Value::Array(list)) => list.fill(Value::from(secret)),
            Some(shown) => *shown = Value::from(secret),
            None => {}
        }
    }
    for upstream in shown["upstreams"].as_array_mut().into_iter().flatten() {
        if let Some(shown) = upstream.pointer_mut("/sticky/secret") {
            *shown = Value::from("0123456789abcdef");
        }
    }
    let text = shown.to_string();
    let again = parse(&text, Format::Json, "effective", std::iter::empty())
        .unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    // `Debug` shows everything but secrets.
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}
