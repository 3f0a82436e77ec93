//! Asking for a new configuration, with somebody else in the place of whoever reads it.

use super::*;
use crate::admin::{Applied, Outcome, Problem, Trigger, Try};

impl Admin {
    /// Answers the next request for a reload.
    fn reloads_with(&mut self, outcome: Result<Applied, Vec<Problem>>) {
        let mut requests = self.requests.take().unwrap();
        tokio::spawn(async move {
            let report = requests.recv().await.unwrap();
            report.send(outcome).unwrap();
        });
    }
}

fn admin(dir: &TempDir) -> Admin {
    Admin::start(ONE, &dir.path().join("state"))
}

#[tokio::test]
async fn a_reload_says_what_has_changed() {
    let dir = TempDir::new();
    let mut admin = admin(&dir);
    admin.reloads_with(Ok(Applied {
        generation: 2,
        changes: vec!["route \"a\": removed".to_owned()],
        restart_needed: vec!["workers".to_owned()],
    }));
    let answer = admin.post("/config/reload", Value::Null).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        answer.body,
        json!({"generation": 2, "changes": ["route \"a\": removed"], "restart_needed": ["workers"]})
    );
}

#[tokio::test]
async fn errors_are_told_with_their_places() {
    let dir = TempDir::new();
    let mut admin = admin(&dir);
    admin.reloads_with(Err(vec![Problem {
        file: Some("config.toml".to_owned()),
        line: Some(3),
        key: Some("workers".to_owned()),
        message: "is no number".to_owned(),
    }]));
    let answer = admin.post("/config/reload", Value::Null).await;
    assert_eq!(answer.error(), (422, "invalid_config"));
    assert_eq!(
        answer.body["errors"],
        json!([{"file": "config.toml", "line": 3, "key": "workers", "message": "is no number"}])
    );
}

#[tokio::test]
async fn one_reload_runs_at_a_time() {
    let dir = TempDir::new();
    let admin = admin(&dir);
    admin.state.reloads.set_running(true);
    let answer = admin.post("/config/reload", Value::Null).await;
    assert_eq!(answer.error(), (409, "reloading"));
    admin.state.reloads.set_running(false);
    // Nobody takes the first: it waits in the place that there is.
    let router = admin.router.clone();
    let waiting =
        tokio::spawn(router.oneshot(request(Method::POST, "/config/reload", Body::empty())));
    tokio::task::yield_now().await;
    let answer = admin.post("/config/reload", Value::Null).await;
    assert_eq!(answer.error(), (409, "reloading"));
    waiting.abort();
}

#[tokio::test]
async fn the_status_and_the_metrics_tell_of_the_last_try() {
    let dir = TempDir::new();
    let admin = admin(&dir);
    let status = admin.get("/config/status").await.body;
    assert_eq!(status["generation"], 1);
    assert_eq!(status["by"], "start");
    assert_eq!(status["last"], Value::Null);
    let text = crate::admin::render(&admin.state);
    assert!(text.contains("\nlb_config_last_reload_successful 1\n"));

    let problem = vec![Problem::from("it is bad".to_owned())];
    admin.state.reloads.update(|status| {
        status.failures += 1;
        status.last = Some(Try::now(Trigger::File, Outcome::Failure, &[], problem));
    });
    let status = admin.get("/config/status").await.body;
    assert_eq!(status["generation"], 1, "the former one is in force");
    assert_eq!(status["last"]["by"], "file");
    assert_eq!(status["last"]["result"], "failure");
    assert_eq!(status["last"]["errors"][0]["message"], "it is bad");
    let text = crate::admin::render(&admin.state);
    for line in [
        "lb_config_generation 1",
        "lb_config_last_reload_successful 0",
        "lb_config_reloads_total{result=\"success\"} 0",
        "lb_config_reloads_total{result=\"failure\"} 1",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}");
    }

    let last = Try::now(Trigger::Signal, Outcome::Success, &[], Vec::new());
    admin.state.reloads.update(|status| {
        status.successes += 1;
        status.in_force(Trigger::Signal, last.time);
        status.last = Some(last);
    });
    let status = admin.get("/config/status").await.body;
    assert_eq!(
        (&status["generation"], &status["by"]),
        (&json!(2), &json!("signal"))
    );
    let text = crate::admin::render(&admin.state);
    assert!(text.contains("\nlb_config_last_reload_successful 1\n"));
}
