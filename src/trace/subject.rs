//! What a request is about, in paths.

use crate::fs::Fs;
use crate::fs::ids::{NodeId, Side};
use etcfs_proto::abi::{LinkIn, OpenOut, Rename2In, RenameIn};
use etcfs_proto::flags::OpenFlags;
use etcfs_proto::{Frame, Opcode};
use std::ffi::CStr;
use zerocopy::FromBytes as _;

/// What a request is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Subject {
    /// The path below the mount, without a leading slash; empty for the root. `None`: not known any more.
    pub(crate) path: Option<Vec<u8>>,
    /// The second path: where a rename leads to, what a link is made of.
    pub(crate) other: Option<Vec<u8>>,
    /// The side that the path lives on.
    pub(crate) side: Option<Side>,
    /// The rule that the path falls under: `global`, or `override` with its kind.
    pub(crate) rule: Option<String>,
}

impl Subject {
    /// What `frame` is about. Reads tables only. Call it before the request is carried out, since removing and forgetting take away what names
    /// the paths.
    pub(crate) fn of(fs: &Fs, frame: &Frame<'_>) -> Subject {
        let node = NodeId::of(frame.head.nodeid);
        let (name, other) = names(fs, frame);
        let path = match name {
            Some(name) => child(fs, node, name),
            None if frame.opcode() == Opcode::BATCH_FORGET => None,
            None => fs.lower.path_of(node).ok(),
        };
        let mut subject = Subject {
            path,
            other,
            ..Subject::default()
        };
        if let Some(path) = &subject.path {
            let rules = fs.lower.rules();
            let found = rules.find(path);
            subject.side = Some(fs.lower.side_of(&rules, &found));
            subject.rule = match found.over {
                Some(over) => Some(format!("override {}", over.kind.word())),
                None => found.global.map(|_| "global".to_owned()),
            };
        }
        subject
    }
}

fn child(fs: &Fs, parent: NodeId, name: &CStr) -> Option<Vec<u8>> {
    let mut path = fs.lower.path_of(parent).ok()?;
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    Some(path)
}

/// The name in the request's own directory, and the path of the second one.
fn names<'a>(fs: &Fs, frame: &Frame<'a>) -> (Option<&'a CStr>, Option<Vec<u8>>) {
    match frame.opcode() {
        Opcode::SYMLINK => (frame.names2().ok().map(|(name, _)| name), None),
        Opcode::RENAME | Opcode::RENAME2 => {
            let to = match frame.opcode() {
                Opcode::RENAME => frame.args::<RenameIn>().map(|args| args.newdir),
                _ => frame.args::<Rename2In>().map(|args| args.newdir),
            };
            let Ok((from, into)) = frame.names2() else {
                return (None, None);
            };
            let to = to.ok().and_then(|to| child(fs, NodeId::of(to), into));
            (Some(from), to)
        }
        Opcode::LINK => {
            let old = frame.args::<LinkIn>().ok();
            let old = old.and_then(|args| fs.lower.path_of(NodeId::of(args.oldnodeid)).ok());
            (frame.name().ok(), old)
        }
        // An extended attribute's name is no file's.
        Opcode::REMOVEXATTR | Opcode::GETXATTR | Opcode::TMPFILE => (None, None),
        _ => (frame.name().ok(), None),
    }
}

/// Whether the answer to an open says that the kernel reads and writes the file itself.
pub(crate) fn is_passed(opcode: Opcode, body: &[u8]) -> bool {
    if !matches!(opcode, Opcode::OPEN | Opcode::CREATE | Opcode::TMPFILE) {
        return false;
    }
    OpenOut::read_from_suffix(body).is_ok_and(|(_, out)| {
        let flags = OpenFlags::from_bits_retain(out.open_flags);
        flags.contains(OpenFlags::PASSTHROUGH) && !flags.contains(OpenFlags::DIRECT_IO)
    })
}

/// The word for a side.
pub(crate) const fn side_word(side: Side) -> &'static str {
    match side {
        Side::Local => "local",
        Side::Global => "global",
    }
}
