//! Node and handle numbers: those of a recording, and those of the replay that stand for them.

use crate::fs::ids::BELOW;
use etcfs_proto::abi::*;
use etcfs_proto::{Frame, Opcode};
use std::collections::HashMap;
use std::mem::offset_of;

/// What a number in a request's arguments names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Node,
    Handle,
    /// A handle only where the flag with this bit, in the 32-bit word at offset 0, is set.
    HandleIf(u32),
}

/// Where the fixed arguments of `opcode` hold numbers, as offsets in bytes.
fn places(opcode: Opcode) -> &'static [(usize, Named)] {
    use Named::{Handle, HandleIf, Node};
    match opcode {
        // FUSE_GETATTR_FH
        Opcode::GETATTR => &[(offset_of!(GetattrIn, fh), HandleIf(1))],
        Opcode::STATX => &[(offset_of!(StatxIn, fh), HandleIf(1))],
        // FATTR_FH
        Opcode::SETATTR => &[(offset_of!(SetattrIn, fh), HandleIf(1 << 6))],
        Opcode::READ | Opcode::READDIR => &[(offset_of!(ReadIn, fh), Handle)],
        Opcode::WRITE => &[(offset_of!(WriteIn, fh), Handle)],
        Opcode::RELEASE | Opcode::RELEASEDIR => &[(offset_of!(ReleaseIn, fh), Handle)],
        Opcode::FLUSH => &[(offset_of!(FlushIn, fh), Handle)],
        Opcode::FSYNC | Opcode::FSYNCDIR => &[(offset_of!(FsyncIn, fh), Handle)],
        Opcode::FALLOCATE => &[(offset_of!(FallocateIn, fh), Handle)],
        Opcode::LSEEK => &[(offset_of!(LseekIn, fh), Handle)],
        Opcode::IOCTL => &[(offset_of!(IoctlIn, fh), Handle)],
        Opcode::POLL => &[(offset_of!(PollIn, fh), Handle)],
        Opcode::GETLK | Opcode::SETLK | Opcode::SETLKW => &[(offset_of!(LkIn, fh), Handle)],
        Opcode::COPY_FILE_RANGE | Opcode::COPY_FILE_RANGE_64 => &[
            (offset_of!(CopyFileRangeIn, fh_in), Handle),
            (offset_of!(CopyFileRangeIn, nodeid_out), Node),
            (offset_of!(CopyFileRangeIn, fh_out), Handle),
        ],
        Opcode::RENAME => &[(offset_of!(RenameIn, newdir), Node)],
        Opcode::RENAME2 => &[(offset_of!(Rename2In, newdir), Node)],
        Opcode::LINK => &[(offset_of!(LinkIn, oldnodeid), Node)],
        _ => &[],
    }
}

/// Why a request cannot be asked in the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It names a node that the replay has not met.
    Node,
    /// It names a handle that the replay has not opened.
    Handle,
}

/// Which number of the replay stands for which of the recording.
pub(crate) struct Ids {
    nodes: HashMap<u64, u64>,
    handles: HashMap<u64, u64>,
}

impl Default for Ids {
    /// Knows what every mount has: no node (0), the root and the configuration file.
    fn default() -> Ids {
        Ids {
            nodes: (0..=2)
                .map(|id| (id, id))
                .chain([(BELOW, ROOT_ID)])
                .collect(),
            handles: HashMap::new(),
        }
    }
}

impl Ids {
    /// Puts the replay's numbers into a request.
    ///
    /// # Errors
    /// The first number that is not known.
    pub(crate) fn translate(&self, message: &mut [u8]) -> Result<(), Unknown> {
        const NODEID: usize = offset_of!(InHeader, nodeid);
        const HEAD: usize = size_of::<InHeader>();
        let Ok(frame) = Frame::cut(message) else {
            return Ok(());
        };
        let opcode = frame.opcode();
        let args = frame.args.len();
        let forgets = frame.forgets().map_or(0, |items| items.len());
        if opcode == Opcode::BATCH_FORGET {
            // What is not known has nothing to forget: node 0 stands for it.
            for item in 0..forgets {
                let at = HEAD + args + item * size_of::<ForgetOne>();
                let known = self.nodes.get(&number(message, at)).copied();
                put(message, at, known.unwrap_or(0));
            }
            return Ok(());
        }
        let node = |id| self.nodes.get(&id).copied().ok_or(Unknown::Node);
        let nodeid = node(number(message, NODEID))?;
        put(message, NODEID, nodeid);
        for &(offset, names) in places(opcode) {
            if offset + 8 > args {
                continue;
            }
            let at = HEAD + offset;
            let old = number(message, at);
            let new = match names {
                Named::Node => node(old)?,
                Named::HandleIf(bit) if number(message, HEAD) as u32 & bit == 0 => continue,
                Named::Handle | Named::HandleIf(_) => {
                    *self.handles.get(&old).ok_or(Unknown::Handle)?
                }
            };
            put(message, at, new);
        }
        Ok(())
    }

    /// Notes that node `new` of the replay stands for `old`; false if another one did.
    pub(crate) fn bind_node(&mut self, old: u64, new: u64) -> bool {
        *self.nodes.entry(old).or_insert(new) == new
    }

    /// Notes that handle `new` of the replay stands for `old`.
    pub(crate) fn bind_handle(&mut self, old: u64, new: u64) {
        self.handles.insert(old, new);
    }
}

/// The number at `at`, in the machine's byte order; 0 beyond the end.
fn number(message: &[u8], at: usize) -> u64 {
    message
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u64::from_ne_bytes)
}

fn put(message: &mut [u8], at: usize, number: u64) {
    if let Some(bytes) = message.get_mut(at..at + 8) {
        bytes.copy_from_slice(&number.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcfs_proto::capture::Message;
    use etcfs_proto::capture::{Record, RecordKind};
    use zerocopy::IntoBytes as _;

    fn request(opcode: Opcode, nodeid: u64, rest: &[u8]) -> Message {
        let head = InHeader {
            len: (40 + rest.len()) as u32,
            opcode: opcode.0,
            nodeid,
            ..InHeader::default()
        };
        let bytes = [head.as_bytes(), rest].concat();
        let mut message = Message::default();
        message.load(&Record {
            kind: RecordKind::Request,
            cpu: 0,
            thread: 0,
            time: 0,
            opcode,
            len: head.len,
            kept: &bytes,
        });
        message
    }

    #[test]
    fn numbers_are_replaced_and_unknown_ones_told() {
        let mut ids = Ids::default();
        assert!(ids.bind_node(10, 3) && ids.bind_node(11, 4));
        assert!(!ids.bind_node(10, 5), "another node stood for it");
        ids.bind_handle(7, 70);
        let args = CopyFileRangeIn {
            fh_in: 7,
            nodeid_out: 11,
            fh_out: 7,
            ..CopyFileRangeIn::default()
        };
        let mut message = request(Opcode::COPY_FILE_RANGE, 10, args.as_bytes());
        assert_eq!(ids.translate(message.bytes_mut()), Ok(()));
        let frame = Frame::cut(message.bytes()).unwrap();
        let args = frame.args::<CopyFileRangeIn>().unwrap();
        assert_eq!(
            (frame.head.nodeid, args.fh_in, args.nodeid_out, args.fh_out),
            (3, 70, 4, 70)
        );
        let mut message = request(Opcode::LOOKUP, 99, b"a\0");
        assert_eq!(ids.translate(message.bytes_mut()), Err(Unknown::Node));
        let args = ReadIn {
            fh: 8,
            ..ReadIn::default()
        };
        let mut message = request(Opcode::READ, 10, args.as_bytes());
        assert_eq!(ids.translate(message.bytes_mut()), Err(Unknown::Handle));
    }

    #[test]
    fn a_handle_counts_only_with_its_flag_and_forgets_miss_what_is_unknown() {
        let mut ids = Ids::default();
        ids.bind_node(10, 3);
        let args = GetattrIn {
            fh: 8,
            ..GetattrIn::default()
        };
        let mut message = request(Opcode::GETATTR, 10, args.as_bytes());
        assert_eq!(ids.translate(message.bytes_mut()), Ok(()));
        let count = BatchForgetIn { count: 2, dummy: 0 };
        let items = [10_u64, 1, 12, 1];
        let rest = [count.as_bytes(), items.as_bytes()].concat();
        let mut message = request(Opcode::BATCH_FORGET, 0, &rest);
        assert_eq!(ids.translate(message.bytes_mut()), Ok(()));
        let frame = Frame::cut(message.bytes()).unwrap();
        let nodes: Vec<_> = frame.forgets().unwrap().map(|one| one.nodeid).collect();
        assert_eq!(nodes, [3, 0]);
    }
}
