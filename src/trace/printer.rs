//! The thread that prints for `-d`. Whatever a line may have to wait for happens here and never in a thread that serves:
//! stderr, whose reader may itself wait for the mount, and the arguments of callers, see [`crate::sys::proc::cmdline`].

use crate::session::meter;
use crate::sys::proc;
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Lines that may wait to be printed; what comes on top is counted and left out.
const QUEUE: usize = 16 * 1024;

/// How long what is known of a process is taken for true, ns: one that starts another program changes it.
const GOOD: u64 = 100_000_000;

/// How many processes are remembered.
const CALLERS: usize = 4096;

/// A line and what belongs to it.
pub(super) struct Line {
    /// Who asked.
    pub(crate) pid: u32,
    /// Up to what is told of the caller.
    pub(crate) front: String,
    /// What comes after it.
    pub(crate) back: String,
}

enum Event {
    /// A request of this process has come; its line follows.
    Caller(u32),
    Line(Line),
    /// Say so when everything before has been printed.
    Flush(SyncSender<()>),
}

/// The way to the thread.
pub(crate) struct Printer {
    events: SyncSender<Event>,
    lost: AtomicU64,
}

impl Printer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When no thread can be made.
    pub(super) fn start() -> std::io::Result<Printer> {
        let (events, to_print) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("etcfs-debug".into())
            .stack_size(128 * 1024)
            .spawn(move || print(&to_print))?;
        Ok(Printer {
            events,
            lost: AtomicU64::new(0),
        })
    }

    /// Announces a line about `pid`, so that the process is looked at while it waits for its answer: many end right after.
    pub(super) fn caller(&self, pid: u32) {
        let _ = self.events.try_send(Event::Caller(pid));
    }

    /// Prints a line, in the order of these calls, or counts it as lost.
    pub(super) fn line(&self, mut line: Line) {
        let lost = self.lost.swap(0, Ordering::AcqRel);
        if lost > 0 {
            line.front.insert_str(
                0,
                &format!("etcfs: {lost} requests came too fast and are not shown\n"),
            );
        }
        if self.events.try_send(Event::Line(line)).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::AcqRel);
        }
    }

    /// Waits until everything is printed, but at most for `time`: nobody may read stderr any more.
    pub(crate) fn flush(&self, time: Duration) {
        let (done, printed) = sync_channel(1);
        if self.events.try_send(Event::Flush(done)).is_ok() {
            let _ = printed.recv_timeout(time);
        }
    }
}

fn print(events: &Receiver<Event>) {
    let mut callers = Callers::default();
    for event in events {
        match event {
            Event::Caller(pid) => callers.look(pid),
            Event::Line(line) => {
                callers.look(line.pid);
                let text = [line.front, callers.known(line.pid).to_string(), line.back];
                // There is nobody to tell that telling failed.
                let _ = std::io::stderr().write_all(text.concat().as_bytes());
            }
            Event::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// What is known of processes, by pid.
#[derive(Default)]
struct Callers(HashMap<u32, (u64, Program)>);

#[derive(Default)]
struct Program {
    exe: Vec<u8>,
    cmdline: Vec<u8>,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(" exe=\"")?;
        write!(f, "{}", self.exe.escape_ascii())?;
        f.write_str("\" cmdline=\"")?;
        write!(f, "{}", self.cmdline.escape_ascii())?;
        f.write_char('"')
    }
}

impl Callers {
    /// Looks at a process, unless that was done a moment ago. Of one that has ended, what was known stays.
    fn look(&mut self, pid: u32) {
        let now = meter::now();
        if self.0.get(&pid).is_some_and(|(at, _)| now - at < GOOD) {
            return;
        }
        if self.0.len() >= CALLERS {
            self.0.clear();
        }
        let found = Program {
            exe: proc::exe(pid).unwrap_or_default(),
            cmdline: proc::cmdline(pid).unwrap_or_default(),
        };
        match self.0.get_mut(&pid) {
            Some((at, _)) if found.cmdline.is_empty() => *at = now,
            _ => {
                self.0.insert(pid, (now, found));
            }
        }
    }

    fn known(&self, pid: u32) -> &Program {
        const NOBODY: &Program = &Program {
            exe: Vec::new(),
            cmdline: Vec::new(),
        };
        self.0.get(&pid).map_or(NOBODY, |(_, caller)| caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_keeps_what_was_known_of_it() {
        let mut callers = Callers::default();
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id();
        // Until the exec this process's own arguments are there.
        while !callers.known(pid).cmdline.ends_with(b"sleep 60") {
            callers.0.clear();
            callers.look(pid);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        callers.0.get_mut(&pid).unwrap().0 = 0;
        callers.look(pid);
        let told = callers.known(pid).to_string();
        assert!(told.contains("sleep\" cmdline=\"sleep 60\""), "{told}");
        assert_eq!(callers.known(0).to_string(), " exe=\"\" cmdline=\"\"");
    }

    #[test]
    fn nobody_waits_for_a_printer_that_is_stuck() {
        let (events, to_print) = sync_channel(1);
        let printer = Printer {
            events,
            lost: AtomicU64::new(0),
        };
        let line = || Line {
            pid: 0,
            front: String::new(),
            back: String::new(),
        };
        for _ in 0..4 {
            printer.line(line());
            printer.caller(1);
        }
        printer.flush(Duration::from_secs(600));
        assert!(matches!(to_print.recv(), Ok(Event::Line(_))));
        printer.line(line());
        let Ok(Event::Line(line)) = to_print.recv() else {
            panic!("the next line");
        };
        assert_eq!(
            line.front,
            "etcfs: 3 requests came too fast and are not shown\n"
        );
    }
}
