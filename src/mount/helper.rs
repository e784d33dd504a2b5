//! Mounting through fusermount3, the set-uid program of libfuse that checks what an ordinary user may do.
//!
//! The program is told a socket by its number in `_FUSE_COMMFD`; it opens /dev/fuse, mounts, and sends the descriptor
//! over that socket with one byte of data. The socket is its standard input here, so that no other descriptor of this
//! process has to be made inheritable.

use std::ffi::{OsStr, OsString};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use super::error::MountError;
use super::request::{Atime, MountRequest};

/// The name that PATH is searched for, and where distributions put the program.
const PROGRAM: [&str; 3] = ["fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3"];

/// Makes a mount and returns its device, closed on exec.
pub(super) fn mount(request: &MountRequest, at: &Path) -> Result<OwnedFd, MountError> {
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| {
        MountError::new(
            at,
            "make a socket pair for fusermount3",
            e,
            "free some descriptors",
        )
    })?;
    let mut child = start(at, |command| {
        command
            .env("_FUSE_COMMFD", "0")
            .arg("-o")
            .arg(options(request))
            .arg("--")
            .arg(at);
        Ok(Stdio::from(theirs.try_clone()?))
    })?;
    // With this end open the program's death would not end the wait for its answer.
    drop(theirs);
    let device = receive(&ours);
    let status = wait(at, &mut child)?;
    match device {
        Some(device) if status.success() => Ok(device),
        _ => Err(failed(at, "mount", status)),
    }
}

/// Lazily unmounts a mountpoint.
pub(super) fn unmount(at: &Path) -> Result<(), MountError> {
    let mut child = start(at, |command| {
        command.arg("-u").arg("-z").arg("--").arg(at);
        Ok(Stdio::null())
    })?;
    let status = wait(at, &mut child)?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(at, "unmount", status))
    }
}

/// Starts the program, whose complaints go to this process's stderr.
fn start(
    at: &Path,
    prepare: impl Fn(&mut Command) -> std::io::Result<Stdio>,
) -> Result<Child, MountError> {
    let mut missing = Errno::NOENT;
    for program in PROGRAM {
        let mut command = Command::new(program);
        let started = prepare(&mut command)
            .and_then(|stdin| command.stdin(stdin).stdout(Stdio::null()).spawn());
        match started {
            Ok(child) => return Ok(child),
            Err(e) => missing = Errno::from_io_error(&e).unwrap_or(Errno::NOENT),
        }
        if missing != Errno::NOENT {
            break;
        }
    }
    let remedy = "install fuse3, or mount as root with -o mount=direct";
    Err(MountError::new(at, "start fusermount3", missing, remedy))
}

fn wait(at: &Path, child: &mut Child) -> Result<ExitStatus, MountError> {
    child.wait().map_err(|e| {
        MountError::new(
            at,
            "wait for fusermount3",
            Errno::from_io_error(&e),
            "see whether it is mounted",
        )
    })
}

fn failed(at: &Path, what: &str, status: ExitStatus) -> MountError {
    let operation = format!("{what} with fusermount3 ({status})");
    MountError::new(
        at,
        operation,
        None,
        "see what fusermount3 said on the line before",
    )
}

/// The `-o` list. fusermount3 adds fd, rootmode, user_id and group_id, and for ordinary users nosuid and nodev.
fn options(request: &MountRequest) -> OsString {
    let mut list = OsString::from(if request.suid { "suid" } else { "nosuid" });
    list.push(if request.dev { ",dev" } else { ",nodev" });
    list.push(",default_permissions,subtype=etcfs,fsname=");
    list.push(escaped(&request.source));
    let flags = [
        (request.allow_other, "allow_other"),
        (request.read_only, "ro"),
        (request.noexec, "noexec"),
        (request.sync, "sync"),
        (request.dirsync, "dirsync"),
        (request.atime == Some(Atime::Noatime), "noatime"),
        (request.atime == Some(Atime::Strictatime), "strictatime"),
        (request.nodiratime, "nodiratime"),
    ];
    for (_, name) in flags.iter().filter(|(on, _)| *on) {
        list.push(",");
        list.push(name);
    }
    if let Some(max_read) = request.max_read {
        list.push(format!(",max_read={max_read}"));
    }
    list
}

/// A value in which no comma ends the option.
fn escaped(value: &OsStr) -> OsString {
    let mut bytes = Vec::new();
    for &byte in value.as_bytes() {
        if matches!(byte, b',' | b'\\') {
            bytes.push(b'\\');
        }
        bytes.push(byte);
    }
    OsStr::from_bytes(&bytes).to_owned()
}

/// Receives one descriptor, closed on exec although the sender's is not. None if the sender has gone without sending.
fn receive(socket: &OwnedFd) -> Option<OwnedFd> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            flags,
        ) {
            Err(Errno::INTR) => {}
            Err(_) => return None,
            Ok(_) => break,
        }
    }
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_of_a_request_is_passed_on() {
        let mut request = MountRequest {
            source: "a,b\\c".into(),
            ..MountRequest::default()
        };
        let plain = r"nosuid,nodev,default_permissions,subtype=etcfs,fsname=a\,b\\c";
        assert_eq!(options(&request), plain);
        request.allow_other = true;
        request.read_only = true;
        request.noexec = true;
        request.sync = true;
        request.dirsync = true;
        request.nodiratime = true;
        request.atime = Some(Atime::Noatime);
        request.max_read = Some(65536);
        let all = ",allow_other,ro,noexec,sync,dirsync,noatime,nodiratime,max_read=65536";
        assert_eq!(options(&request), format!("{plain}{all}").as_str());
    }

    #[test]
    fn a_sender_that_leaves_without_a_word_sends_no_descriptor() {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("socketpair");
        drop(theirs);
        assert!(receive(&ours).is_none());
    }
}
