//! The tree that a recording needs: a copy of one that is there, or one made up from what the answers told.
//!
//! A made-up tree has every object that was seen and not made during the recording, with its type, size, mode and (as
//! root) owner; files are full of zeros and symlinks of unknown target point nowhere.

use super::Recording;
use super::rules::Compiled;
use super::sides::{Dirs, parents};
use crate::fs::ids::{BELOW, Side};
use etcfs_proto::abi::{Attr, AttrOut, Dirent, EntryOut, LinkIn, OutHeader, Rename2In, RenameIn};
use etcfs_proto::capture::{Message, Record};
use etcfs_proto::op::Body;
use etcfs_proto::{Frame, Opcode};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::{self, Errno};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use zerocopy::FromBytes as _;

/// One object as far as the recording tells. Numbered by their place in [`RecordedTree::objects`]; 0 is the root.
struct Object {
    /// Its paths from the root when the recording began; none for what was made later.
    paths: Vec<(Side, Vec<u8>)>,
    /// Where it is now, as far as that matters for what is below it.
    side: Side,
    attr: Option<Attr>,
    /// `DT_*` of a listing, for what was only listed.
    kind: u32,
    target: Option<Vec<u8>>,
    /// The text that it was found with, by an inject override.
    injected: Option<Arc<[u8]>>,
}

impl Object {
    fn new(side: Side) -> Object {
        Object {
            paths: Vec::new(),
            side,
            attr: None,
            kind: 0,
            target: None,
            injected: None,
        }
    }
}

/// A name in a directory. A rule that comes or goes puts another object there, on the other side.
type Name = (usize, Side, Vec<u8>);

/// What a recording tells of its tree.
struct RecordedTree {
    objects: Vec<Object>,
    nodes: HashMap<u64, usize>,
    /// The rules at the present moment of the recording.
    rules: Compiled,
    /// Names at the present moment of the recording.
    names: HashMap<Name, usize>,
    /// Names that the recording has changed: what is found there later says nothing about the beginning.
    changed: HashSet<Name>,
}

/// Makes up the trees of `recording` in two empty directories.
///
/// # Errors
/// What making the objects answers.
pub fn make_up(recording: &Recording<'_>, local: &Path, global: &Path) -> io::Result<()> {
    let mut root = Object::new(Side::Local);
    root.paths.push((Side::Local, Vec::new()));
    let mut seen = RecordedTree {
        objects: vec![root],
        nodes: HashMap::from([(1, 0), (BELOW, 0)]),
        rules: Compiled::default(),
        names: HashMap::new(),
        changed: HashSet::new(),
    };
    let (mut asked, mut answered) = (Message::default(), Message::default());
    let mut changes = recording.rules.iter().peekable();
    for (at, exchange) in recording.exchanges.iter().enumerate() {
        while let Some((_, rules)) = changes.next_if(|(before, _)| *before <= at) {
            seen.rules = rules.compile();
        }
        let Some(answer) = &exchange.answer else {
            continue;
        };
        let Ok(frame) = Frame::cut(asked.load(&exchange.request)) else {
            continue;
        };
        let answer_bytes = answered.load(answer);
        if super::errno_of(answer_bytes) != 0 {
            continue;
        }
        if let Some(body) = answer_bytes.get(size_of::<OutHeader>()..) {
            seen.take(&frame, answer, body);
        }
    }
    seen.make(&Dirs { local, global })
}

impl RecordedTree {
    fn take(&mut self, frame: &Frame<'_>, answer: &Record<'_>, body: &[u8]) {
        let at = self.nodes.get(&frame.head.nodeid).copied();
        let (Some(at), Some(shape)) = (at, frame.opcode().shape()) else {
            return;
        };
        match frame.opcode() {
            Opcode::LOOKUP => {
                if let (Ok(name), Ok((entry, _))) = (frame.name(), EntryOut::read_from_prefix(body))
                {
                    self.found(at, name.to_bytes(), &entry);
                }
            }
            Opcode::UNLINK | Opcode::RMDIR => {
                if let Ok(name) = frame.name() {
                    self.change(at, name.to_bytes(), None);
                }
            }
            Opcode::RENAME | Opcode::RENAME2 => self.rename(frame, at),
            Opcode::LINK => {
                if let (Ok(args), Ok(name)) = (frame.args::<LinkIn>(), frame.name()) {
                    let old = self.nodes.get(&args.oldnodeid).copied();
                    self.change(at, name.to_bytes(), old);
                }
            }
            Opcode::READLINK if !answer.is_cut() => {
                self.objects[at].target = Some(body.to_vec());
            }
            Opcode::GETATTR => {
                if let Ok((out, _)) = AttrOut::read_from_prefix(body) {
                    self.objects[at].attr.get_or_insert(out.attr);
                }
            }
            Opcode::READDIR => self.listed(at, body),
            _ if matches!(shape.body, Body::Entry | Body::Create) => self.made(frame, at, body),
            _ => {}
        }
    }

    /// A name that was looked up.
    fn found(&mut self, dir: usize, name: &[u8], entry: &EntryOut) {
        let key = self.name(dir, name);
        let known = self.nodes.get(&entry.nodeid).copied();
        let object = match self.names.get(&key) {
            Some(&object) if known.is_none() => object,
            Some(_) => return,
            None if self.changed.contains(&key) => return,
            None => {
                let object = known.unwrap_or_else(|| self.add(key.1));
                self.note_path(dir, name, object);
                self.names.insert(key, object);
                object
            }
        };
        self.nodes.insert(entry.nodeid, object);
        if self.objects[object].attr.is_none() {
            let path = self.path(dir, name).unwrap_or_default();
            let object = &mut self.objects[object];
            object.attr = Some(entry.attr);
            object.injected = self.rules.injected(&path);
            object.target = self.rules.target(&path);
        }
    }

    /// A name with the side that it is on.
    fn name(&self, dir: usize, name: &[u8]) -> Name {
        let side = match self.path(dir, name) {
            Some(path) => self.rules.side(&path),
            None => self.objects[dir].side,
        };
        (dir, side, name.to_vec())
    }

    /// The path of a name from the root, if its directory was there at the beginning.
    fn path(&self, dir: usize, name: &[u8]) -> Option<Vec<u8>> {
        let (_, above) = self.objects[dir].paths.first()?;
        Some(match &**above {
            b"" => name.to_vec(),
            above => [above, b"/", name].concat(),
        })
    }

    /// An object made by the request.
    fn made(&mut self, frame: &Frame<'_>, dir: usize, body: &[u8]) {
        let Ok((entry, _)) = EntryOut::read_from_prefix(body) else {
            return;
        };
        let object = self.add(self.objects[dir].side);
        self.objects[object].attr = Some(entry.attr);
        self.nodes.insert(entry.nodeid, object);
        let name = match frame.opcode() {
            Opcode::SYMLINK => frame.names2().ok().map(|(name, _)| name),
            Opcode::TMPFILE => None,
            _ => frame.name().ok(),
        };
        if let Some(name) = name {
            self.change(dir, name.to_bytes(), Some(object));
        }
    }

    fn rename(&mut self, frame: &Frame<'_>, dir: usize) {
        let (newdir, flags) = match frame.opcode() {
            Opcode::RENAME => (frame.args::<RenameIn>().map(|args| args.newdir), 0),
            _ => match frame.args::<Rename2In>() {
                Ok(args) => (Ok(args.newdir), args.flags),
                Err(error) => (Err(error), 0),
            },
        };
        let (Ok(newdir), Ok((old, new))) = (newdir, frame.names2()) else {
            return;
        };
        let Some(&newdir) = self.nodes.get(&newdir) else {
            return;
        };
        let from = self.names.get(&self.name(dir, old.to_bytes())).copied();
        let to = self.names.get(&self.name(newdir, new.to_bytes())).copied();
        // RENAME_EXCHANGE
        let left = if flags & 2 != 0 { to } else { None };
        self.change(dir, old.to_bytes(), left);
        self.change(newdir, new.to_bytes(), from);
    }

    fn listed(&mut self, dir: usize, mut body: &[u8]) {
        const HEAD: usize = size_of::<Dirent>();
        while let Ok((entry, rest)) = Dirent::read_from_prefix(body) {
            let Some(name) = rest.get(..entry.namelen as usize) else {
                return;
            };
            let key = self.name(dir, name);
            let ours: [&[u8]; 3] = [b".", b"..", crate::fs::ids::CONFIG_NAME.to_bytes()];
            if !ours.contains(&name)
                && !self.names.contains_key(&key)
                && !self.changed.contains(&key)
            {
                let object = self.add(key.1);
                self.objects[object].kind = entry.r#type;
                self.note_path(dir, name, object);
                self.names.insert(key, object);
            }
            let next = (HEAD + name.len()).next_multiple_of(8);
            body = body.get(next..).unwrap_or_default();
        }
    }

    fn add(&mut self, side: Side) -> usize {
        self.objects.push(Object::new(side));
        self.objects.len() - 1
    }

    /// A name of the beginning.
    fn note_path(&mut self, dir: usize, name: &[u8], object: usize) {
        let Some(path) = self.path(dir, name) else {
            return;
        };
        if name == crate::fs::ids::CONFIG_NAME.to_bytes() {
            return;
        }
        let side = self.rules.side(&path);
        self.objects[object].paths.push((side, path));
    }

    fn change(&mut self, dir: usize, name: &[u8], object: Option<usize>) {
        let key = self.name(dir, name);
        match object {
            Some(object) => self.names.insert(key.clone(), object),
            None => self.names.remove(&key),
        };
        self.changed.insert(key);
    }

    /// Makes the objects, each below one that was seen before it. Modes come last, so that none is in the way.
    fn make(&self, dirs: &Dirs<'_>) -> io::Result<()> {
        for object in &self.objects {
            if let Some(((side, first), more)) = object.paths.split_first() {
                let first = dirs.path(*side, first);
                parents(&first)?;
                object.make(&first)?;
                for (side, path) in more {
                    let path = dirs.path(*side, path);
                    parents(&path)?;
                    rustix::fs::linkat(CWD, &first, CWD, path, AtFlags::empty())?;
                }
            }
        }
        for object in self.objects.iter().rev() {
            if let Some((side, first)) = object.paths.first() {
                object.own(&dirs.path(*side, first))?;
            }
        }
        Ok(())
    }
}

impl Object {
    fn is_root(&self) -> bool {
        self.paths.first().is_some_and(|(_, path)| path.is_empty())
    }

    fn kind(&self) -> FileType {
        let raw = self.attr.map_or(self.kind << 12, |attr| attr.mode);
        match FileType::from_raw_mode(raw) {
            FileType::Unknown if self.is_root() => FileType::Directory,
            FileType::Unknown => FileType::RegularFile,
            kind => kind,
        }
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        let size = self.attr.map_or(0, |attr| attr.size);
        let mode = Mode::RUSR | Mode::WUSR;
        match self.kind() {
            FileType::Directory => match rustix::fs::mkdir(path, Mode::RWXU) {
                // The root, and what a global name below it has needed before.
                Err(Errno::EXIST) => Ok(()),
                other => other,
            },
            FileType::Symlink => {
                let filler = vec![b'x'; (size.clamp(1, 4095)) as usize];
                let target = self.target.clone().unwrap_or(filler);
                rustix::fs::symlink(target, path)
            }
            FileType::RegularFile => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                let fd = rustix::fs::open(path, flags, mode)?;
                rustix::fs::ftruncate(&fd, size)?;
                let text = self.injected.as_deref().unwrap_or_default();
                match size.checked_sub(text.len() as u64) {
                    Some(at) => rustix::io::pwrite(&fd, text, at).map(drop),
                    None => Ok(()),
                }
            }
            kind => {
                let dev = self.attr.map_or(0, |attr| attr.rdev);
                let (major, minor) = ((dev & 0xfff00) >> 8, (dev & 0xff) | ((dev >> 12) & 0xfff00));
                let dev = rustix::fs::makedev(major, minor);
                match rustix::fs::mknodat(CWD, path, kind, mode, dev) {
                    // Devices take a privilege; a file in their place answers everything but its type.
                    Err(Errno::PERM) => {
                        rustix::fs::mknodat(CWD, path, FileType::RegularFile, mode, 0)
                    }
                    other => other,
                }
            }
        }
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        let Some(attr) = self.attr else { return Ok(()) };
        if rustix::process::geteuid().is_root() {
            let uid = Some(Uid::from_raw(attr.uid));
            let gid = Some(Gid::from_raw(attr.gid));
            rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if self.kind() == FileType::Symlink {
            return Ok(());
        }
        rustix::fs::chmod(path, Mode::from_raw_mode(attr.mode & 0o7777))
    }
}
