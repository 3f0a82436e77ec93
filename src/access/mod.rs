//! Allow and deny lists: which addresses may come in.
//!
//! ```text
//! Lists ─── ListFile, one a path, read once ─┐
//!   └────── AccessList, one for each pair ───┴─▶ Table ─┬─ Ranges of IPv4
//!                                                       └─ Ranges of IPv6
//! ```
//!
//! The most specific network decides that an address is in; a network that is both allowed and denied is denied. Who is
//! in none may come in, unless there is anything to be allowed. All of that is settled when a table is made: what it keeps
//! is where, among all addresses, the answer changes.
//!
//! Who asks, and what becomes of those that may not come in, is decided by the caller.

mod file;
mod list;
mod lists;
mod ranges;
mod table;
mod text;

pub use self::file::{FileError, ListFile, Look};
pub use self::list::AccessList;
pub use self::lists::{Lists, Refreshed};
pub use self::table::Table;
pub use self::text::BadLines;

use std::path::PathBuf;

use ipnet::IpNet;

/// Where networks come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The configuration itself.
    Net(IpNet),
    /// A file with a network a line.
    File(PathBuf),
}

/// What is allowed and what is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Sources {
    /// If there are any, nobody else is.
    pub allow: Vec<Source>,
    /// These are not, unless something more specific allows them.
    pub deny: Vec<Source>,
}

impl Sources {
    /// Whether everybody may come in.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }

    /// The files that have a part in it, as often as they are named.
    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let sources = self.allow.iter().chain(&self.deny);
        sources.filter_map(|source| match source {
            Source::File(path) => Some(path),
            Source::Net(_) => None,
        })
    }
}
