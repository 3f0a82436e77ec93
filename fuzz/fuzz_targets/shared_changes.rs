//! What nodes tell each other of changes to servers: it is heard alike whatever is known, and answers are understood.
#![no_main]

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use libfuzzer_sys::fuzz_target;
use loadbalancer::admin::{MAX_MESSAGE, News, Register, Sharing};
use tokio::sync::mpsc;

const KNOWN: &str = r#"[
    {"server": {"upstream": "app", "address": "10.0.0.1:80"}, "stamp": {"clock": 5, "node": "a"}, "difference": "removed"},
    {"server": {"upstream": "app", "address": "app.internal:80"}, "stamp": {"clock": 9000000000000000, "node": "b"},
     "difference": {"added": {"weight": 3, "draining": true}}},
    {"server": {"upstream": "b", "address": "[::1]:80"}, "stamp": {"clock": 7, "node": "b"},
     "difference": {"changed": {"draining": false}}}
]"#;

fn node(register: Register) -> (Sharing, mpsc::Receiver<News>) {
    let (news, heard) = mpsc::channel(64);
    let register = Arc::new(ArcSwapOption::from_pointee(register));
    let random = fastrand::Rng::with_seed(1);
    (Sharing::new(register, news, random), heard)
}

fuzz_target!(|message: &[u8]| {
    let (mut new, mut news) = node(Register::default());
    let (mut knows, _) = node(serde_json::from_str(KNOWN).expect("it is a register"));
    let of_new = new.hear(1, message);
    let answers = knows.hear(1, message);
    assert_eq!(of_new.is_some(), answers.is_some());
    assert!(
        of_new.unwrap_or_default().is_empty(),
        "it has nothing to tell"
    );
    _ = news.try_recv();
    for (to, answer) in answers.unwrap_or_default() {
        assert!(to == Some(1) && answer.len() <= MAX_MESSAGE);
        assert!(new.hear(2, &answer).is_some());
        assert!(news.try_recv().is_ok(), "it is told what it does not know");
    }
    for (_, told) in [knows.turn(), knows.round()].concat() {
        assert!(told.len() <= MAX_MESSAGE && new.hear(2, &told).is_some());
    }
});
