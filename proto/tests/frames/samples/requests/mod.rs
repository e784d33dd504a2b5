//! Requests.

mod attributes;
mod files;
mod names;
mod others;

use super::Sample;
use etcfs_proto::Opcode;
use etcfs_proto::abi::*;
use zerocopy::{Immutable, IntoBytes};

const HEAD: &str = "fuse_in_header";

/// A request whose header counts everything put into it afterwards.
struct Request {
    sample: Sample,
    head: InHeader,
}

fn request(file: &str, opcode: Opcode) -> Request {
    let head = InHeader {
        opcode: opcode.0,
        unique: 0x2a,
        nodeid: 7,
        uid: 1000,
        gid: 100,
        pid: 4242,
        ..InHeader::default()
    };
    Request {
        sample: Sample::new(file, opcode),
        head,
    }
}

impl Request {
    fn arg<T: IntoBytes + Immutable>(mut self, what: &'static str, value: &T) -> Self {
        self.sample = self.sample.put(what, value);
        self
    }

    fn tail(mut self, what: &'static str, bytes: &[u8]) -> Self {
        self.sample = self.sample.bytes(what, bytes);
        self
    }

    fn ext(mut self, what: &'static str, bytes: &[u8]) -> Self {
        self.head.total_extlen += (bytes.len() / 8) as u16;
        self.tail(what, bytes)
    }

    fn done(mut self) -> Sample {
        self.head.len = (size_of::<InHeader>() + self.sample.message().len()) as u32;
        self.sample
            .parts
            .insert(0, (HEAD, self.head.as_bytes().to_vec()));
        self.sample
    }
}

/// At least one request of every opcode.
pub fn requests() -> Vec<Sample> {
    let mut all = names::names();
    all.extend(attributes::attributes());
    all.extend(attributes::xattrs());
    all.extend(files::files());
    all.extend(others::others());
    all
}
