//! What a client keeps over many deaths: open files, one of which has no name any more, a mapping, a lock, a working directory.

use crate::acts::{content, open, same, write_all};
use crate::client::Client;
use crate::shared::record;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FlockOperation, OFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync};
use std::path::PathBuf;

const MAPPED: usize = 8192;

/// What is held.
pub struct Held {
    open: (OwnedFd, Vec<u8>),
    unlinked: (OwnedFd, Vec<u8>),
    mapped: (OwnedFd, *mut u8, Vec<u8>),
    /// Nobody else gets a lock of it: one of flock(2), and one of an open file description.
    locked: [(OwnedFd, PathBuf); 2],
}

const NEW: OFlags = OFlags::RDWR.union(OFlags::CREATE).union(OFlags::EXCL);

impl Held {
    /// Opens, maps and locks. The calling thread has a working directory of its own.
    pub fn new(client: &mut Client) -> Result<Held, String> {
        let dir = client.at.held.clone();
        let file = open(client, &dir.join("open"), NEW)?;
        let unlinked = open(client, &dir.join("unlinked"), NEW)?;
        client.call("unlink", || rustix::fs::unlink(dir.join("unlinked")))?;
        let map = open(client, &dir.join("mapped"), NEW)?;
        write_all(client, &map, &[0; MAPPED])?;
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping of a file that stays as long as it is.
        #[allow(unsafe_code)]
        let at = client.call("mmap", || unsafe {
            mmap(
                std::ptr::null_mut(),
                MAPPED,
                access,
                MapFlags::SHARED,
                &map,
                0,
            )
        })?;
        let paths = ["flocked", "locked"].map(|name| dir.join(name));
        let flocked = open(client, &paths[0], NEW)?;
        let operation = FlockOperation::NonBlockingLockExclusive;
        client.call("flock", || rustix::fs::flock(&flocked, operation))?;
        let locked = open(client, &paths[1], NEW)?;
        client.call("lock", || record(&locked, libc::F_OFD_SETLK, libc::F_WRLCK))?;
        client.call("chdir", || rustix::process::chdir(&dir))?;
        let [first, second] = paths;
        Ok(Held {
            open: (file, Vec::new()),
            unlinked: (unlinked, Vec::new()),
            mapped: (map, at.cast(), vec![0; MAPPED]),
            locked: [(flocked, first), (locked, second)],
        })
    }

    /// Uses one of them, and looks at what is there.
    pub fn look(&mut self, client: &mut Client) -> Result<(), String> {
        match client.rng.below(5) {
            0 => written(client, &mut self.open).map_err(|why| format!("the open one: {why}")),
            1 => written(client, &mut self.unlinked)
                .map_err(|why| format!("the unlinked one: {why}")),
            2 => self.map(client),
            3 => self.locks(client),
            _ => self.directory(client),
        }
    }

    fn map(&mut self, client: &mut Client) -> Result<(), String> {
        let (file, at, must) = &mut self.mapped;
        let (offset, byte) = (
            client.rng.below(MAPPED as u64) as usize,
            client.rng.next() as u8,
        );
        must[offset] = byte;
        // SAFETY: `offset` lies within the mapping, which lives as long as this process and which nobody else writes to.
        #[allow(unsafe_code)]
        let seen = unsafe {
            at.add(offset).write_volatile(byte);
            std::slice::from_raw_parts(*at, MAPPED).to_vec()
        };
        same("the mapping", &seen, must)?;
        // SAFETY: the mapping is there.
        #[allow(unsafe_code)]
        client.call("msync", || unsafe {
            msync(at.cast(), MAPPED, MsyncFlags::SYNC)
        })?;
        let is = content(client, &*file)?;
        same("the mapped file", &is, must)
    }

    fn locks(&mut self, client: &mut Client) -> Result<(), String> {
        for (at, (_, path)) in self.locked.iter().enumerate() {
            let other = open(client, path, OFlags::RDWR)?;
            let had = client.call("lock", || {
                let had = match at {
                    0 => rustix::fs::flock(&other, FlockOperation::NonBlockingLockShared),
                    _ => record(&other, libc::F_OFD_SETLK, libc::F_RDLCK),
                };
                match had {
                    Err(Errno::AGAIN) => Ok(false),
                    other => other.map(|()| true),
                }
            })?;
            if had {
                return Err(format!("{} can be locked twice", path.display()));
            }
        }
        Ok(())
    }

    fn directory(&mut self, client: &mut Client) -> Result<(), String> {
        let file = open(client, "relative".as_ref(), NEW)?;
        write_all(client, &file, b"here")?;
        let stat = client.call("stat", || {
            rustix::fs::statat(CWD, "relative", rustix::fs::AtFlags::empty())
        })?;
        client.call("unlink", || rustix::fs::unlink("relative"))?;
        match stat.st_size {
            4 => Ok(()),
            other => Err(format!("{other} bytes instead of 4")),
        }
    }
}

/// Writes more to a file, begins anew at times, and reads it all.
fn written(client: &mut Client, (file, must): &mut (OwnedFd, Vec<u8>)) -> Result<(), String> {
    if must.len() > 10_000 {
        client.call("ftruncate", || rustix::fs::ftruncate(&*file, 0))?;
        must.clear();
    }
    let more = client.rng.bytes(700);
    let at = must.len() as u64;
    let written = client.call("pwrite", || rustix::io::pwrite(&*file, &more, at))?;
    if written != more.len() {
        return Err(format!("pwrite: {written} of {} bytes", more.len()));
    }
    must.extend(more);
    let is = content(client, &*file)?;
    same("its content", &is, must)
}
