//! The tree that a recording needs: a copy of one that is there, or one made up from what the answers told.
//!
//! A made-up tree has every object that was seen and not made during the recording, with its type, size, mode and (as
//! root) owner; files are full of zeros and symlinks of unknown target point nowhere.

use super::Recording;
use etcfs_proto::abi::{Attr, AttrOut, Dirent, EntryOut, LinkIn, OutHeader, Rename2In, RenameIn};
use etcfs_proto::capture::{Message, Record};
use etcfs_proto::op::Body;
use etcfs_proto::{Frame, Opcode};
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::{self, Errno};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use zerocopy::FromBytes as _;

/// One object as far as the recording tells. Numbered by their place in [`Seen::objects`]; 0 is the root.
#[derive(Default)]
struct Object {
    /// Its paths from the root when the recording began; none for what was made later.
    paths: Vec<Vec<u8>>,
    attr: Option<Attr>,
    /// `DT_*` of a listing, for what was only listed.
    kind: u32,
    target: Option<Vec<u8>>,
}

/// What a recording tells of its tree.
struct Seen {
    objects: Vec<Object>,
    nodes: HashMap<u64, usize>,
    /// Names at the present moment of the recording.
    names: HashMap<(usize, Vec<u8>), usize>,
    /// Names that the recording has changed: what is found there later says nothing about the beginning.
    changed: HashSet<(usize, Vec<u8>)>,
}

/// Makes up the tree of `recording` in the empty directory `dir`.
///
/// # Errors
/// What making the objects answers.
pub fn make_up(recording: &Recording<'_>, dir: &Path) -> io::Result<()> {
    let mut seen = Seen {
        objects: vec![Object {
            paths: vec![Vec::new()],
            ..Object::default()
        }],
        nodes: HashMap::from([(1, 0)]),
        names: HashMap::new(),
        changed: HashSet::new(),
    };
    let (mut asked, mut answered) = (Message::default(), Message::default());
    for exchange in &recording.exchanges {
        let Some(answer) = &exchange.answer else {
            continue;
        };
        let Ok(frame) = Frame::cut(asked.load(&exchange.request)) else {
            continue;
        };
        let answer_bytes = answered.load(answer);
        if super::errno_of(answer_bytes) == 0
            && let Some(body) = answer_bytes.get(size_of::<OutHeader>()..)
        {
            seen.take(&frame, answer, body);
        }
    }
    seen.make(dir)
}

impl Seen {
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
        let key = (dir, name.to_vec());
        let known = self.nodes.get(&entry.nodeid).copied();
        let object = match self.names.get(&key) {
            Some(&object) if known.is_none() => object,
            Some(_) => return,
            None if self.changed.contains(&key) => return,
            None => {
                let object = known.unwrap_or_else(|| self.add());
                self.note_path(dir, name, object);
                self.names.insert(key, object);
                object
            }
        };
        self.nodes.insert(entry.nodeid, object);
        self.objects[object].attr.get_or_insert(entry.attr);
    }

    /// An object made by the request.
    fn made(&mut self, frame: &Frame<'_>, dir: usize, body: &[u8]) {
        let Ok((entry, _)) = EntryOut::read_from_prefix(body) else {
            return;
        };
        let object = self.add();
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
        let from = self.names.get(&(dir, old.to_bytes().to_vec())).copied();
        let to = self.names.get(&(newdir, new.to_bytes().to_vec())).copied();
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
            let key = (dir, name.to_vec());
            let ours: [&[u8]; 3] = [b".", b"..", crate::fs::CONFIG_NAME.to_bytes()];
            if !ours.contains(&name)
                && !self.names.contains_key(&key)
                && !self.changed.contains(&key)
            {
                let object = self.add();
                self.objects[object].kind = entry.r#type;
                self.note_path(dir, name, object);
                self.names.insert(key, object);
            }
            let next = (HEAD + name.len()).next_multiple_of(8);
            body = body.get(next..).unwrap_or_default();
        }
    }

    fn add(&mut self) -> usize {
        self.objects.push(Object::default());
        self.objects.len() - 1
    }

    /// A name of the beginning.
    fn note_path(&mut self, dir: usize, name: &[u8], object: usize) {
        let Some(mut path) = self.objects[dir].paths.first().cloned() else {
            return;
        };
        if name == crate::fs::CONFIG_NAME.to_bytes() {
            return;
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        self.objects[object].paths.push(path);
    }

    fn change(&mut self, dir: usize, name: &[u8], object: Option<usize>) {
        let key = (dir, name.to_vec());
        match object {
            Some(object) => self.names.insert(key.clone(), object),
            None => self.names.remove(&key),
        };
        self.changed.insert(key);
    }

    /// Makes the objects, each below one that was seen before it. Modes come last, so that none is in the way.
    fn make(&self, dir: &Path) -> io::Result<()> {
        for object in &self.objects {
            if let Some((first, more)) = object.paths.split_first() {
                let first = join(dir, first);
                object.make(&first)?;
                for path in more {
                    rustix::fs::linkat(CWD, &first, CWD, join(dir, path), AtFlags::empty())?;
                }
            }
        }
        for object in self.objects.iter().rev() {
            if let Some(first) = object.paths.first() {
                object.own(&join(dir, first))?;
            }
        }
        Ok(())
    }
}

fn join(dir: &Path, path: &[u8]) -> PathBuf {
    match path {
        b"" => dir.to_owned(),
        path => dir.join(OsStr::from_bytes(path)),
    }
}

impl Object {
    fn kind(&self) -> FileType {
        let raw = self.attr.map_or(self.kind << 12, |attr| attr.mode);
        match FileType::from_raw_mode(raw) {
            FileType::Unknown if self.paths.first().is_some_and(Vec::is_empty) => {
                FileType::Directory
            }
            FileType::Unknown => FileType::RegularFile,
            kind => kind,
        }
    }

    fn make(&self, path: &Path) -> io::Result<()> {
        let size = self.attr.map_or(0, |attr| attr.size);
        let mode = Mode::RUSR | Mode::WUSR;
        match self.kind() {
            FileType::Directory => match rustix::fs::mkdir(path, Mode::RWXU) {
                Err(Errno::EXIST) if self.paths.first().is_some_and(Vec::is_empty) => Ok(()),
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
                rustix::fs::ftruncate(fd, size)
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
