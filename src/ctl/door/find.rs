//! The client's way in: from a mount's device number to a connection with the daemon that serves it.

use super::label::{Label, names};
use crate::mount::Serving;
use crate::sys::peer::peer;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use rustix::fs::{AtFlags, CWD, StatxFlags, readlink, statx};
use rustix::io::{self, Errno};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, sendmsg, socket_with, socketpair,
};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, kill_process, pidfd_getfd, pidfd_open,
};
use std::collections::BTreeSet;
use std::fmt;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Why no daemon was reached. `Display` is the rest of a sentence that begins with the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// No process that may be looked at, and that the right user runs, serves the mount.
    Nobody {
        /// Processes that could not be looked at.
        closed: usize,
    },
    /// The daemon is there and takes no connection in time.
    Busy(Duration),
    /// Something else holds what the daemon has named: the user's id.
    Stranger(u32),
    /// A call failed: what it was for.
    Failed(&'static str, Errno),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody { closed: 0 } => f.write_str(
                "no daemon serves this mount: it has died (start etcfs there anew, or umount it), or it runs in a pid namespace that is not seen here",
            ),
            Self::Nobody { closed } => write!(
                f,
                "no daemon of this mount is to be found: only root (with CAP_SYS_PTRACE) and the user who mounted may look at it; \
                 {closed} processes could not be looked at"
            ),
            Self::Busy(time) => write!(f, "the daemon does not take connections within {time:?}"),
            Self::Stranger(uid) => write!(
                f,
                "no daemon of this mount is to be found; user {uid} holds what looks like one"
            ),
            Self::Failed(what, errno) => write!(f, "{what}: {errno}"),
        }
    }
}

impl std::error::Error for Unreachable {}

fn failed(what: &'static str) -> impl Fn(Errno) -> Unreachable {
    move |errno| Unreachable::Failed(what, errno)
}

/// Connects to the daemon that serves the mount `device`, which `user` has mounted; the connection, whose calls take at most
/// `timeout`, and the daemon's process id. Never touches the mount.
///
/// # Errors
/// See [`Unreachable`].
pub fn reach(
    device: (u32, u32),
    user: u32,
    timeout: Duration,
) -> Result<(OwnedFd, u32), Unreachable> {
    let mut first = None;
    let (holders, closed) = holders(device, user);
    for (pid, found) in holders {
        for label in found {
            match enter(pid, &label, user, timeout) {
                Ok(socket) => return settled(socket, pid, timeout),
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
    }
    match by_name(device, user, timeout) {
        Ok((socket, pid)) => settled(socket, pid, timeout),
        // What spoke against the way that is open on most machines tells most.
        Err(why) => Err(first.or(why).unwrap_or(Unreachable::Nobody { closed })),
    }
}

/// The connection with its timeouts.
fn settled(socket: OwnedFd, pid: Pid, timeout: Duration) -> Result<(OwnedFd, u32), Unreachable> {
    for end in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, end, Some(timeout)).map_err(failed("the socket's timeout"))?;
    }
    Ok((socket, pid.as_raw_pid() as u32))
}

/// The process that serves the mount `device`, which `user` has mounted, as far as its descriptors may be looked at. It is not
/// talked to, so one that hangs is found as well.
pub fn serving(device: (u32, u32), user: u32) -> Option<Serving> {
    let mut of_mount = holders(device, user)
        .0
        .into_iter()
        .filter_map(|(pid, found)| {
            let label = found.into_iter().next()?;
            Some(Serving {
                pid: pid.as_raw_pid() as u32,
                mount: (label.mount != 0).then_some(label.mount),
                is_ending: is_ending(pid),
            })
        });
    // Of a keeper and its server one may end, and the other goes on.
    let first = of_mount.next()?;
    if !first.is_ending {
        return Some(first);
    }
    of_mount.find(|other| !other.is_ending).or(Some(first))
}

/// Ends the process that serves the mount `device`, which `user` has mounted. None: no such process can be seen.
pub fn end_server(device: (u32, u32), user: u32) -> Option<u32> {
    let (holders, _) = holders(device, user);
    let (server, _) = holders.into_iter().find(|(pid, _)| threads(*pid) > 1)?;
    kill_process(server, Signal::KILL).ok()?;
    Some(server.as_raw_pid() as u32)
}

/// The processes that hold labels of this mount, and how many could not be looked at. They share their descriptors; the one that
/// serves has threads, and comes first.
fn holders(device: (u32, u32), user: u32) -> (Vec<(Pid, Vec<Label>)>, usize) {
    let mut closed = 0;
    let mut found = Vec::new();
    for pid in processes() {
        match labels(pid, device, user) {
            Ok(labels) if labels.is_empty() => {}
            Ok(labels) => found.push((pid, labels)),
            Err(()) => closed += 1,
        }
    }
    found.sort_by_key(|(pid, _)| std::cmp::Reverse(threads(*pid)));
    (found, closed)
}

fn threads(pid: Pid) -> usize {
    let dir = format!("/proc/{}/task", pid.as_raw_nonzero());
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Whether a process is on its way out: ended, or with a signal pending upon which a daemon ends (proc_pid_status(5)). A signal
/// that it has blocked and reads from a descriptor is pending until then.
fn is_ending(pid: Pid) -> bool {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let Ok(status) = std::fs::read_to_string(path) else {
        return true;
    };
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map_or("", str::trim)
    };
    let pending = |name: &str| u64::from_str_radix(field(name), 16).unwrap_or(0);
    let ends = [Signal::KILL, Signal::TERM, Signal::INT, Signal::HUP];
    let ends = ends.map(|signal| 1 << (signal.as_raw() - 1));
    field("State:").starts_with(['Z', 'X'])
        || (pending("SigPnd:") | pending("ShdPnd:")) & ends.iter().sum::<u64>() != 0
}

fn processes() -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: std::fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    entries.filter_map(pid).collect()
}

/// The labels of this mount that a process of the right user holds.
///
/// # Errors
/// The process may not be looked at.
fn labels(pid: Pid, device: (u32, u32), user: u32) -> Result<Vec<Label>, ()> {
    let dir = PathBuf::from(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Err(()),
        // It has ended.
        Err(_) => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(link) = readlink(&path, Vec::new()) else {
            continue;
        };
        let Some(label) = Label::read(link.as_bytes()) else {
            continue;
        };
        // Another file system may hold a file of this name, whose server must not be asked: DONT_SYNC.
        let flags = AtFlags::STATX_DONT_SYNC;
        let owner = statx(CWD, &path, flags, StatxFlags::UID).map(|stat| stat.stx_uid);
        if label.device == device && owner.is_ok_and(|uid| is_right(uid, user)) {
            found.push(label);
        }
    }
    Ok(found)
}

/// Root, or the one who has mounted.
fn is_right(uid: u32, user: u32) -> bool {
    uid == 0 || uid == user
}

/// A connection through what a label of the process `pid` names.
fn enter(pid: Pid, label: &Label, user: u32, timeout: Duration) -> Result<OwnedFd, Unreachable> {
    let what = "taking a descriptor from the daemon (pidfd_getfd, which needs CAP_SYS_PTRACE)";
    let end = taken(pid, label.end).map_err(failed(what))?;
    // Not necessarily this process: those that serve a mount share their descriptors, and one of them has made the pair.
    maker(end.as_fd(), user)?;
    let kind = SocketType::SEQPACKET;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
        .map_err(failed("a pair of sockets"))?;
    hand_over(end.as_fd(), theirs.as_fd(), timeout)?;
    Ok(ours)
}

fn taken(pid: Pid, number: RawFd) -> io::Result<OwnedFd> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_getfd(process, number, PidfdGetfdFlags::empty())
}

/// The process that has made, or listens on, the other end of a socket, if that was the right user's. The kernel noted it at
/// that moment.
fn maker(socket: BorrowedFd<'_>, user: u32) -> Result<Pid, Unreachable> {
    let peer = peer(socket).map_err(failed("who is at the other end"))?;
    match peer.pid {
        _ if !is_right(peer.uid, user) => Err(Unreachable::Stranger(peer.uid)),
        Some(pid) => Ok(pid),
        None => Err(Unreachable::Nobody { closed: 0 }),
    }
}

/// Sends `theirs` through the daemon's own socket.
fn hand_over(
    end: BorrowedFd<'_>,
    theirs: BorrowedFd<'_>,
    timeout: Duration,
) -> Result<(), Unreachable> {
    let until = Instant::now() + timeout;
    loop {
        let rights = [theirs];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&rights));
        // The daemon's socket is shared by all clients, so its own timeouts are not touched.
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(end, &[IoSlice::new(b"c")], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::AGAIN) => return Err(Unreachable::Busy(timeout)),
            Err(errno) => return Err(Unreachable::Failed("talking to the daemon", errno)),
        }
    }
}

/// A connection to the right user's socket among those whose names are this mount's.
///
/// # Errors
/// None: there is no such name.
fn by_name(
    device: (u32, u32),
    user: u32,
    timeout: Duration,
) -> Result<(OwnedFd, Pid), Option<Unreachable>> {
    let until = Instant::now() + timeout;
    let begin = format!("@{}", names(device));
    loop {
        let mut why = None;
        // The last column (proc_net_unix(5)); connections that nobody has taken bear their listener's name too.
        let table = std::fs::read("/proc/net/unix").unwrap_or_default();
        let lines = table.split(|&byte| byte == b'\n');
        let names: BTreeSet<&[u8]> = lines
            .filter_map(|line| line.rsplit(|&byte| byte == b' ').next())
            .filter(|name| name.starts_with(begin.as_bytes()))
            .collect();
        for name in names {
            match connected(&name[1..], user) {
                Ok(found) => return Ok(found),
                // Of several reasons: that somebody may be the daemon and has no time.
                Err(new) => {
                    why = match (why, new) {
                        (_, Unreachable::Busy(_)) => Some(Unreachable::Busy(timeout)),
                        (None, new) => Some(new),
                        (why, _) => why,
                    }
                }
            }
        }
        match why {
            Some(Unreachable::Busy(_)) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            why => return Err(why),
        }
    }
}

/// A connection, made without waiting: who bound the name may never answer.
fn connected(name: &[u8], user: u32) -> Result<(OwnedFd, Pid), Unreachable> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(failed("a socket"))?;
    let address = SocketAddrUnix::new_abstract_name(name).map_err(failed("a name"))?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::AGAIN) => return Err(Unreachable::Busy(Duration::ZERO)),
        Err(errno) => return Err(Unreachable::Failed("connecting", errno)),
    }
    let pid = maker(socket.as_fd(), user)?;
    rustix::io::ioctl_fionbio(&socket, false).map_err(failed("a socket"))?;
    Ok((socket, pid))
}
