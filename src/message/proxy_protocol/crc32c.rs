//! CRC32c, the checksum of version 2 (RFC 4960, appendix B).
//!
//! Few senders add it, and headers are short: a table of 256 entries is fast enough.

/// The polynomial 0x1EDC6F41, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each byte does to the checksum.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut entry = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            entry = (entry >> 1) ^ (POLYNOMIAL * (entry & 1));
            bit += 1;
        }
        table[byte] = entry;
        byte += 1;
    }
    table
};

/// The checksum of the concatenation of `parts`.
pub(super) fn checksum(parts: [&[u8]; 3]) -> u32 {
    let bytes = parts.into_iter().flatten();
    !bytes.fold(!0, |sum, byte| {
        (sum >> 8) ^ TABLE[usize::from(sum as u8 ^ byte)]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_rfc_3720() {
        // Appendix B.4, and the check value that catalogues of checksums give.
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(checksum([&[0; 32], b"", b""]), 0x8a91_36aa);
        assert_eq!(checksum([&[0xff; 16], &[0xff; 16], b""]), 0x62a8_ab43);
        assert_eq!(checksum([&ascending, b"", b""]), 0x46dd_794e);
        assert_eq!(checksum([b"1234", b"", b"56789"]), 0xe306_9283);
    }
}
