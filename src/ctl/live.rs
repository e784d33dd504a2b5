//! Streams of requests, sent from the very threads that serve them, so that no queue grows: what a listener does not
//! take in at once is counted and left out.

use super::access::Access;
use super::report::errno_name;
use super::wire::{Filter, MESSAGE_MAX};
use super::{Client, Control};
use crate::mutex::lock;
use crate::printable::printable;
use crate::session::{Observer, Session, Times, meter};
use crate::sys::proc;
use crate::trace::{Subject, is_passed, side_word};
use etcfs_proto::reply::cut_answer;
use etcfs_proto::{Frame, Opcode, show};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, recv};
use rustix::time::{ClockId, clock_gettime};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How long a command name is taken for known, ns: a process that starts another program changes it.
const NAME_GOOD: u64 = 100_000_000;
/// How many command names are kept.
const NAMES: usize = 4096;
/// Longest text of arguments in a log, and of a message in a trace, bytes.
const ARGS_MAX: usize = 400;
const TEXT_MAX: usize = MESSAGE_MAX / 8;

thread_local! {
    /// What the request that this thread is serving is about. Taken before the request is carried out: after an unlink
    /// nothing knows the path any more.
    static SUBJECT: RefCell<Option<(u64, Subject)>> = const { RefCell::new(None) };
}

impl Control {
    /// Streams to `client` until it hangs up.
    pub(super) fn stream(self: &Arc<Control>, client: &Client, filter: Filter, whole: bool) {
        let fd = match client.0.try_clone() {
            Ok(fd) => Client(fd),
            Err(error) => return client.refuse(error.to_string()),
        };
        let filter = match Sieve::new(filter) {
            Ok(filter) => filter,
            Err(error) => return client.refuse(error),
        };
        let live: Arc<dyn Observer> = Arc::new(Listener {
            session: self.session.clone(),
            client: fd,
            filter,
            whole,
            lost: AtomicU64::new(0),
            names: Mutex::default(),
        });
        if client.greet(None).is_err() {
            return;
        }
        self.listeners.fetch_add(1, Ordering::AcqRel);
        self.session.observers.add(live.clone());
        let _ = set_socket_timeout(&client.0, Timeout::Recv, None);
        let mut byte = [0; 1];
        while matches!(recv(&client.0, &mut byte, RecvFlags::empty()), Ok((1.., _))) {}
        self.session.observers.remove(&live);
        self.listeners.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A filter, ready for use.
struct Sieve {
    ops: Vec<Opcode>,
    path: Option<Vec<u8>>,
    rest: Filter,
}

impl Sieve {
    fn new(rest: Filter) -> Result<Sieve, String> {
        let known = |name: &String| {
            let wanted = name.to_ascii_uppercase();
            etcfs_proto::op::SHAPES
                .iter()
                .find(|shape| shape.name == wanted)
                .map(|shape| shape.opcode)
                .ok_or_else(|| {
                    format!(
                        "there is no request called {name}; names are as in LOOKUP, OPEN, SETATTR"
                    )
                })
        };
        let ops = rest.ops.iter().map(known).collect::<Result<_, _>>()?;
        let path = rest.path.as_ref();
        Ok(Sieve {
            ops,
            path: path.map(|path| path.trim_matches('/').as_bytes().to_vec()),
            rest,
        })
    }

    /// What can be said before the request is carried out.
    fn takes(&self, frame: &Frame<'_>) -> bool {
        (self.ops.is_empty() || self.ops.contains(&frame.opcode()))
            && self.rest.pid.is_none_or(|pid| pid == frame.head.pid)
            && self.rest.uid.is_none_or(|uid| uid == frame.head.uid)
    }

    fn takes_subject(&self, subject: &Subject) -> bool {
        let Some(wanted) = &self.path else {
            return true;
        };
        let below = |path: &Vec<u8>| {
            wanted.is_empty()
                || path
                    .strip_prefix(wanted.as_slice())
                    .is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        subject.path.as_ref().is_some_and(below) || subject.other.as_ref().is_some_and(below)
    }

    fn takes_result(&self, errno: i32, ns: u64) -> bool {
        ns / 1000 >= self.rest.min_us
            && (!self.rest.failed || errno != 0)
            && (self.rest.errnos.is_empty() || self.rest.errnos.contains(&errno))
    }
}

/// One listener.
struct Listener {
    session: Arc<Session>,
    client: Client,
    filter: Sieve,
    whole: bool,
    lost: AtomicU64,
    names: Mutex<HashMap<u32, (u64, Option<String>)>>,
}

impl Observer for Listener {
    fn request(&self, frame: &Frame<'_>) {
        if !self.filter.takes(frame) {
            return;
        }
        let subject = Subject::of(&self.session.fs, frame);
        SUBJECT.set(Some((frame.head.unique, subject)));
    }

    fn answer(&self, frame: &Frame<'_>, answer: &[u8], times: Times) {
        if !self.filter.takes(frame) {
            return;
        }
        // Another listener may need it too.
        let kept = SUBJECT.with_borrow(|kept| kept.clone());
        let subject = match kept {
            Some((unique, subject)) if unique == frame.head.unique => subject,
            _ => Subject::of(&self.session.fs, frame),
        };
        let (errno, body) = match cut_answer(frame.opcode(), answer) {
            Ok((head, body)) => (head.error.wrapping_neg(), body),
            Err(_) => (0, [].as_slice()),
        };
        let ns = times.done.saturating_sub(times.taken);
        if !self.filter.takes_subject(&subject) || !self.filter.takes_result(errno, ns) {
            return;
        }
        let mut record = self.record(frame, &subject, times);
        record.errno = errno;
        record.result = match errno {
            _ if answer.is_empty() => "-".to_owned(),
            0 => "ok".to_owned(),
            errno => errno_name(errno),
        };
        record.latency_us = ns as f64 / 1e3;
        record.passthrough = is_passed(frame.opcode(), body);
        if self.whole {
            record.request = Some(cut(show::request(frame).to_string(), TEXT_MAX));
            if !answer.is_empty() {
                record.answer = Some(cut(
                    show::answer(frame.opcode(), answer).to_string(),
                    TEXT_MAX,
                ));
            }
        }
        self.send(record);
    }
}

impl Listener {
    fn record(&self, frame: &Frame<'_>, subject: &Subject, times: Times) -> Access {
        let real = clock_gettime(ClockId::Realtime);
        let real = real.tv_sec as u64 * 1_000_000 + real.tv_nsec as u64 / 1000;
        let age = meter::now().saturating_sub(times.taken) / 1000;
        let with_mountpoint = |path: &Vec<u8>| {
            let root = printable(&self.session.fs.settings.mountpoint);
            match path.is_empty() {
                true => root,
                false => format!("{root}/{}", printable(path)),
            }
        };
        Access {
            time_us: real.saturating_sub(age),
            pid: frame.head.pid,
            comm: self.comm(frame.head.pid),
            uid: frame.head.uid,
            op: frame.opcode().to_string(),
            path: subject.path.as_ref().map(with_mountpoint),
            path2: subject.other.as_ref().map(with_mountpoint),
            args: cut(arguments(frame), ARGS_MAX),
            side: subject.side.map(|side| side_word(side).to_owned()),
            rule: subject.rule.clone(),
            ..Access::default()
        }
    }

    /// The command name of a process.
    fn comm(&self, pid: u32) -> Option<String> {
        let now = meter::now();
        if let Some((read, name)) = lock(&self.names).get(&pid) {
            if now - read < NAME_GOOD {
                return name.clone();
            }
        }
        let name = proc::comm(pid).map(|name| printable(&name));
        let mut names = lock(&self.names);
        if names.len() >= NAMES {
            names.clear();
        }
        names.insert(pid, (now, name.clone()));
        name
    }

    fn send(&self, mut record: Access) {
        record.lost = self.lost.swap(0, Ordering::AcqRel);
        let text = serde_json::to_vec(&record).unwrap_or_default();
        if self.client.send(&text, SendFlags::DONTWAIT).is_err() {
            self.lost.fetch_add(record.lost + 1, Ordering::AcqRel);
        }
    }
}

/// The arguments of a request: what its line says beyond the header's fields and the names, which the record has.
fn arguments(frame: &Frame<'_>) -> String {
    let line = show::request(frame).to_string();
    let pid = format!(" pid={}", frame.head.pid);
    let at = line.find(&pid).map_or(line.len(), |at| at + pid.len());
    let rest = line[at..].trim();
    let keep = frame.opcode() == Opcode::GETXATTR
        || frame.opcode() == Opcode::SETXATTR
        || frame.opcode() == Opcode::REMOVEXATTR
        || frame.opcode() == Opcode::SYMLINK;
    if keep {
        return rest.to_owned();
    }
    // Names come last before the extensions.
    let names = [" name=\"", " old=\"", "name=\"", "old=\""];
    let end = names.iter().filter_map(|name| rest.find(name)).min();
    rest[..end.unwrap_or(rest.len())].trim().to_owned()
}

/// Shortens a text that is too long for a message.
fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|&at| text.is_char_boundary(at));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}
