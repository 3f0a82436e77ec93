//! `reload_guard`: a configuration under which requests fare worse is given up for the one before.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::reload::saying;
use crate::support::proxy::{Proxy, RunningProxy};
use crate::support::{client, wait_until};

/// A configuration under guard that answers with this status.
fn guarded(status: u16) -> Proxy {
    Proxy::new()
        .setting("workers = 1\nreload_guard = { window = \"5s\" }")
        .extra(&format!("[[routes]]\nrespond = {{ status = {status} }}"))
}

/// Asks on and on while `work` is done.
fn under_traffic(proxy: &RunningProxy, work: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                _ = client::try_get(proxy.addr(), "/");
            }
        });
        work();
        done.store(true, Ordering::Relaxed);
    });
}

fn status(proxy: &RunningProxy) -> Value {
    proxy.admin_json("/config/status")
}

#[test]
fn errors_bring_the_former_configuration_back_and_the_file_is_not_taken_again() {
    let proxy = guarded(200).start();
    under_traffic(&proxy, || {
        // Two looks at least, of which the later one counts.
        wait_until("there is something to compare with", || {
            proxy.metric("lb_requests_total") > 1000
        });
        let up = saying("up").start();
        up.write(&saying("two seconds later"));
        wait_until("time has passed", || {
            up.get("/").text() == "two seconds later"
        });

        proxy.change_to(&guarded(500));
        assert_eq!(proxy.get("/").status, 500);
        // To ask for what is in force is not to be content with it.
        assert_eq!(proxy.reload().status, 200);
        wait_until("it is given up", || {
            status(&proxy)["last"]["result"] == "rolled_back"
        });
        assert_eq!(proxy.get("/").status, 200);
        let status = status(&proxy);
        assert_eq!(status["by"], "guard");
        assert_eq!(status["generation"], 4);
        assert_eq!(
            (&status["successes"], &status["rollbacks"]),
            (&2.into(), &1.into())
        );
        let why = status["last"]["errors"][0]["message"].to_string();
        assert!(why.contains("5xx"), "{why}");
        proxy
            .process()
            .wait_for_line("is given up for the former one");

        // The same content, seen as a change of the file.
        proxy.write(&guarded(500));
        up.write(&saying("four seconds later"));
        wait_until("time has passed", || {
            up.get("/").text() == "four seconds later"
        });
    });
    assert_eq!(status(&proxy)["generation"], 4);
    assert_eq!(proxy.get("/").status, 200);
    // Whoever asks for it gets it.
    assert_eq!(proxy.reload().status, 200);
    assert_eq!(proxy.get("/").status, 500);
}
