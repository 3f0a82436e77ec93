//! The addresses of earlier hops, as X-Forwarded-For and Forwarded (RFC 7239, section 4) list them.
//!
//! A list is read from its end, which the nearest proxy has written; what stands before that may be anything.

use std::iter;
use std::net::{IpAddr, SocketAddr};

/// The addresses in a line of X-Forwarded-For, from the last to the first; `None` is a member that is none. Empty ones do not
/// count (RFC 9110, section 5.6.1).
pub(super) fn list(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    line.rsplit(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
        .map(node_address)
}

/// The addresses in a line of Forwarded, from the last to the first; `None` is a member without one,
/// behind which nothing more comes if nobody can tell where it begins.
pub(super) fn forwarded(line: &[u8]) -> impl Iterator<Item = Option<IpAddr>> {
    let mut rest = Some(line);
    iter::from_fn(move || {
        loop {
            let line = rest.take()?;
            let Some(begin) = last_member(line) else {
                return Some(None);
            };
            rest = begin.checked_sub(1).map(|comma| &line[..comma]);
            let member = line[begin..].trim_ascii();
            if !member.is_empty() {
                return Some(forwarded_for(member));
            }
        }
    })
}

/// Where the last member of a line of Forwarded begins.
///
/// It is read backwards, as a quote before it that never ends would turn it inside out.
fn last_member(line: &[u8]) -> Option<usize> {
    let mut end = line.len();
    loop {
        let is_mark = |b: &u8| matches!(b, b',' | b'"');
        match line[..end].iter().rposition(is_mark) {
            None => return Some(0),
            Some(comma) if line[comma] == b',' => return Some(comma + 1),
            Some(closing) => end = opening_quote(&line[..closing])?,
        }
    }
}

/// The quote that opens the string at the end of `text`: the last one that follows a `=`, as those within a string follow a
/// backslash.
fn opening_quote(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    loop {
        let quote = text[..end].iter().rposition(|b| *b == b'"')?;
        match text[..quote].last() {
            Some(b'=') => return Some(quote),
            Some(b'\\') => end = quote,
            _ => return None,
        }
    }
}

/// The address in one member of Forwarded: that of its first `for`.
fn forwarded_for(member: &[u8]) -> Option<IpAddr> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let mut pairs = member.split(|b| {
        match b {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = is_quoted,
            b'"' => is_quoted = !is_quoted,
            b';' => return !is_quoted,
            _ => {}
        }
        false
    });
    let node = pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|b| *b == b'=')?;
        let (name, node) = (&pair[..equals], &pair[equals + 1..]);
        name.eq_ignore_ascii_case(b"for").then_some(node)
    })?;
    match node {
        [b'"', node @ .., b'"'] => node_address(node),
        node => node_address(node),
    }
}

/// An address with or without port, IPv6 with or without brackets.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let node = str::from_utf8(node).ok()?;
    let bare = node
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or(node, |(address, _)| address);
    bare.parse()
        .ok()
        .or_else(|| node.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .map(|ip: IpAddr| ip.to_canonical())
}
