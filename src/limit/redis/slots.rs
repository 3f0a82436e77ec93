//! The hash slots of a Redis Cluster, and who owns which (redis.io, "Redis cluster specification").

use redis::Value;

/// How many slots there are.
pub(super) const SLOTS: u16 = 16384;

/// The slot of a key: that of its hash tag, the text between its first brace and the next closing one, if it has any.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'));
    let hashed = match tag {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    };
    crc16(hashed.as_bytes()) % SLOTS
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
        crc
    })
}

/// A range of slots and the address of its primary; no host means the host that was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) host: Option<String>,
    pub(super) port: u16,
}

/// The answer to CLUSTER SLOTS; `None` if it is none.
pub(super) fn ranges(answer: &Value) -> Option<Vec<Range>> {
    let Value::Array(entries) = answer else {
        return None;
    };
    entries.iter().map(range).collect()
}

fn range(entry: &Value) -> Option<Range> {
    let Value::Array(entry) = entry else {
        return None;
    };
    let [first, last, Value::Array(primary), ..] = entry.as_slice() else {
        return None;
    };
    let [host, port, ..] = primary.as_slice() else {
        return None;
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last < SLOTS).then_some(Range {
        first,
        last,
        host: text(host).filter(|host| !host.is_empty() && host != "?"),
        port: number(port)?,
    })
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `CLUSTER KEYSLOT` says.
    #[test]
    fn keys_have_the_slots_that_redis_gives_them() {
        for (key, expected) in [
            ("123456789", 12739),
            ("foo", 12182),
            ("lb:{foo}:fw60000", 12182),
            ("foo{}{bar}", 8363),
            ("{bar", slot_of("{bar")),
            ("foo{{bar}}zap", slot_of("{bar")),
        ] {
            assert_eq!(slot(key), expected, "{key}");
        }
    }

    fn slot_of(text: &str) -> u16 {
        crc16(text.as_bytes()) % SLOTS
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_none() {
        let primary = |host: &str| {
            let host = Value::BulkString(host.as_bytes().to_vec());
            Value::Array(vec![host, Value::Int(7000), Value::BulkString(vec![])])
        };
        let entry = |first, last, host| {
            Value::Array(vec![Value::Int(first), Value::Int(last), primary(host)])
        };
        let of = |entry| ranges(&Value::Array(vec![entry]));
        let expected = |host| Range {
            first: 0,
            last: 16383,
            host,
            port: 7000,
        };
        let whole = of(entry(0, 16383, "192.0.2.1"));
        assert_eq!(whole, Some(vec![expected(Some("192.0.2.1".to_owned()))]));
        assert_eq!(of(entry(0, 16383, "")), Some(vec![expected(None)]));
        assert_eq!(of(entry(0, 16384, "a")), None);
        assert_eq!(of(entry(5, 4, "a")), None);
        assert_eq!(of(entry(-1, 4, "a")), None);
        assert_eq!(of(Value::Array(vec![Value::Int(1)])), None);
        assert_eq!(ranges(&Value::Nil), None);
    }
}
