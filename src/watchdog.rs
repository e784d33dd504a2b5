//! The watchdog: says once of every request that takes too long what it is, whose, and where its thread stands, so that
//! the daemon never hangs without a trace (contract P9).
//!
//! It costs nothing while nothing happens (contract U5): it sleeps without a timer until a request comes, and with one
//! only while requests keep coming or one is in flight.

use crate::log;
use crate::printable::printable;
use crate::session::Session;
use crate::session::meter::{self, InFlight};
use crate::sys::proc;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// Lines of a kernel stack that are told: the topmost say where it waits.
const STACK: usize = 6;

/// Starts the watchdog: a request older than `limit` is told of, at most half of `limit` later.
///
/// # Errors
/// When no thread can be made.
pub(crate) fn start(session: &Arc<Session>, limit: Duration) -> std::io::Result<()> {
    let session = session.clone();
    std::thread::Builder::new()
        .name("etcfs-watch".into())
        .stack_size(128 * 1024)
        .spawn(move || watch(&session, limit))
        .map(drop)
}

fn watch(session: &Session, limit: Duration) {
    let step = (limit / 2).max(Duration::from_millis(10));
    let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
    let mut told = Told::default();
    loop {
        if !told.look(session, limit) {
            session.waker.drowse();
            // A request that began at that very moment may have missed it; one step later it is seen.
            if !session.waker.sleep(Some(step)) && !told.look(session, limit) {
                session.waker.sleep(None);
            }
        }
        std::thread::sleep(step);
    }
}

/// Requests that were told of and have not been answered, by number.
#[derive(Default)]
struct Told(HashMap<u64, Said>);

/// What a request was said to be, and since when it is worked on.
struct Said {
    what: String,
    taken: u64,
}

impl Told {
    /// Tells of what is new; true if anything is in flight.
    fn look(&mut self, session: &Session, limit: u64) -> bool {
        let requests = session.in_flight();
        self.0.retain(|unique, request| {
            let goes_on = requests.iter().any(|r| r.unique == *unique);
            if !goes_on {
                log::warn(format_args!(
                    "{} has been answered, after {:.1} s at most",
                    request.what,
                    seconds(request.taken)
                ));
            }
            goes_on
        });
        for request in &requests {
            let age = meter::now().saturating_sub(request.taken);
            if age >= limit && !self.0.contains_key(&request.unique) {
                let what = describe(session, request);
                let stands = match request.tid {
                    0 => "it waits for a thread".to_owned(),
                    tid => standing(tid),
                };
                let taken = request.taken;
                log::warn(format_args!(
                    "{what} takes {:.1} s so far; {stands}",
                    seconds(taken)
                ));
                self.0.insert(request.unique, Said { what, taken });
            }
        }
        !requests.is_empty()
    }
}

fn seconds(since: u64) -> f64 {
    meter::now().saturating_sub(since) as f64 / 1e9
}

/// What a request is, and whose.
fn describe(session: &Session, request: &InFlight) -> String {
    let fs = &session.fs;
    let path = match fs.lower.path_of(crate::fs::ids::NodeId::of(request.nodeid)) {
        Ok(path) => printable(&[&fs.settings.mountpoint[..], b"/", &path].concat()),
        Err(_) => format!("node {}", request.nodeid),
    };
    let comm = proc::comm(request.pid).map_or_else(|| "?".to_owned(), |name| printable(&name));
    format!(
        "{} (request {}) of {path} for {comm}[{}] uid {}",
        request.opcode, request.unique, request.pid, request.uid
    )
}

/// Where a thread of this process stands, as far as the kernel tells.
fn standing(tid: u32) -> String {
    let read = |name: &str| {
        let path = format!("/proc/self/task/{tid}/{name}");
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let mut text = format!("thread {tid}");
    let (wchan, call) = (read("wchan"), read("syscall"));
    if !matches!(wchan.trim(), "" | "0") {
        let _ = write!(text, " waits in {}", wchan.trim());
    }
    // The number of the call, or the word "running"; what follows are arguments.
    if let Some(call) = call.split_whitespace().next() {
        let _ = write!(text, ", system call {call}");
    }
    let stack = read("stack");
    let frames: Vec<&str> = stack
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .take(STACK)
        .collect();
    if !frames.is_empty() {
        let _ = write!(text, ", stack {}", frames.join(" < "));
    }
    text
}
