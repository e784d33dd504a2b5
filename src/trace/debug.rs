//! What `-d` prints on stderr, and the lines of the wire that everything else shows too (`etcfsctl trace` of a running
//! daemon, `etcfsctl decode` of a recording).
//!
//! Three lines per request, written at once when its answer is ready. The first begins as etcfs 0.7 printed it, which
//! support instructions search for (contract B27), and goes on with what came of it:
//!
//! ```text
//! etcfs: m_lookup("/passwd") called at time=1700000000 by UID=0 PID=812 exe="/usr/bin/stat" cmdline="stat /etc/passwd" result=ok latency=18us layer=global
//!   > LOOKUP unique=34 node=1 uid=0 gid=0 pid=812 name="passwd"
//!   < LOOKUP unique=34 ok node=7 ...
//! ```
//!
//! File contents are shown by their length only. The lines are printed by a thread of their own, in the order in which the
//! answers became ready; see [`Printer`].

use super::printer::{Line, Printer};
use super::subject::{Subject, is_passed, side_word};
use crate::mutex::lock;
use crate::session::{Observer, Session, Times};
use etcfs_proto::abi::OutHeader;
use etcfs_proto::{Frame, Opcode, show};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, Weak};
use zerocopy::FromBytes;

/// Prints every request of a session on stderr.
struct Debug {
    session: Weak<Session>,
    printer: Arc<Printer>,
    /// Requests in progress: what they are about must be asked before they change it.
    begun: Mutex<HashMap<u64, Subject>>,
}

impl Observer for Debug {
    fn request(&self, frame: &Frame<'_>) {
        self.printer.caller(frame.head.pid);
        if let Some(session) = self.session.upgrade() {
            let subject = Subject::of(&session.fs, frame);
            lock(&self.begun).insert(frame.head.unique, subject);
        }
    }

    fn answer(&self, frame: &Frame<'_>, answer: &[u8], times: Times) {
        let subject = lock(&self.begun).remove(&frame.head.unique);
        let subject = subject.unwrap_or_default();
        let (mut front, mut back) = (String::with_capacity(160), String::with_capacity(400));
        // Writing into a String does not fail.
        let _ = begin(&mut front, frame, &subject);
        let _ = end(&mut back, frame, &subject, answer, times);
        let _ = wire(&mut back, frame, answer);
        self.printer.line(Line {
            pid: frame.head.pid,
            front,
            back,
        });
    }
}

/// Writes the line of contract B27 up to the caller's program.
fn begin(out: &mut String, frame: &Frame<'_>, subject: &Subject) -> fmt::Result {
    let head = frame.head;
    let opcode = frame.opcode();
    match opcode.name() {
        Some(name) => write!(out, "etcfs: m_{}(", name.to_ascii_lowercase())?,
        None => write!(out, "etcfs: m_{}(", opcode.0)?,
    }
    let paths = [&subject.path, &subject.other];
    for (at, path) in paths.into_iter().flatten().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        write!(out, "{comma}\"/{}\"", path.escape_ascii())?;
    }
    let seconds = clock_gettime(ClockId::Realtime).tv_sec;
    write!(
        out,
        ") called at time={seconds} by UID={} PID={}",
        head.uid, head.pid
    )
}

/// Writes what follows the caller's arguments: the result, the latency and the layer, which etcfs 0.7 did not tell.
fn end(
    out: &mut String,
    frame: &Frame<'_>,
    subject: &Subject,
    answer: &[u8],
    times: Times,
) -> fmt::Result {
    write!(out, " result={}", Outcome(answer))?;
    let us = times.done.saturating_sub(times.taken) / 1000;
    write!(out, " latency={us}us layer={}", layer(subject))?;
    let body = answer.get(size_of::<OutHeader>()..).unwrap_or_default();
    if is_passed(frame.opcode(), body) {
        out.write_str(",passthrough")?;
    }
    out.write_char('\n')
}

/// Where the object lives; `-` where the daemon keeps it itself, or knows no such node.
fn layer(subject: &Subject) -> &'static str {
    match (&subject.rule, subject.side) {
        (Some(rule), _) if rule.starts_with("override") => "override",
        (_, Some(side)) => side_word(side),
        (_, None) => "-",
    }
}

/// Writes one line for the request and one for its answer, `>` towards the daemon and `<` back. An empty `answer`: the
/// kernel waits for none.
///
/// # Errors
/// Those of `out`.
pub(crate) fn wire(out: &mut impl fmt::Write, frame: &Frame<'_>, answer: &[u8]) -> fmt::Result {
    writeln!(out, "  > {}", show::request(frame))?;
    if answer.is_empty() {
        return Ok(());
    }
    writeln!(out, "  < {}", show::answer(frame.opcode(), answer))
}

/// What an answer says in a word: `ok`, the name of its error, or `none` where the kernel waits for none.
pub(crate) struct Outcome<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match OutHeader::read_from_prefix(self.0) {
            Err(_) => f.write_str("none"),
            Ok((head, _)) if head.error == 0 => f.write_str("ok"),
            Ok((head, _)) => write!(f, "{}", show::errno(head.error.unsigned_abs())),
        }
    }
}

/// Prints what INIT agreed on, then every request of `session`.
///
/// # Errors
/// When no thread can be made.
pub(crate) fn debug(session: &Arc<Session>) -> std::io::Result<Arc<Printer>> {
    let mut reply = etcfs_proto::Reply::with_capacity(64);
    reply.put(&session.agreed.to_out().0);
    crate::log::info(format_args!(
        "agreed: {}",
        show::answer(Opcode::INIT, reply.finish(1))
    ));
    let printer = Arc::new(Printer::start()?);
    session.observers.add(Arc::new(Debug {
        session: Arc::downgrade(session),
        printer: printer.clone(),
        begun: Mutex::default(),
    }));
    Ok(printer)
}
