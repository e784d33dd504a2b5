//! What all clients change, through both strata.

use crate::acts::{content, open, write_all};
use crate::client::{Client, Told};
use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Numbers that are counted up under a lock: of flock(2), of fcntl(2), and of its open file descriptions.
pub const COUNTERS: [&str; 3] = ["counter-flock", "counter-posix", "counter-ofd"];

/// What lines are appended to without one.
pub const LOG: &str = "log";

/// Waits for a lock of fcntl(2) on the whole file, or gives it up.
pub fn record(fd: &OwnedFd, command: i32, kind: i32) -> Result<(), Errno> {
    // SAFETY: zero is a value of every field.
    #[allow(unsafe_code)]
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as _;
    // SAFETY: the commands read one `struct flock`, which lives until the call returns.
    #[allow(unsafe_code)]
    let result = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) };
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
    }
}

fn lock(fd: &OwnedFd, which: usize, takes: bool) -> Result<(), Errno> {
    let kind = if takes { libc::F_WRLCK } else { libc::F_UNLCK };
    match (which, takes) {
        (0, true) => rustix::fs::flock(fd, FlockOperation::LockExclusive),
        (0, false) => rustix::fs::flock(fd, FlockOperation::Unlock),
        (1, _) => record(fd, libc::F_SETLKW, kind),
        _ => record(fd, libc::F_OFD_SETLKW, kind),
    }
}

/// Counts one of the numbers up. The wait for the lock is one for other clients, and counts as a kind of its own.
pub fn count(client: &mut Client, which: usize) -> Result<(), String> {
    let path = client.at.shared.join(COUNTERS[which]);
    let file = open(client, &path, OFlags::RDWR)?;
    client.call("lock (waits)", || lock(&file, which, true))?;
    let is = content(client, &file)?;
    let is = String::from_utf8_lossy(&is).into_owned();
    let number: u64 = match is.trim() {
        "" => 0,
        text => text.parse().map_err(|_| format!("{text:?} is no number"))?,
    };
    let more = format!("{:010}", number + 1);
    client.call("pwrite", || rustix::io::pwrite(&file, more.as_bytes(), 0))?;
    // Some locks go with the last descriptor.
    if client.rng.one_in(2) {
        client.call("unlock", || lock(&file, which, false))?;
    }
    client.counted[which] += 1;
    Ok(())
}

/// Appends a line to the log.
pub fn append(client: &mut Client) -> Result<(), String> {
    let path = client.at.shared.join(LOG);
    let file = open(client, &path, OFlags::WRONLY | OFlags::APPEND)?;
    let line = format!("{} {}\n", client.number, client.lines);
    write_all(client, &file, line.as_bytes())?;
    client.lines += 1;
    Ok(())
}

/// What the shared files hold and should not, or lack.
pub fn differences(shared: &Path, told: &[Told]) -> Vec<String> {
    let mut all = Vec::new();
    for (which, name) in COUNTERS.iter().enumerate() {
        let text = fs::read_to_string(shared.join(name)).expect("read");
        let is: u32 = text.trim().parse().unwrap_or(0);
        let must: u32 = told.iter().map(|told| told.counted[which]).sum();
        if is != must {
            all.push(format!("{name} is {is} instead of {must}"));
        }
    }
    let text = fs::read_to_string(shared.join(LOG)).expect("read");
    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for line in text.lines() {
        let Some((Ok(client), Ok(number))) = line
            .split_once(' ')
            .map(|(a, b)| (a.parse(), b.parse::<u32>()))
        else {
            all.push(format!("the log has a line {line:?}"));
            continue;
        };
        let must = next.entry(client).or_default();
        if number != *must {
            all.push(format!(
                "the log has line {number} of client {client} where {must} was next"
            ));
        }
        *must = number + 1;
    }
    for (client, told) in (0..).zip(told) {
        let is = next.get(&client).copied().unwrap_or(0);
        if is != told.lines {
            all.push(format!(
                "the log has {is} lines of client {client} instead of {}",
                told.lines
            ));
        }
    }
    all
}
