//! Where things lie in a store's directory, and what a name found there stands for.
//!
//! May use: nothing of this crate. Pure. Lower-case hex, digits and fixed words only, so that
//! nothing collides where case is folded.

use store_format::ids::{OperationId, PackId};

/// The file that says what a store is.
pub const FORMAT: &str = "format";
/// The directory of packs.
pub const PACKS: &str = "packs";
/// The directory of merged indexes.
pub const MERGED: &str = "mpi";
/// The directory of reference tables.
pub const REFS: &str = "refs";
/// The directory of operation records.
pub const OPS: &str = "ops";
/// The directory of leases.
pub const LEASES: &str = "leases";
/// The directory of lists of packs that gc will delete.
pub const CONDEMNED: &str = "condemned";
/// The directory of everything unfinished.
pub const TMP: &str = "tmp";
/// The directory of what can be made again.
pub const CACHE: &str = "cache";
/// The directory of damaged files that were moved aside.
pub const QUARANTINE: &str = "quarantine";
/// A file that is there to be removed when the disk is full.
pub const RESERVE: &str = "reserve";

/// Every directory that a new store gets.
pub const DIRS: [&str; 8] = [PACKS, MERGED, REFS, OPS, LEASES, CONDEMNED, TMP, CACHE];

/// A pack.
#[must_use]
pub fn pack(id: &PackId) -> String {
    format!("{PACKS}/{id:.2}/{id}.pack")
}

/// The index of a pack.
#[must_use]
pub fn index(id: &PackId) -> String {
    format!("{PACKS}/{id:.2}/{id}.idx")
}

/// An operation record.
#[must_use]
pub fn operation(id: &OperationId) -> String {
    format!("{OPS}/{id:.2}/{id}")
}

/// A reference table.
#[must_use]
pub fn table(number: u64) -> String {
    format!("{REFS}/{number:016}")
}

/// The pack whose file has this name.
#[must_use]
pub fn parse_pack(name: &str) -> Option<PackId> {
    name.strip_suffix(".pack")?.parse().ok()
}

/// The pack whose index file has this name.
#[must_use]
pub fn parse_index(name: &str) -> Option<PackId> {
    name.strip_suffix(".idx")?.parse().ok()
}

/// The number of the reference table whose file has this name.
#[must_use]
pub fn parse_table(name: &str) -> Option<u64> {
    let number = name.parse().ok()?;
    (format!("{number:016}") == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        let id = PackId::of(b"x");
        let path = pack(&id);
        assert_eq!(parse_pack(path.rsplit('/').next().unwrap()), Some(id));
        assert_eq!(parse_pack(&format!("{id}.idx")), None);
        assert_eq!(parse_table("0000000000000012"), Some(12));
        for other in ["12", "+000000000000012", "000000000000001x", ""] {
            assert_eq!(parse_table(other), None);
        }
    }
}
