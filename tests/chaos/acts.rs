//! What clients do in directories of their own.

use crate::client::{Act, Client};
use crate::{MANY, harness, shared, user_of};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, XattrFlags};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::path::Path;
use std::time::Duration;

/// The acts, and how often each is done among the others.
pub static ACTS: &[(&str, u64, Act)] = &[
    ("replace", 20, replace),
    ("write in place", 8, write_in_place),
    ("read", 20, read),
    ("unlink", 8, unlink),
    ("link", 6, link),
    ("symlink", 4, symlink),
    ("directories", 6, directories),
    ("list", 8, list),
    ("list many", 4, list_many),
    ("attributes", 5, attributes),
    ("file without a name", 5, without_a_name),
    ("configuration", 2, configuration),
    ("count under flock", 3, |client| shared::count(client, 0)),
    ("count under a POSIX lock", 3, |client| {
        shared::count(client, 1)
    }),
    ("count under an OFD lock", 3, |client| {
        shared::count(client, 2)
    }),
    ("append to the log", 8, shared::append),
];

/// How many names a client uses in each directory.
const NAMES: u64 = 24;

const RW: Mode = Mode::from_raw_mode(0o644);

/// A file's whole content.
pub fn content(client: &mut Client, fd: impl AsFd) -> Result<Vec<u8>, String> {
    let mut all = vec![0; 16384];
    let mut len = 0;
    loop {
        let fd = fd.as_fd();
        let read = client.call("pread", || {
            rustix::io::pread(fd, &mut all[len..], len as u64)
        })?;
        len += read;
        if read == 0 {
            all.truncate(len);
            return Ok(all);
        }
    }
}

/// Fails if these are not the same.
pub fn same(what: &str, is: &[u8], must: &[u8]) -> Result<(), String> {
    if is == must {
        return Ok(());
    }
    let at = is.iter().zip(must).position(|(is, must)| is != must);
    let (lens, at) = (
        (is.len(), must.len()),
        at.unwrap_or(is.len().min(must.len())),
    );
    Err(format!(
        "{what}: {} bytes instead of {}, different from {at} on",
        lens.0, lens.1
    ))
}

pub fn open(client: &mut Client, path: &Path, flags: OFlags) -> Result<OwnedFd, String> {
    let opened = client.call("open", || {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, RW)
    });
    opened.map_err(|why| format!("{why} of {}", path.display()))
}

pub fn write_all(client: &mut Client, fd: &OwnedFd, data: &[u8]) -> Result<(), String> {
    let written = client.call("write", || rustix::io::write(fd, data))?;
    match written == data.len() {
        true => Ok(()),
        false => Err(format!("write: {written} of {} bytes", data.len())),
    }
}

fn data(client: &mut Client) -> Vec<u8> {
    let len = client.rng.below(6000) as usize;
    client.rng.bytes(len)
}

fn replace(client: &mut Client) -> Result<(), String> {
    let side = client.rng.below(2) as usize;
    let name = format!("f{}", client.rng.below(NAMES));
    let (new, path) = (
        client.at.own[side].join("new"),
        client.at.own[side].join(&name),
    );
    let data = data(client);
    let file = open(client, &new, OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY)?;
    write_all(client, &file, &data)?;
    if client.rng.one_in(10) {
        client.call("fsync", || rustix::fs::fsync(&file))?;
    }
    drop(file);
    client.call("rename", || rustix::fs::rename(&new, &path))?;
    client.files[side].insert(name, data);
    Ok(())
}

fn write_in_place(client: &mut Client) -> Result<(), String> {
    let Some((side, name)) = client.any() else {
        return Ok(());
    };
    let path = client.at.own[side].join(&name);
    let file = open(client, &path, OFlags::RDWR)?;
    let mut content = client.files[side][&name].clone();
    let at = client.rng.below(5000) as usize;
    let more = data(client);
    let written = client.call("pwrite", || rustix::io::pwrite(&file, &more, at as u64))?;
    if written != more.len() {
        return Err(format!("pwrite: {written} of {} bytes", more.len()));
    }
    if !more.is_empty() {
        content.resize(content.len().max(at + more.len()), 0);
        content[at..at + more.len()].copy_from_slice(&more);
    }
    if client.rng.one_in(3) {
        let len = client.rng.below(8000);
        client.call("ftruncate", || rustix::fs::ftruncate(&file, len))?;
        content.resize(len as usize, 0);
    }
    client.files[side].insert(name, content);
    Ok(())
}

fn read(client: &mut Client) -> Result<(), String> {
    let Some((side, name)) = client.any() else {
        return Ok(());
    };
    let path = client.at.own[side].join(&name);
    let file = open(client, &path, OFlags::RDONLY)?;
    let is = content(client, &file)?;
    same(&path.display().to_string(), &is, &client.files[side][&name])?;
    let stat = client.call("stat", || rustix::fs::stat(&path))?;
    match stat.st_size as usize == is.len() {
        true => Ok(()),
        false => Err(format!(
            "stat: {} bytes instead of {}",
            stat.st_size,
            is.len()
        )),
    }
}

fn unlink(client: &mut Client) -> Result<(), String> {
    let Some((side, name)) = client.any() else {
        return Ok(());
    };
    let path = client.at.own[side].join(&name);
    client.call("unlink", || rustix::fs::unlink(&path))?;
    client.files[side].remove(&name);
    gone(client, &path)
}

/// Nothing of that name is there.
fn gone(client: &mut Client, path: &Path) -> Result<(), String> {
    let absent = client.call("lstat", || match rustix::fs::lstat(path) {
        Err(rustix::io::Errno::NOENT) => Ok(true),
        other => other.map(|_| false),
    })?;
    match absent {
        true => Ok(()),
        false => Err(format!("{} is there still", path.display())),
    }
}

fn link(client: &mut Client) -> Result<(), String> {
    let Some((side, name)) = client.any() else {
        return Ok(());
    };
    let (path, other) = (
        client.at.own[side].join(&name),
        client.at.own[side].join("link"),
    );
    client.call("link", || rustix::fs::link(&path, &other))?;
    let stat = client.call("stat", || rustix::fs::stat(&path))?;
    let file = open(client, &other, OFlags::RDONLY)?;
    let is = content(client, &file)?;
    client.call("unlink", || rustix::fs::unlink(&other))?;
    same("by its other name", &is, &client.files[side][&name])?;
    match stat.st_nlink {
        2 => Ok(()),
        other => Err(format!("{other} links instead of 2")),
    }
}

fn symlink(client: &mut Client) -> Result<(), String> {
    let side = client.rng.below(2) as usize;
    let path = client.at.own[side].join("symlink");
    let target = format!("target-{}", client.rng.below(1 << 30));
    client.call("symlink", || rustix::fs::symlink(&target, &path))?;
    let is = client.call("readlink", || rustix::fs::readlink(&path, Vec::new()))?;
    client.call("unlink", || rustix::fs::unlink(&path))?;
    same("the link", is.as_bytes(), target.as_bytes())
}

fn directories(client: &mut Client) -> Result<(), String> {
    let side = client.rng.below(2) as usize;
    let dir = client.at.own[side].join("dir");
    let (inner, moved) = (dir.join("inner"), client.at.own[side].join("moved"));
    client.call("mkdir", || rustix::fs::mkdir(&dir, Mode::RWXU))?;
    client.call("mkdir", || rustix::fs::mkdir(&inner, Mode::RWXU))?;
    let file = open(
        client,
        &inner.join("file"),
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY,
    )?;
    write_all(client, &file, b"inside")?;
    client.call("rename", || rustix::fs::rename(&inner, &moved))?;
    let file = open(client, &moved.join("file"), OFlags::RDONLY)?;
    let is = content(client, &file)?;
    client.call("unlink", || rustix::fs::unlink(moved.join("file")))?;
    client.call("rmdir", || rustix::fs::rmdir(&moved))?;
    client.call("rmdir", || rustix::fs::rmdir(&dir))?;
    same("the file in it", &is, b"inside")
}

/// The names in a directory, taken a few at a time, with pauses in which servers die.
fn names(client: &mut Client, dir: &Path, pause: Duration) -> Result<Vec<String>, String> {
    let fd = open(client, dir, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); 1024];
    let mut entries = RawDir::new(&fd, &mut buffer);
    let mut names = Vec::new();
    loop {
        if entries.is_buffer_empty() && !pause.is_zero() {
            std::thread::sleep(pause);
        }
        let next = client.call("getdents", || entries.next().transpose_name())?;
        match next {
            None => return Ok(names),
            Some(name) if name == "." || name == ".." => {}
            Some(name) => names.push(name),
        }
    }
}

/// An entry's name by itself.
trait TransposeName {
    fn transpose_name(self) -> rustix::io::Result<Option<String>>;
}

impl TransposeName for Option<rustix::io::Result<rustix::fs::RawDirEntry<'_>>> {
    fn transpose_name(self) -> rustix::io::Result<Option<String>> {
        let entry = self.transpose()?;
        Ok(entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
    }
}

/// Each of these once.
fn each_once(names: Vec<String>, must: BTreeSet<String>) -> Result<(), String> {
    let count = names.len();
    let is: BTreeSet<_> = names.into_iter().collect();
    if count != is.len() {
        return Err(format!("{} names come twice", count - is.len()));
    }
    match is == must {
        true => Ok(()),
        false => Err(format!(
            "{} names instead of {}, among the differences {:?}",
            is.len(),
            must.len(),
            is.symmetric_difference(&must).take(3).collect::<Vec<_>>()
        )),
    }
}

fn list(client: &mut Client) -> Result<(), String> {
    let side = client.rng.below(2) as usize;
    let dir = client.at.own[side].clone();
    let names = names(client, &dir, Duration::ZERO)?;
    each_once(names, client.files[side].keys().cloned().collect())
}

fn list_many(client: &mut Client) -> Result<(), String> {
    let dir = client.at.many.clone();
    // Twelve pieces or so: there are deaths within most of the listings.
    let pause = Duration::from_millis(client.rng.below(20));
    let names = names(client, &dir, pause)?;
    each_once(names, (0..MANY).map(|n| format!("an-entry-{n}")).collect())
}

fn attributes(client: &mut Client) -> Result<(), String> {
    let Some((side, name)) = client.any() else {
        return Ok(());
    };
    let path = client.at.own[side].join(&name);
    let value = client.rng.bytes(40);
    let flags = XattrFlags::CREATE;
    client.call("setxattr", || {
        rustix::fs::setxattr(&path, c"user.x", &value, flags)
    })?;
    let mut is = [0; 64];
    let len = client.call("getxattr", || {
        rustix::fs::getxattr(&path, c"user.x", &mut is[..])
    })?;
    client.call("removexattr", || rustix::fs::removexattr(&path, c"user.x"))?;
    let mode = Mode::from_raw_mode(0o600 + client.rng.below(8) as u32);
    client.call("chmod", || rustix::fs::chmod(&path, mode))?;
    let stat = client.call("stat", || rustix::fs::stat(&path))?;
    if stat.st_mode & 0o7777 != mode.as_raw_mode() {
        return Err(format!("mode {:o} instead of {mode:?}", stat.st_mode));
    }
    same("user.x", &is[..len], &value)
}

fn without_a_name(client: &mut Client) -> Result<(), String> {
    let side = client.rng.below(2) as usize;
    let (dir, name) = (client.at.own[side].clone(), "named".to_owned());
    let data = data(client);
    let file = open(client, &dir, OFlags::TMPFILE | OFlags::RDWR)?;
    write_all(client, &file, &data)?;
    let (from, path) = (
        format!("/proc/self/fd/{}", number_of(&file)),
        dir.join(&name),
    );
    // The thread's own table is the process's.
    client.call("linkat", || {
        rustix::fs::linkat(CWD, &from, CWD, &path, AtFlags::SYMLINK_FOLLOW)
    })?;
    let is = content(client, &file)?;
    same("the file that got a name", &is, &data)?;
    let to = format!("f{}", client.rng.below(NAMES));
    client.call("rename", || rustix::fs::rename(&path, dir.join(&to)))?;
    client.files[side].insert(to, data);
    Ok(())
}

fn number_of(fd: &OwnedFd) -> i32 {
    rustix::fd::AsRawFd::as_raw_fd(fd)
}

/// What root says of names of its own: a global one, and a link that is enforced.
fn configuration(client: &mut Client) -> Result<(), String> {
    if user_of(client.number) != 0 {
        return Ok(());
    }
    let number = client.number;
    let (global, link) = (format!("global-{number}"), format!("link-{number}"));
    let file = client.mnt.join(harness::CONFIG);
    let config = open(client, &file, OFlags::WRONLY | OFlags::APPEND)?;
    let target = format!("/target-{}", client.rng.below(1 << 30));
    write_all(
        client,
        &config,
        format!("add_global /{global}\n").as_bytes(),
    )?;
    // In two pieces, which a death may come between.
    let line = format!("add_override symlink /{link} {target}\n");
    let (one, two) = line
        .as_bytes()
        .split_at(client.rng.below(line.len() as u64) as usize);
    write_all(client, &config, one)?;
    write_all(client, &config, two)?;
    let path = client.mnt.join(&global);
    let file = open(client, &path, OFlags::CREATE | OFlags::EXCL | OFlags::RDWR)?;
    write_all(client, &file, b"global")?;
    let mut stratum = [0; 64];
    let len = client.call("getxattr", || {
        rustix::fs::getxattr(&path, c"user.bedrock.stratum", &mut stratum[..])
    })?;
    let link = client.mnt.join(&link);
    let is = client.call("readlink", || rustix::fs::readlink(&link, Vec::new()))?;
    client.call("unlink", || rustix::fs::unlink(&path))?;
    write_all(client, &config, format!("rm_global /{global}\n").as_bytes())?;
    write_all(
        client,
        &config,
        format!("rm_override /link-{number}\n").as_bytes(),
    )?;
    client.call("unlink", || rustix::fs::unlink(&link))?;
    gone(client, &link)?;
    same("whose it is", &stratum[..len], b"global")?;
    same("the enforced link", is.as_bytes(), target.as_bytes())
}
