//! Cookies of requests (RFC 6265, section 4.2).

use http::header::{COOKIE, HeaderMap, HeaderValue};

/// The value of the first cookie of this name.
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(COOKIE).into_iter();
    let mut values = lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| value_of(pair, name));
    values.find_map(|value| str::from_utf8(value).ok())
}

/// The value of a cookie, if it has this name.
fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
    rest.strip_prefix(b"=")
}

/// A line of cookies without those of this name; `None` if no others are there. The rest stays as it is, text or not.
pub fn without(line: &HeaderValue, name: &str) -> Option<Vec<u8>> {
    let is_its = |pair: &&[u8]| value_of(pair, name).is_some();
    let pairs = line.as_bytes().split(|byte| *byte == b';');
    let others: Vec<&[u8]> = pairs.filter(|pair| !is_its(pair)).collect();
    let rest = others.join(&b';');
    let rest = rest.trim_ascii();
    (!rest.is_empty()).then(|| rest.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers =
            HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("a=1; session=x=y; b=2"))]);
        headers.append(COOKIE, HeaderValue::from_static("c=3"));
        assert_eq!(find(&headers, "session"), Some("x=y"));
        assert_eq!(find(&headers, "c"), Some("3"));
        assert_eq!(find(&headers, "sess"), None);
        let odd = HeaderValue::from_bytes(b"name=Zo\xeb; lb=1").unwrap();
        headers.append(COOKIE, odd);
        assert_eq!(find(&headers, "lb"), Some("1"));
    }

    #[test]
    fn a_cookie_is_taken_out_and_the_others_stay() {
        let cases = [
            ("lb=1", None),
            (" lb=1 ;", None),
            ("lb=1; a=2", Some("a=2")),
            ("a=2; lb=1; b=3", Some("a=2; b=3")),
            ("a=2; lb=1; lb=4", Some("a=2")),
            ("a=2", Some("a=2")),
            ("lbx=1; xlb=2; lb", Some("lbx=1; xlb=2; lb")),
        ];
        for (line, expected) in cases {
            let rest = without(&HeaderValue::from_static(line), "lb");
            let rest = rest.map(|rest| String::from_utf8(rest).unwrap());
            assert_eq!(rest.as_deref(), expected, "{line:?}");
        }
        let odd = HeaderValue::from_bytes(b"a=\xff; lb=1").unwrap();
        assert_eq!(without(&odd, "lb").unwrap(), b"a=\xff");
    }
}
