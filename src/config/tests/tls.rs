//! TLS, protocols and PROXY headers, of listeners and towards upstreams; HSTS; `set_headers`.

use std::path::PathBuf;

use super::shipped::reads_back;
use super::*;

const SECURE: &str = r#"
trusted_proxies = ["10.0.0.0/8"]

[[listeners]]
listen = "127.0.0.1:8443"
http2 = false
proxy_protocol = "required"
max_connections_per_ip = 20
min_body_rate = "1KiB/s"
normalize_path = true
timeouts = { tls_handshake = "5s" }
[listeners.tls]
certificates = [
    { cert = "a.crt", key = "a.key", ocsp = "a.ocsp" },
    { cert = "b.crt", key = "b.key" },
]
min_version = "1.3"
session_tickets = false
client_auth = "optional"
client_ca = "clients.crt"

[[upstreams]]
name = "app"
protocol = "auto"
proxy_protocol = "v2"
tls = { ca = "ca.crt", server_name = "app.internal", cert = "c.crt", key = "c.key" }
set_headers = { "X-From" = "lb", a-key = "env:KEY" }
health_check = { kind = "grpc", service = "app.v1.App", port = 9000 }

[[routes]]
upstream = "app"
hsts = { max_age = "365d", include_subdomains = true, preload = true }
"#;

#[test]
fn every_key_has_its_meaning() {
    let config = toml_with(SECURE, &[("KEY", "hush")]).unwrap();
    let listener = &config.listeners[0];
    assert!(!listener.http2 && listener.proxy_protocol && listener.normalize_path);
    assert_eq!(listener.max_connections_per_ip, NonZeroU32::new(20));
    assert_eq!(listener.min_body_rate, Some(1024));
    assert_eq!(listener.timeouts.tls_handshake, Duration::from_secs(5));
    let certificate = |name: &str, ocsp: Option<&str>| CertificateFiles {
        cert: format!("{name}.crt").into(),
        key: format!("{name}.key").into(),
        ocsp: ocsp.map(PathBuf::from),
    };
    assert_eq!(
        listener.tls,
        Some(ListenerTls {
            certificates: vec![certificate("a", Some("a.ocsp")), certificate("b", None)],
            min_version: TlsVersion::Tls13,
            session_tickets: false,
            client_auth: ClientAuth::Optional("clients.crt".into()),
        })
    );

    let upstream = &config.upstreams[0];
    assert_eq!(upstream.protocol, Protocol::Auto);
    assert_eq!(upstream.proxy_protocol, Some(ProxyVersion::V2));
    assert_eq!(
        upstream.tls,
        Some(UpstreamTls {
            ca: Some("ca.crt".into()),
            server_name: Some("app.internal".into()),
            client: Some(("c.crt".into(), "c.key".into())),
            insecure_skip_verify: false,
        })
    );
    let fields: Vec<(&str, &str)> = upstream
        .set_headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.expose()))
        .collect();
    assert_eq!(fields, [("a-key", "hush"), ("x-from", "lb")]);
    assert_eq!(
        upstream.health_check.as_ref().unwrap().kind,
        HealthCheckKind::Grpc {
            service: "app.v1.App".into()
        }
    );
    assert_eq!(
        config.routes[0].hsts,
        Some(Hsts {
            max_age: Duration::from_secs(365 * 24 * 3600),
            include_subdomains: true,
            preload: true,
        })
    );
}

#[test]
fn defaults_and_short_forms() {
    let text = SECURE
        .replace(
            "min_version = \"1.3\"\nsession_tickets = false\nclient_auth = \"optional\"\nclient_ca = \"clients.crt\"\n",
            "",
        )
        .replace(
            "{ ca = \"ca.crt\", server_name = \"app.internal\", cert = \"c.crt\", key = \"c.key\" }",
            "{}",
        )
        .replace(
            "{ max_age = \"365d\", include_subdomains = true, preload = true }",
            "\"365d\"",
        )
        .replace(", service = \"app.v1.App\"", "");
    let config = toml_with(&text, &[("KEY", "hush")]).unwrap();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!(
        (tls.min_version, tls.session_tickets, &tls.client_auth),
        (TlsVersion::Tls12, true, &ClientAuth::None)
    );
    let tls = config.upstreams[0].tls.as_ref().unwrap();
    assert!(tls.ca.is_none() && tls.server_name.is_none() && tls.client.is_none());
    assert!(!tls.insecure_skip_verify);
    let hsts = config.routes[0].hsts.unwrap();
    assert_eq!(hsts.max_age, Duration::from_secs(365 * 24 * 3600));
    assert!(!hsts.include_subdomains && !hsts.preload);
    assert_eq!(
        config.upstreams[0].health_check.as_ref().unwrap().kind,
        HealthCheckKind::Grpc {
            service: String::new()
        }
    );
}

#[test]
fn the_effective_configuration_shows_everything_but_values_from_elsewhere() {
    let mut config = toml_with(SECURE, &[("KEY", "hush")]).unwrap();
    let shown = effective(&config);
    assert_eq!(
        shown["upstreams"][0]["set_headers"],
        json!({ "a-key": "***", "x-from": "lb" })
    );
    assert!(!shown.to_string().contains("hush"));
    assert_eq!(shown["listeners"][0]["min_body_rate"], "1KiB/s");
    config.upstreams[0].set_headers.remove(0);
    reads_back(&config);
    for (from, to) in [
        ("\"v2\"", "\"v1\""),
        ("\"v2\"", "\"off\""),
        ("\"optional\"", "\"required\""),
        ("env:KEY", "***"),
    ] {
        let changed = SECURE.replace(from, to).replace("env:KEY", "open");
        reads_back(&toml(&changed).unwrap());
    }
}

/// The one error of `SECURE` with `from` replaced by `to`.
#[track_caller]
fn refused(from: &str, to: &str, error: &str) {
    assert!(SECURE.contains(from), "{from}");
    let lines = lines(toml_with(&SECURE.replace(from, to), &[("KEY", "hush")]));
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(lines[0].contains(error), "{}", lines[0]);
    assert!(!lines[0].contains("hush"), "{}", lines[0]);
}

#[test]
fn what_listeners_refuse() {
    for (from, to, error) in [
        (
            "\"required\"",
            "\"optional\"",
            r#"lb.toml:7: listeners[0].proxy_protocol: "optional" is not one of "off", "required""#,
        ),
        (
            "[\"10.0.0.0/8\"]",
            "[]",
            r#"lb.toml:7: listeners[0].proxy_protocol: "required" takes PROXY headers from trusted proxies, and there are none; set for example trusted_proxies = ["10.0.0.0/8"]"#,
        ),
        (
            "[\"10.0.0.0/8\"]",
            "\"10.0.0.0/8\"",
            "lb.toml:2: trusted_proxies: ",
        ),
        (
            "\"1KiB/s\"",
            "\"fast\"",
            r#"listeners[0].min_body_rate: "fast" is not a rate; expected a rate such as "1KiB/s""#,
        ),
        (
            "\"1KiB/s\"",
            "0",
            "listeners[0].min_body_rate: 0 is too small; expected a rate such as",
        ),
        (
            "per_ip = 20",
            "per_ip = 0",
            "listeners[0].max_connections_per_ip: 0 is too small",
        ),
        (
            "min_version = \"1.3\"",
            "min_version = \"1.1\"",
            r#"lb.toml:17: listeners[0].tls.min_version: "1.1" is not one of "1.2", "1.3""#,
        ),
        (
            "min_version = \"1.3\"",
            "min_version = 1.3",
            r#"1.3 is a decimal number; expected one of "1.2", "1.3""#,
        ),
        (
            ", key = \"b.key\"",
            "",
            "lb.toml:15: listeners[0].tls.certificates[1].key: is missing; expected the file",
        ),
        (
            "cert = \"b.crt\", ",
            "",
            "listeners[0].tls.certificates[1].cert: is missing",
        ),
        (
            "\"optional\"",
            "\"none\"",
            r#"listeners[0].tls.client_ca: is for client_auth = "optional" or "required""#,
        ),
        (
            "client_ca = \"clients.crt\"",
            "",
            "listeners[0].tls.client_ca: is missing; expected the file",
        ),
        (
            "session_tickets = false",
            "tickets = false",
            r#"listeners[0].tls.tickets: is not a key of the configuration"#,
        ),
    ] {
        refused(from, to, error);
    }
    let none = format!("{SMALLEST}[[listeners]]\nlisten = \"127.0.0.1:1\"\ntls = {{}}\n");
    assert!(lines(toml(&none))[0].contains("listeners[1].tls.certificates: is missing; expected"));
    let none = none.replace("{}", "{ certificates = [] }");
    assert!(lines(toml(&none))[0].contains("listeners[1].tls.certificates: is empty; expected"));
}

#[test]
fn what_upstreams_and_routes_refuse() {
    for (from, to, error) in [
        (
            "tls = { ca",
            "#tls = { ca",
            r#"upstreams[0].protocol: "auto" is what servers choose in the TLS handshake"#,
        ),
        (
            "\"auto\"",
            "\"h2\"",
            r#"upstreams[0].protocol: "h2" is not one of "http1", "http2", "auto""#,
        ),
        (
            "\"v2\"",
            "\"v3\"",
            r#"upstreams[0].proxy_protocol: "v3" is not one of "off", "v1", "v2""#,
        ),
        (
            "cert = \"c.crt\", ",
            "",
            r#"upstreams[0].tls.cert: is missing; "key" is of no use without it"#,
        ),
        (
            ", key = \"c.key\"",
            "",
            r#"upstreams[0].tls.key: is missing; "cert" is of no use without it"#,
        ),
        (
            "\"app.internal\"",
            "\"a b\"",
            r#"upstreams[0].tls.server_name: "a b" is not a host name or IP address"#,
        ),
        (
            "ca = \"ca.crt\"",
            "ca = \"ca.crt\", insecure_skip_verify = true",
            "upstreams[0].tls.ca: verifies nothing",
        ),
        (
            "\"grpc\"",
            "\"tcp\"",
            r#"health_check.service: is for kind = "grpc""#,
        ),
        (
            "\"grpc\"",
            "\"http\"",
            r#"health_check.service: is for kind = "grpc""#,
        ),
        (
            "port = 9000",
            "path = \"/\"",
            r#"health_check.path: is for kind = "http""#,
        ),
        (
            "max_age = \"365d\"",
            "max_age = \"366d\"",
            r#"routes[0].hsts.max_age: "366d" is longer than a year"#,
        ),
        (
            "max_age = \"365d\"",
            "max_age = \"1500ms\"",
            "routes[0].hsts.max_age: is not in whole seconds",
        ),
        (
            "max_age = \"365d\", ",
            "",
            "routes[0].hsts.max_age: is missing; expected how long",
        ),
    ] {
        refused(from, to, error);
    }
}

#[test]
fn fields_that_are_not_to_be_set() {
    for (field, error) in [
        (
            "Host = \"a\"",
            r#"set_headers.Host: is set by "preserve_host""#,
        ),
        ("content-length = \"1\"", "frames the request's body"),
        (
            "transfer-encoding = \"chunked\"",
            "frames the request's body",
        ),
        (
            "connection = \"x\"",
            "is about one connection (hop by hop), which is",
        ),
        ("Upgrade = \"x\"", "hop by hop"),
        ("\"a b\" = \"x\"", r#""a b" is not a header's name"#),
        (
            "x = \"\"",
            "is not a header's value; expected visible ASCII",
        ),
        ("x = \" hush\"", "is not a header's value"),
        ("x = \"hush\\r\\ny: 1\"", "is not a header's value"),
        (
            "x = \"env:MISSING\"",
            r#"the environment variable "MISSING" is not set"#,
        ),
        ("x = 5", "set_headers.x: is not a string; expected"),
        ("x-from = \"b\"", "is given twice"),
    ] {
        refused("a-key = \"env:KEY\"", field, error);
    }
}
