//! Clients that come back to the server that they had: the cookie of `upstream::sticky` in requests and answers.

use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::SET_COOKIE;

use crate::message::cookie;
use crate::message::h1::write_answer::Fields;
use crate::upstream::Sticky;
use crate::upstream::sticky::Session;

/// The session that a request belongs to.
pub fn session(sticky: &Sticky, headers: &HeaderMap) -> Option<Session> {
    sticky.read(cookie::find(headers, sticky.cookie())?, now())
}

/// Tells the client which server it has now, unless it knows and will for a while.
pub fn tell(
    sticky: &Sticky,
    session: Option<Session>,
    identity: u64,
    is_encrypted: bool,
    fields: &mut Fields,
) {
    if session.is_some_and(|session| session.identity == identity && !session.is_old) {
        return;
    }
    let cookie = format!(
        "{}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{}",
        sticky.cookie(),
        sticky.token(identity, now()),
        sticky.ttl().as_secs(),
        if is_encrypted { "; Secure" } else { "" },
    );
    fields.add(SET_COOKIE.as_str(), cookie.as_bytes());
}

/// The time, in seconds of Unix time.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
