//! What is measured: one process that does one thing many times and says how long it took.

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RawDir, StatxFlags};
use rustix::thread::{Gid, Uid};
use std::ffi::CString;
use std::io::{BufRead as _, Write as _};
use std::mem::MaybeUninit;
use std::time::Instant;

/// Links, files and directories of the systemd storm (contract U1: one `list-unit-files`).
pub(crate) const STORM_NAMES: usize = 465;

/// Runs as `client WORKLOAD DIR COUNT SIZE USER`, in the directory, as the user; says `ready`, waits for a line, works,
/// and prints the seconds.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let [workload, dir, count, size, user] = args else {
        bail!("client WORKLOAD DIR COUNT SIZE root|user");
    };
    let (count, size): (usize, usize) = (count.parse()?, size.parse()?);
    rustix::process::chdir(dir.as_str()).with_context(|| dir.clone())?;
    if user == "user" {
        become_user()?;
    }
    let mut buffer = vec![b'x'; size.max(1 << 20)];
    println!("ready");
    std::io::stdin().lock().read_line(&mut String::new())?;
    let began = Instant::now();
    work(workload, count, size, &mut buffer).with_context(|| format!("{workload} in {dir}"))?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{seconds}");
    std::io::stdout().flush()?;
    Ok(())
}

/// uid 1000 with five groups.
fn become_user() -> Result<()> {
    let groups: Vec<Gid> = [1000, 1001, 1002, 1003, 1004].map(Gid::from_raw).to_vec();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(1000);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(1000);
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

fn name(n: usize) -> CString {
    CString::new(format!("f{n}")).unwrap_or_default()
}

fn work(workload: &str, count: usize, size: usize, buffer: &mut [u8]) -> Result<()> {
    match workload {
        "write" => each(count, |n| write(n, OFlags::CREATE, &buffer[..size])),
        "overwrite" => each(count, |n| write(n, OFlags::empty(), &buffer[..size])),
        "read" => each(count, |n| read(n, size, buffer)),
        "unlink" => each(count, |n| Ok(rustix::fs::unlink(name(n))?)),
        "stat" => each(count, |_| stat(c"f0")),
        "stat-missing" => each(count, |_| match stat(c"none") {
            Err(_) => Ok(()),
            Ok(()) => bail!("it is there"),
        }),
        "open-close" => each(count, |_| open(c"f0", OFlags::RDONLY).map(drop)),
        "open-read-close" => each(count, |_| read(0, 4096, buffer)),
        "read-fresh" => read_fresh(count, size),
        "readlink" => each(count, |_| {
            let mut target = [MaybeUninit::uninit(); 256];
            rustix::fs::readlinkat_raw(CWD, c"link", &mut target)?;
            Ok(())
        }),
        "create-unlink" => each(count, |n| {
            write(1_000_000 + n, OFlags::CREATE | OFlags::EXCL, &[])?;
            Ok(rustix::fs::unlink(name(1_000_000 + n))?)
        }),
        "list" => each(count, |_| list(c"small")),
        "random-read" => random(count, size, OFlags::RDONLY),
        "random-write" => random(count, size, OFlags::WRONLY),
        "sequential-read" => each(count, |_| sequential_read(buffer)),
        "sequential-write" => each(count, |_| sequential_write(buffer)),
        "storm" => storm(count),
        other => bail!("unknown workload {other}"),
    }
}

fn each(count: usize, once: impl FnMut(usize) -> Result<()>) -> Result<()> {
    (0..count).try_for_each(once)
}

fn open(path: &std::ffi::CStr, flags: OFlags) -> Result<rustix::fd::OwnedFd> {
    Ok(rustix::fs::openat(
        CWD,
        path,
        flags | OFlags::CLOEXEC,
        Mode::from_raw_mode(0o644),
    )?)
}

fn stat(path: &std::ffi::CStr) -> Result<()> {
    rustix::fs::statx(
        CWD,
        path,
        AtFlags::SYMLINK_NOFOLLOW,
        StatxFlags::BASIC_STATS,
    )?;
    Ok(())
}

fn write(n: usize, flags: OFlags, data: &[u8]) -> Result<()> {
    let fd = open(&name(n), OFlags::WRONLY | flags)?;
    if !data.is_empty() && rustix::io::write(&fd, data)? != data.len() {
        bail!("short write");
    }
    Ok(())
}

fn read(n: usize, size: usize, buffer: &mut [u8]) -> Result<()> {
    let fd = open(&name(n), OFlags::RDONLY)?;
    let mut left = size;
    while left > 0 {
        let chunk = left.min(1 << 20);
        let got = rustix::io::read(&fd, &mut buffer[..chunk])?;
        if got == 0 {
            bail!("f{n} is {left} bytes short");
        }
        left -= got;
    }
    Ok(())
}

/// Reads a file, each time into a buffer of `size` bytes that was never touched.
fn read_fresh(count: usize, size: usize) -> Result<()> {
    let mut memory: Vec<u8> = Vec::with_capacity(count * size);
    memory
        .spare_capacity_mut()
        .chunks_exact_mut(size)
        .try_for_each(|buffer| {
            let fd = open(c"f0", OFlags::RDONLY)?;
            match rustix::io::read(&fd, buffer)?.0 {
                [] => bail!("f0 is empty"),
                _ => Ok(()),
            }
        })
}

fn list(path: &std::ffi::CStr) -> Result<()> {
    let fd = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(&fd, &mut buffer);
    while let Some(entry) = entries.next() {
        entry?;
    }
    Ok(())
}

/// Reads or overwrites `size` bytes at places that a linear congruential generator picks.
fn random(count: usize, size: usize, access: OFlags) -> Result<()> {
    let fd = open(c"large", access)?;
    let pages = rustix::fs::fstat(&fd)?.st_size as u64 / 4096;
    let mut state: u64 = 88_172_645_463_325_252;
    let mut page = vec![b'r'; size];
    each(count, |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = (state >> 33) % pages * 4096;
        let moved = match access {
            OFlags::WRONLY => rustix::io::pwrite(&fd, &page, at)?,
            _ => rustix::io::pread(&fd, &mut page[..], at)?,
        };
        if moved != size {
            bail!("{moved} bytes at {at}");
        }
        Ok(())
    })
}

fn sequential_read(buffer: &mut [u8]) -> Result<()> {
    let fd = open(c"large", OFlags::RDONLY)?;
    while rustix::io::read(&fd, &mut buffer[..1 << 20])? > 0 {}
    Ok(())
}

fn sequential_write(buffer: &mut [u8]) -> Result<()> {
    let fd = open(c"large", OFlags::WRONLY)?;
    let size = rustix::fs::fstat(&fd)?.st_size as u64;
    let mut at = 0;
    while at < size {
        at += rustix::io::pwrite(&fd, &buffer[..1 << 20], at)? as u64;
    }
    Ok(())
}

/// The storm: for every hundred of `count`, what systemd does for unit files: 98 readlinks, 46 opens and closes, 39
/// reads of a directory (in thousands, as counted on one host).
fn storm(count: usize) -> Result<()> {
    let mut target = [MaybeUninit::uninit(); 256];
    for n in 0..count {
        let unit = n % STORM_NAMES;
        let link = CString::new(format!("systemd/l{unit}"))?;
        rustix::fs::readlinkat_raw(CWD, link.as_c_str(), &mut target)?;
        if n % 98 < 46 {
            let file = CString::new(format!("systemd/u{unit}"))?;
            drop(open(&file, OFlags::RDONLY)?);
        }
        if n % 98 < 39 {
            list(c"systemd/wants")?;
        }
    }
    Ok(())
}
