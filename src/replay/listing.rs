//! Listings, which another lower file system gives in another order and in other portions: compared as a whole, when the
//! recorded one has come to its end.

use etcfs_proto::abi::Dirent;
use std::collections::BTreeMap;
use zerocopy::FromBytes as _;

/// Names with their types (`DT_*`).
type Names = BTreeMap<Vec<u8>, u32>;

/// One directory handle's listing in the recording and in the replay.
#[derive(Default)]
pub(crate) struct Listing {
    recorded: Names,
    replayed: Names,
    /// Where the recorded listing goes on.
    recorded_at: u64,
    /// Where the replay's goes on.
    pub(crate) at: u64,
    /// The replay's has come to its end.
    pub(crate) ended: bool,
    /// The client did not read on where it had stopped, so the whole was never listed.
    jumped: bool,
}

impl Listing {
    /// Before a request for what follows `offset` in the recorded listing.
    pub(crate) fn begin(&mut self, offset: u64) {
        if offset == 0 {
            *self = Listing::default();
        } else if offset != self.recorded_at {
            self.jumped = true;
        }
    }

    /// Takes the recorded answer; true if it was the end of the listing and there is something to compare.
    pub(crate) fn take_recorded(&mut self, body: &[u8]) -> bool {
        if body.is_empty() {
            return !self.jumped;
        }
        self.recorded_at = take(&mut self.recorded, body).unwrap_or(self.recorded_at);
        false
    }

    /// Takes an answer of the replay.
    pub(crate) fn take_replayed(&mut self, body: &[u8]) {
        match take(&mut self.replayed, body) {
            Some(offset) => self.at = offset,
            None => self.ended = true,
        }
    }

    /// The differences, one a line.
    pub(crate) fn differences(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, kind) in &self.recorded {
            match self.replayed.get(name) {
                None => lines.push(format!("\"{}\" is not listed", name.escape_ascii())),
                Some(other) if other != kind && *other != 0 && *kind != 0 => lines.push(format!(
                    "\"{}\": recorded with type {kind}, replayed with {other}",
                    name.escape_ascii()
                )),
                Some(_) => {}
            }
        }
        for name in self.replayed.keys() {
            if !self.recorded.contains_key(name) {
                lines.push(format!("\"{}\" is listed too", name.escape_ascii()));
            }
        }
        lines
    }
}

/// Adds the entries of an answer to `names`; the offset behind the last, or none if there is none.
fn take(names: &mut Names, mut body: &[u8]) -> Option<u64> {
    const HEAD: usize = size_of::<Dirent>();
    let mut last = None;
    while let Ok((entry, rest)) = Dirent::read_from_prefix(body) {
        let Some(name) = rest.get(..entry.namelen as usize) else {
            break;
        };
        names.insert(name.to_vec(), entry.r#type);
        last = Some(entry.off);
        let next = (HEAD + name.len()).next_multiple_of(8);
        body = body.get(next..).unwrap_or_default();
    }
    last
}
