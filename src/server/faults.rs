//! Which key of the configuration names the file that is at fault.

use std::path::Path;

use crate::access::{self, FileError, Sources};
use crate::config::model::{ClientAuth, ListenerTls, UpstreamTls};
use crate::config::{Fault, KeyPath};
use crate::tls::{TlsError, TlsErrors};

/// Files, each with the key that names it.
pub type Named<'a> = Vec<(KeyPath, &'a Path)>;

/// The files of a listener's TLS, whose table is at `at`.
pub fn of_listener<'a>(tls: &'a ListenerTls, at: &KeyPath) -> Named<'a> {
    let mut named: Named<'_> = Vec::new();
    for (index, files) in tls.certificates.iter().enumerate() {
        let at = at.key("certificates").index(index);
        named.push((at.key("cert"), &files.cert));
        named.push((at.key("key"), &files.key));
        named.extend(files.ocsp.iter().map(|it| (at.key("ocsp"), it.as_path())));
    }
    match &tls.client_auth {
        ClientAuth::None => {}
        ClientAuth::Optional(ca) | ClientAuth::Required(ca) => {
            named.push((at.key("client_ca"), ca));
        }
    }
    named
}

/// The files of TLS towards servers, whose table is at `at`.
pub fn of_client<'a>(tls: &'a UpstreamTls, at: &KeyPath) -> Named<'a> {
    let mut named: Named<'_> = Vec::new();
    named.extend(tls.ca.iter().map(|it| (at.key("ca"), it.as_path())));
    if let Some((cert, key)) = &tls.client {
        named.push((at.key("cert"), cert));
        named.push((at.key("key"), key));
    }
    named
}

/// Errors of TLS whose table is at `at`, and which has the files `named`.
pub fn of_tls(errors: &TlsErrors, at: &KeyPath, named: &Named<'_>) -> Vec<Fault> {
    let faults = errors.iter().map(|error| Fault {
        key: key_of(error, named).unwrap_or(at).clone(),
        message: error.to_string(),
    });
    faults.collect()
}

fn key_of<'a>(error: &TlsError, named: &'a Named<'_>) -> Option<&'a KeyPath> {
    let path = error.path()?;
    let keys: Vec<_> = named.iter().filter(|it| it.1 == path).collect();
    // One file may hold a certificate and its key, which is named behind it.
    let found = match error.is_of_key() {
        true => keys.get(1).or(keys.first()),
        false => keys.first(),
    };
    found.map(|it| &it.0)
}

/// The errors of a file of networks, at the first of the lists that name it.
pub fn of_networks(error: &FileError, lists: &[(KeyPath, Sources)]) -> Vec<Fault> {
    let names = |sources: &[access::Source]| {
        let is_it =
            |it: &access::Source| matches!(it, access::Source::File(path) if path == error.path());
        sources.iter().position(is_it)
    };
    let key = lists.iter().find_map(|(at, sources)| {
        let allowed = names(&sources.allow).map(|index| at.key("allow").index(index));
        allowed.or_else(|| names(&sources.deny).map(|index| at.key("deny").index(index)))
    });
    let key = key.unwrap_or_default();
    let fault = |message| Fault {
        key: key.clone(),
        message,
    };
    error.lines().into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn at(error: TlsError) -> String {
        let both = PathBuf::from("both.pem");
        let tls = UpstreamTls {
            ca: Some(PathBuf::from("ca.pem")),
            server_name: None,
            client: Some((both.clone(), both)),
            insecure_skip_verify: false,
        };
        let table = KeyPath::default().key("redis");
        let faults = of_tls(&error.into(), &table, &of_client(&tls, &table));
        faults[0].key.to_string()
    }

    #[test]
    fn each_file_is_told_by_the_key_that_names_it() {
        let path = |name: &str| PathBuf::from(name);
        for (error, key) in [
            (TlsError::NoCertificate(path("ca.pem")), "redis.ca"),
            (TlsError::NoCertificate(path("both.pem")), "redis.cert"),
            (TlsError::NoKey(path("both.pem")), "redis.key"),
            (TlsError::NoSystemRoots(Vec::new()), "redis"),
        ] {
            assert_eq!(at(error), key);
        }
    }
}
