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
    for (path, secret) in [("/admin/token", "t"), ("/redis/url", "redis://a:1")] {
        if let Some(shown) = shown.pointer_mut(path) {
            *shown = Value::from(secret);
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
