//! What the daemon says about itself: lines on stderr, and once it is in the background lines for syslog and for the
//! kernel's log. Both: there may be no syslog yet when /etc is mounted, and one that waits for this mount takes lines
//! and never writes them.
//!
//! Nothing here opens a file or asks for the time zone while the mount lives: a logger that read `/etc/localtime` would
//! wait for the very mount it logs about (contract D21). Nothing waits either: what a sink does not take at once is lost.
//! That is what syslog crates do: they connect again, wait, and ask the C library for the time.

use crate::printable::{plain, tame};
use rustix::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};
use rustix::time::{ClockId, clock_gettime};
use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// How much a line matters. The numbers are syslog's (syslog(3)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Level {
    /// Something went wrong.
    Error = 3,
    /// Something is doubtful.
    Warn = 4,
    /// What an administrator may want to know.
    Info = 6,
    /// What a developer may want to know.
    Debug = 7,
}

/// `LOG_DAEMON` of syslog(3), where the level is added.
const FACILITY: u8 = 3 << 3;

/// Longest line for syslog and the kernel's log, bytes: the kernel refuses lines of 1,024 and more.
const LINE_MAX: usize = 960;

/// How many lines the system's log gets in [`WINDOW`] seconds: a storm of failures must not fill a disk.
const BURST: u64 = 30;
const WINDOW: u64 = 10;

static LEVEL: AtomicU8 = AtomicU8::new(Level::Warn as u8);
static SYSTEM: OnceLock<System> = OnceLock::new();

/// Set once lines go there.
static USED: AtomicBool = AtomicBool::new(false);
/// Whose daemon it is, for a log that has lines of several.
static STRATUM: OnceLock<String> = OnceLock::new();
/// Lines kept from the system's log in the current window.
static KEPT_BACK: AtomicU64 = AtomicU64::new(0);

/// Lines above `level` are not said from here on.
pub(crate) fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// In the system's log, lines begin with the stratum's name from here on: the daemons of all strata serve an `/etc`.
pub(crate) fn set_stratum(name: &[u8]) {
    let _ = STRATUM.set(crate::printable::printable(name));
}

/// Says that something went wrong. One line, whole, so that lines of several threads do not mix.
pub(crate) fn error(message: fmt::Arguments<'_>) {
    say(Level::Error, message);
}

/// Says that something is doubtful.
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    say(Level::Warn, message);
}

/// Says what an administrator may want to know.
pub(crate) fn info(message: fmt::Arguments<'_>) {
    say(Level::Info, message);
}

fn say(level: Level, message: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    // One line, whatever names it holds.
    let message = message.to_string();
    let message = plain(&message);
    let message = tame(&message);
    match SYSTEM.get().filter(|_| USED.load(Ordering::Relaxed)) {
        Some(system) => system.say(level, format_args!("{message}")),
        None => {
            let text = format!("etcfs: {message}\n");
            // There is nobody to tell that telling failed.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
    }
}

/// From here on lines go to the system's sinks, if there are any.
pub(crate) fn use_system() {
    USED.store(true, Ordering::Relaxed);
}

/// The numbers of the sinks' descriptors.
pub(crate) fn descriptors() -> Vec<RawFd> {
    let Some(system) = SYSTEM.get() else {
        return Vec::new();
    };
    let open = [&system.socket, &system.kmsg].into_iter().flatten();
    open.map(|fd| fd.as_fd().as_raw_fd()).collect()
}

/// The sinks of a daemon whose stderr is nothing.
pub(crate) struct System {
    /// A datagram socket for /dev/log; each line is sent by name, so that a syslog daemon may come late and come again.
    socket: Option<OwnedFd>,
    kmsg: Option<OwnedFd>,
    /// Start of the window, seconds, and lines in it.
    window: Mutex<(u64, u64)>,
}

impl System {
    /// Opens what can be had. Call it before there is a mount.
    pub(crate) fn open() -> System {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let opens = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        System {
            socket: socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None).ok(),
            kmsg: rustix::fs::open(c"/dev/kmsg", opens, Mode::empty()).ok(),
            window: Mutex::new((0, 0)),
        }
    }

    /// From [`use_system`] on lines go to these sinks.
    pub(crate) fn use_when_told(self) {
        let _ = SYSTEM.set(self);
    }

    fn say(&self, level: Level, message: fmt::Arguments<'_>) {
        if !self.is_within_burst() {
            KEPT_BACK.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let kept_back = KEPT_BACK.swap(0, Ordering::Relaxed);
        if kept_back > 0 {
            self.send(
                Level::Warn,
                format_args!("{kept_back} lines were kept back, there were too many"),
            );
        }
        self.send(level, message);
    }

    fn send(&self, level: Level, message: fmt::Arguments<'_>) {
        let text = match STRATUM.get() {
            Some(name) => line(level, std::process::id(), format_args!("{name}: {message}")),
            None => line(level, std::process::id(), message),
        };
        self.to_syslog(&text);
        if let Some(kmsg) = &self.kmsg {
            let _ = rustix::io::write(kmsg, text.as_bytes());
        }
    }

    fn is_within_burst(&self) -> bool {
        let now = clock_gettime(ClockId::Monotonic).tv_sec as u64;
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= window.0 + WINDOW {
            *window = (now, 0);
        }
        window.1 += 1;
        window.1 <= BURST
    }

    fn to_syslog(&self, text: &str) {
        let Some(socket) = &self.socket else {
            return;
        };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // Where there is no syslog, the kernel's log has the line.
        let _ = SocketAddrUnix::new(c"/dev/log")
            .and_then(|log| sendto(socket.as_fd(), text.as_bytes(), flags, &log));
    }
}

/// `<PRIORITY>etcfs[PID]: message`, the form of both sinks.
fn line(level: Level, pid: u32, message: fmt::Arguments<'_>) -> String {
    let mut text = format!("<{}>etcfs[{pid}]: {message}", FACILITY + level as u8);
    if text.len() > LINE_MAX {
        let end = (0..=LINE_MAX).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_priority_and_fits_the_kernel() {
        assert_eq!(line(Level::Error, 7, format_args!("x")), "<27>etcfs[7]: x");
        let long = "\u{e9}".repeat(2000);
        assert!(line(Level::Info, 7, format_args!("{long}")).len() < 1024);
    }

    #[test]
    fn a_storm_is_cut_off() {
        let system = System {
            socket: None,
            kmsg: None,
            window: Mutex::new((0, 0)),
        };
        let passed = (0..1000).filter(|_| system.is_within_burst()).count();
        assert!((30..=60).contains(&passed), "{passed}");
    }
}
