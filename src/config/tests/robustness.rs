//! No text, value or variable makes the configuration panic.

use proptest::prelude::*;

use super::*;

/// Values of all kinds, right and wrong, for any key.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "a",
            "off",
            "5s",
            "127.0.0.1:1",
            "/x/{a}",
            "redis",
            "tcp",
            "udp",
            "redis://a:1",
            "env:"
        ])
        .prop_map(Value::from),
    ];
    let all_keys: Vec<&str> = keys::TABLES
        .iter()
        .flat_map(|(_, keys)| keys())
        .copied()
        .collect();
    leaf.prop_recursive(4, 64, 6, move |inner| {
        let key = prop_oneof![
            9 => prop::sample::select(all_keys.clone()).prop_map(str::to_owned),
            1 => ".{0,4}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,60}(\n\\PC{0,60}){0,5}") {
        for format in [Format::Toml, Format::Yaml, Format::Json] {
            let _ = parse(&text, format, "lb", std::iter::empty());
        }
    }

    #[test]
    fn no_values_make_it_panic(
        value in any_value(),
        variable in "LB__[A-Z0-9_]{1,12}",
        text in ".{0,10}",
    ) {
        let env = [(variable, text)].into_iter();
        if let Err(errors) = parse(&value.to_string(), Format::Json, "lb", env) {
            let lines = errors.to_string();
            prop_assert_eq!(lines.lines().count(), errors.iter().count(), "{}", lines);
        }
    }

    #[test]
    fn no_text_of_a_value_makes_its_type_panic(text in "[-a-z0-9/{}*.:\\[\\]xé ]{0,16}") {
        let _ = text.parse::<PathPattern>();
        let _ = text.parse::<HostPattern>();
        let _ = text.parse::<ServerAddress>();
        let _ = text.parse::<types::StatusRange>();
        let _ = text.parse::<types::AnyDuration>();
        let _ = text.parse::<types::ByteSize>();
        let _ = text.parse::<types::Percent>();
    }
}

#[test]
fn the_deepest_nesting_that_is_allowed_fits_the_stack() {
    for text in [
        format!("a:\n  {}x\n", "- ".repeat(127)),
        format!("{}x\n", "? ".repeat(128)),
        format!("a: {}{}\n", "[".repeat(250), "]".repeat(250)),
    ] {
        assert!(parse(&text, Format::Yaml, "lb", std::iter::empty()).is_err());
    }
    let json = format!("{{\"a\": {}{}}}", "[".repeat(120), "]".repeat(120));
    assert!(parse(&json, Format::Json, "lb", std::iter::empty()).is_err());
}
