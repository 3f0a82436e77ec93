//! What a client's connection is closed for.

use h2::Reason;
use thiserror::Error;

/// Why a connection should be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Fault {
    /// Its client floods it.
    #[error(transparent)]
    Flood(#[from] Flood),
    /// Its first frame is no SETTINGS (RFC 9113, section 3.4).
    #[error("it does not begin with SETTINGS")]
    Preface,
    /// A frame has a length that its type cannot have (RFC 9113, section 6).
    #[error("it sends a frame of a wrong size")]
    Size,
}

impl Fault {
    /// What the client is told.
    pub fn reason(self) -> Reason {
        match self {
            Self::Flood(_) => Reason::ENHANCE_YOUR_CALM,
            Self::Preface => Reason::PROTOCOL_ERROR,
            Self::Size => Reason::FRAME_SIZE_ERROR,
        }
    }
}

/// What a client has sent too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Flood {
    /// RST_STREAM: too many, or for most of the streams that it opened (CVE-2023-44487).
    #[error("it resets too many streams")]
    Resets,
    /// SETTINGS (CVE-2019-9515).
    #[error("it sends too many SETTINGS")]
    Settings,
    /// PING (CVE-2019-9512).
    #[error("it sends too many PINGs")]
    Pings,
    /// DATA without content (CVE-2019-9518), or with next to none.
    #[error("it sends too much DATA without content")]
    EmptyData,
    /// Header blocks in too many frames, or too large (CVE-2024-27316).
    #[error("it sends endless CONTINUATIONs")]
    Continuations,
    /// WINDOW_UPDATE.
    #[error("it sends too many WINDOW_UPDATEs")]
    WindowUpdates,
    /// PRIORITY (CVE-2019-9513) and PRIORITY_UPDATE.
    #[error("it sends too many PRIORITYs")]
    Priorities,
    /// HEADERS.
    #[error("it sends too many HEADERS")]
    Headers,
    /// Other frames.
    #[error("it sends too many frames that mean nothing")]
    Others,
    /// Header lists that become far too large when they are unpacked (CVE-2016-1544).
    #[error("it sends header lists that are far too large")]
    HeaderLists,
    /// What streams have to be reset for, by us (CVE-2025-8671).
    #[error("it makes too many errors")]
    Errors,
}

impl Flood {
    /// All there are; each is at the place of its [`index`](Self::index).
    pub const ALL: [Self; 11] = [
        Self::Resets,
        Self::Settings,
        Self::Pings,
        Self::EmptyData,
        Self::Continuations,
        Self::WindowUpdates,
        Self::Priorities,
        Self::Headers,
        Self::Others,
        Self::HeaderLists,
        Self::Errors,
    ];

    /// Its place among all.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its name as the value of a metric's label: `rst_stream`, `settings`, ...
    pub fn name(self) -> &'static str {
        match self {
            Self::Resets => "rst_stream",
            Self::Settings => "settings",
            Self::Pings => "ping",
            Self::EmptyData => "empty_data",
            Self::Continuations => "continuation",
            Self::WindowUpdates => "window_update",
            Self::Priorities => "priority",
            Self::Headers => "headers",
            Self::Others => "other",
            Self::HeaderLists => "header_list",
            Self::Errors => "error",
        }
    }

    /// The flood for which the h2 crate has ended a connection, if that is why. Which one it is the crate says only to the
    /// client, as the last bytes that it wrote.
    pub fn found_by_library(error: &h2::Error, last_words: &[u8]) -> Option<Self> {
        if !error.is_library() || error.reason() != Some(Reason::ENHANCE_YOUR_CALM) {
            return None;
        }
        let found = LAST_WORDS
            .iter()
            .find(|(words, _)| last_words.ends_with(words));
        Some(found.map_or(Self::Others, |(_, flood)| *flood))
    }
}

/// What the h2 crate says in the end, and for what.
const LAST_WORDS: [(&[u8], Flood); 5] = [
    (b"too_many_resets", Flood::Resets),
    (b"too_many_data_frames", Flood::EmptyData),
    (b"too_many_continuations", Flood::Continuations),
    (b"header_list_way_too_large", Flood::HeaderLists),
    (b"too_many_internal_resets", Flood::Errors),
];

/// So many of the last bytes are enough.
pub const LAST_WORDS_LENGTH: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flood_is_at_its_place() {
        for (place, flood) in Flood::ALL.into_iter().enumerate() {
            assert_eq!(flood.index(), place);
        }
    }
}
