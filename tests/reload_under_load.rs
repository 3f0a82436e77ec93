//! Many new configurations under traffic: no request fails.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::support::backend::Backend;
use crate::support::client;
use crate::support::frames::{Frames, window_update};
use crate::support::proxy::Proxy;

const RELOADS: usize = 50;

/// Something of everything changes from one to the next.
fn config(number: usize, servers: &[&Backend]) -> Proxy {
    let addresses: Vec<_> = servers.iter().map(|it| it.addr()).collect();
    let (upstream, strategy) = match number % 3 {
        0 => ("app", "round_robin"),
        1 => ("app", "least_connections"),
        _ => ("other", "power_of_two"),
    };
    Proxy::new()
        .setting("workers = 2\nwatch_config = false")
        .listener(&format!("max_connections = {}", 1000 + number % 5))
        .upstream_with(upstream, &addresses, &format!("strategy = {strategy:?}"))
        .extra(&format!(
            "[[routes]]\nname = \"r{}\"\nmethods = [\"GET\"]\nupstream = {upstream:?}\n\
             [[listeners]]\nname = \"l{}\"\nlisten = \"127.0.0.1:0\"",
            number % 7,
            number % 2
        ))
}

#[test]
fn fifty_reloads_fail_no_request() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let chosen = |number: usize| {
        let all = [&backends[0], &backends[1], &backends[2]];
        match number % 4 {
            0 => all[..2].to_vec(),
            1 => all.to_vec(),
            2 => all[1..].to_vec(),
            _ => vec![all[0], all[2]],
        }
    };
    let proxy = config(0, &chosen(0)).start();
    let (done, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept = proxy.connect();
                while !done.load(Ordering::Relaxed) {
                    let answer = kept.get("/").expect("the connection lives");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let answer = client::get(proxy.addr(), "/");
                assert_eq!(answer.status, 200, "{}", answer.text());
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            let mut client = Frames::connect(proxy.addr());
            let mut stream = 1;
            while !done.load(Ordering::Relaxed) {
                client.is_usable(stream);
                client.send(window_update(0, 1024)); // it reads no bodies
                stream += 2;
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
        for number in 1..=RELOADS {
            proxy.change_to(&config(number, &chosen(number)));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > RELOADS);
    let status = proxy.admin_json("/config/status");
    assert_eq!(status["generation"], RELOADS + 1);
}
