//! What is asked while the server is stopped: every opcode, in the ways that differ.

mod files;
mod names;

use super::world::{Answer, World};
use etcfs_proto::Opcode;
use etcfs_proto::abi::{
    Attr, AttrOut, BatchForgetIn, CopyFileRangeIn, CreateIn, EntryOut, FallocateIn, FileLock,
    ForgetIn, ForgetOne, IoctlIn, LinkIn, LkIn, MkdirIn, MknodIn, OpenIn, OpenOut, ReadIn,
    ReleaseIn, Rename2In, RenameIn, SetattrIn, SetxattrInCompat, WriteIn, WriteOut,
};
use etcfs_proto::flags::{LkFlags, SetattrValid};
use rustix::fs::{FallocateFlags, FlockOperation};
use std::fs::File;
use std::path::Path;
use zerocopy::{FromBytes, IntoBytes};

/// One request.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// Prepares it: opcode, node and body.
    pub(super) ask: fn(&mut World) -> (Opcode, u64, Vec<u8>),
    /// The answer without what differs from run to run.
    pub(super) shown: fn(Answer) -> Answer,
    /// What others do while it is under way.
    pub(super) meanwhile: fn(&Path),
}

const fn scenario(
    name: &'static str,
    ask: fn(&mut World) -> (Opcode, u64, Vec<u8>),
    shown: fn(Answer) -> Answer,
) -> Scenario {
    Scenario {
        name,
        ask,
        shown,
        meanwhile: |_| {},
    }
}

fn same(answer: Answer) -> Answer {
    answer
}

fn of(attr: &Attr) -> Vec<u8> {
    let numbers = [attr.mode, attr.nlink, attr.uid, attr.gid, attr.rdev];
    [numbers.as_bytes(), attr.size.as_bytes()].concat()
}

fn entry(answer: Answer) -> Answer {
    let body = answer?;
    let (entry, rest) = EntryOut::read_from_prefix(&body).unwrap();
    let mut shown = of(&entry.attr);
    if let Ok((open, _)) = OpenOut::read_from_prefix(rest) {
        shown.extend(open.open_flags.to_ne_bytes());
    }
    Ok(shown)
}

fn attributes(answer: Answer) -> Answer {
    Ok(of(&AttrOut::read_from_prefix(&answer?).unwrap().0.attr))
}

fn opened(answer: Answer) -> Answer {
    let open = OpenOut::read_from_prefix(&answer?).unwrap().0;
    Ok(open.open_flags.to_ne_bytes().to_vec())
}

fn body(args: &impl IntoBytesRef, tail: &[u8]) -> Vec<u8> {
    [args.bytes(), tail].concat()
}

/// Any struct of the wire.
trait IntoBytesRef {
    fn bytes(&self) -> &[u8];
}

impl<T: IntoBytes + zerocopy::Immutable> IntoBytesRef for T {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

fn write_of(fh: u64, flags: i32, offset: u64, data: &[u8]) -> Vec<u8> {
    let args = WriteIn {
        fh,
        offset,
        size: data.len() as u32,
        flags: flags as u32,
        ..WriteIn::default()
    };
    body(&args, data)
}

fn rename_of(newdir: u64, flags: u32, names: &[u8]) -> Vec<u8> {
    let args = Rename2In {
        newdir,
        flags,
        padding: 0,
    };
    body(&args, names)
}

fn setattr_of(valid: SetattrValid, change: SetattrIn) -> Vec<u8> {
    let args = SetattrIn {
        valid: valid.bits(),
        ..change
    };
    args.as_bytes().to_vec()
}

fn lock_of(fh: u64, kind: i32, flock: bool) -> Vec<u8> {
    let args = LkIn {
        fh,
        owner: 77,
        lk: FileLock {
            end: i64::MAX as u64,
            r#type: kind as u32,
            ..FileLock::default()
        },
        lk_flags: if flock { LkFlags::FLOCK.bits() } else { 0 },
        ..LkIn::default()
    };
    args.as_bytes().to_vec()
}

/// What is made later is younger than what is there, by the clock of the file system.
fn tick() {
    std::thread::sleep(std::time::Duration::from_millis(12));
}

/// Somebody else holds the lock, until `let_go`.
fn hold(world: &World) {
    let file = File::open(world.dir.join("local/f")).unwrap();
    rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
    HELD.with_borrow_mut(|held| *held = Some((file, 0)));
}

thread_local! {
    static HELD: std::cell::RefCell<Option<(File, u32)>> = const { std::cell::RefCell::new(None) };
}

/// Lets go a while after the request waits.
fn let_go(_: &Path) {
    HELD.with_borrow_mut(|held| {
        if let Some((_, turns)) = held {
            *turns += 1;
        }
        held.take_if(|(_, turns)| *turns > 30);
    });
}

const NAMES: &[u8] = b"f\0new\0";
const CREATE: CreateIn = CreateIn {
    flags: libc::O_RDWR as u32,
    mode: libc::S_IFREG | 0o640,
    umask: 0o022,
    open_flags: 0,
};

/// All of them.
pub(super) fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    names::SCENARIOS.iter().chain(files::SCENARIOS)
}
