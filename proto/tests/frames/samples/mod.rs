//! Messages built from structs: at least one request and one answer of every opcode.

mod answers;
mod requests;

pub use answers::{answers, notices};
pub use requests::requests;

use etcfs_proto::Opcode;
use zerocopy::{Immutable, IntoBytes};

/// One message.
pub struct Sample {
    /// Name of its golden files.
    pub file: String,
    /// What is asked or answered.
    pub opcode: Opcode,
    /// Its parts with a word on each.
    pub parts: Vec<(&'static str, Vec<u8>)>,
}

impl Sample {
    fn new(file: &str, opcode: Opcode) -> Self {
        Self {
            file: file.to_owned(),
            opcode,
            parts: Vec::new(),
        }
    }

    fn put<T: IntoBytes + Immutable>(mut self, what: &'static str, value: &T) -> Self {
        self.parts.push((what, value.as_bytes().to_vec()));
        self
    }

    fn bytes(mut self, what: &'static str, bytes: &[u8]) -> Self {
        self.parts.push((what, bytes.to_vec()));
        self
    }

    /// The whole message.
    pub fn message(&self) -> Vec<u8> {
        self.parts
            .iter()
            .flat_map(|(_, bytes)| bytes)
            .copied()
            .collect()
    }
}
