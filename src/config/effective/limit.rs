//! Limits, and what is shared for them, as a file would say them.

use super::list;
use crate::config::forms::{List, Table, TableOrList};
use crate::config::model::{
    Bandwidth, CidrSource, Cluster, ConnectionRate, RateLimit, Redis, ServerBandwidth, Store,
};
use crate::config::names::{ListenAddress, Name};
use crate::config::schema;
use crate::config::types::{ByteRate, RedisServers, Secret, SecretSource};

pub(super) fn redis(redis: &Redis) -> schema::Redis {
    let place = match &redis.servers {
        RedisServers::One(url) => schema::Redis {
            url: Some(secret(url)),
            ..schema::Redis::default()
        },
        RedisServers::Cluster(urls) => schema::Redis {
            urls: Some(list(urls, secret)),
            ..schema::Redis::default()
        },
        RedisServers::Sentinel {
            master,
            urls,
            username,
            password,
            database,
        } => schema::Redis {
            sentinel: Some(Table(schema::Sentinel {
                master: Some(master.clone()),
                urls: Some(list(urls, secret)),
                username: username.clone(),
                password: password.as_ref().map(secret),
                database: Some(*database),
            })),
            ..schema::Redis::default()
        },
    };
    let tls = redis.tls.as_ref();
    let (cert, key) = tls.and_then(|it| it.client.clone()).unzip();
    schema::Redis {
        timeout: Some(redis.timeout.into()),
        ca: tls.and_then(|it| it.ca.clone()),
        server_name: tls.and_then(|it| it.server_name.clone()),
        cert,
        key,
        insecure_skip_verify: tls.map(|it| it.insecure_skip_verify),
        ..place
    }
}

fn secret(secret: &Secret) -> SecretSource {
    SecretSource::Literal(secret.clone())
}

pub(super) fn cluster(cluster: &Cluster) -> schema::Cluster {
    schema::Cluster {
        listen: Some(ListenAddress(cluster.listen)),
        advertise: cluster.advertise.map(ListenAddress),
        seeds: Some(list(&cluster.seeds, Clone::clone)),
        key: Some(secret(&cluster.key)),
        name: Some(Name(cluster.name.clone())),
        interval: Some(cluster.interval.into()),
        dead_after: Some(cluster.dead_after.into()),
        share_servers: Some(cluster.share_servers),
    }
}

pub(super) fn rate_limit(limit: &RateLimit) -> schema::RateLimit {
    schema::RateLimit {
        algorithm: Some(limit.algorithm),
        requests: Some(limit.requests),
        window: Some(limit.window.into()),
        burst: Some(limit.burst),
        key: Some(limit.key.clone()),
        store: Some(limit.store),
        lease: (limit.store == Store::RedisLeased).then_some(limit.lease),
        on_store_failure: Some(limit.on_store_failure),
        headers: Some(limit.headers),
    }
}

pub(super) fn connection_rate(limit: &ConnectionRate) -> schema::ConnectionRate {
    schema::ConnectionRate {
        algorithm: Some(limit.algorithm),
        connections: Some(limit.connections),
        window: Some(limit.window.into()),
        burst: Some(limit.burst),
        store: Some(limit.store),
        lease: (limit.store == Store::RedisLeased).then_some(limit.lease),
        on_store_failure: Some(limit.on_store_failure),
    }
}

pub(super) fn bandwidth(limits: &[Bandwidth]) -> TableOrList<schema::Bandwidth> {
    TableOrList::Many(list(limits, |it| {
        Table(schema::Bandwidth {
            upload: it.upload.and_then(ByteRate::new),
            download: it.download.and_then(ByteRate::new),
            key: Some(it.key),
        })
    }))
}

pub(super) fn server_bandwidth(limit: &ServerBandwidth) -> schema::ServerBandwidth {
    schema::ServerBandwidth {
        upload: limit.upload.and_then(ByteRate::new),
        download: limit.download.and_then(ByteRate::new),
    }
}

pub(super) fn networks(sources: &[CidrSource]) -> List<CidrSource> {
    list(sources, Clone::clone)
}
