//! Going to the background, and telling the one who started us how it went (contract D1, D2, D4, D9).
//!
//! The process forks before it has threads. The parent waits at a pipe: one byte from the child means that the mount
//! answers, a line is the reason why it does not, and an end without either that the child died. Crates that make daemons
//! let the parent end before anything is ready.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, WaitStatus, chdir, setsid, umask, waitpid};

/// The child's first byte if all went well. No line of text begins with it.
const READY: u8 = 0;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Forked {
    /// The one that the user started: let it [`Parent::wait`] and leave.
    Parent(Parent),
    /// The daemon.
    Child(Readiness),
}

/// The process that waits for the daemon.
#[derive(Debug)]
pub struct Parent {
    pipe: File,
    child: Pid,
}

/// The daemon's duty to say that it is ready, or why not.
#[derive(Debug)]
pub struct Readiness {
    /// None in the foreground.
    background: Option<Background>,
}

#[derive(Debug)]
struct Background {
    pipe: File,
    /// What becomes descriptors 0, 1 and 2.
    null: OwnedFd,
}

/// Forks. The child is in a session of its own and has umask 0; its stderr and working directory are still its parent's, so
/// that relative paths hold, until [`Readiness::ready`]. Descriptors that were inherited stay open in both.
///
/// # Errors
/// No descriptor or process is to be had.
///
/// # Panics
/// If this process has more than one thread: only the calling one would live on in the child.
pub fn background() -> io::Result<Forked> {
    assert_eq!(
        threads(),
        1,
        "a process with threads cannot go to the background"
    );
    // Opened before there is a mount: nothing is opened by a path afterwards (contract D21).
    let null = null()?;
    let (ours, childs) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: this process has one thread, so the child's copy of it is whole.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if let Some(child) = Pid::from_raw(pid) {
        return Ok(Forked::Parent(Parent {
            pipe: File::from(ours),
            child,
        }));
    }
    drop(ours);
    setsid()?;
    umask(Mode::empty());
    let pipe = File::from(childs);
    Ok(Forked::Child(Readiness {
        background: Some(Background { pipe, null }),
    }))
}

impl Parent {
    /// Waits until the daemon is ready or has failed.
    ///
    /// # Errors
    /// The line for the user, if the daemon is not ready; the exit code is 1 then.
    pub fn wait(mut self) -> Result<(), String> {
        let mut line = Vec::new();
        // Not until the pipe's end: a process that the daemon left behind may hold it open.
        loop {
            let mut byte = [0];
            match self.pipe.read(&mut byte) {
                Ok(0) => break,
                Ok(_) if line.is_empty() && byte[0] == READY => return Ok(()),
                Ok(_) if byte[0] == b'\n' => break,
                Ok(_) => line.push(byte[0]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    return Err(format!(
                        "etcfs: wait for the daemon: {e}; see whether it runs"
                    ));
                }
            }
        }
        if !line.is_empty() {
            return Err(String::from_utf8_lossy(&line).into_owned());
        }
        let how = match waitpid(Some(self.child), WaitOptions::empty()) {
            Ok(Some((_, status))) => end_of(status),
            _ => "unknown how".to_owned(),
        };
        Err(format!(
            "etcfs: the daemon died at the start ({how}); run it with -d to see more"
        ))
    }
}

fn end_of(status: WaitStatus) -> String {
    match (status.terminating_signal(), status.exit_status()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, Some(code)) => format!("exit code {code}"),
        (None, None) => "unknown how".to_owned(),
    }
}

impl Readiness {
    /// The duty of a process that stays in the foreground: nobody waits. Clears the umask as well (contract D9).
    #[must_use]
    pub fn foreground() -> Self {
        umask(Mode::empty());
        Self { background: None }
    }

    /// The mount answers. In the background, from here on the working directory is `/` and 0, 1 and 2 are nothing.
    ///
    /// # Errors
    /// The parent is gone (EPIPE): whoever started the daemon has given up, and it should unmount and leave.
    pub(crate) fn ready(self) -> io::Result<()> {
        let Some(Background { mut pipe, null }) = self.background else {
            return Ok(());
        };
        chdir("/")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        pipe.write_all(&[READY])
    }

    /// The start failed: `line`, without a newline, is what the user reads. The caller leaves with exit code 1.
    pub(crate) fn failed(self, line: &str) {
        let told = match self.background {
            Some(mut background) => writeln!(background.pipe, "{line}").is_ok(),
            None => false,
        };
        if !told {
            eprintln!("{line}");
        }
    }
}

/// How many threads this process has; 1 where /proc cannot be read.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count)
}

/// Something that reads as empty: /dev/null, or in a tree that lacks it a socket whose other end is closed.
fn null() -> io::Result<OwnedFd> {
    let opened = openat(
        CWD,
        "/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    );
    opened.or_else(|_| {
        let flags = SocketFlags::CLOEXEC;
        let (end, _closed) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(end)
    })
}

#[cfg(test)]
mod tests;
