//! Recording a running session.

use super::rules;
use crate::fs::ids::NodeId;
use crate::mutex::lock;
use crate::session::{Observer, Session, Times, meter};
use etcfs_proto::capture::{CaptureFlags, Header, Record, RecordKind, strip, write_record};
use etcfs_proto::{Frame, Opcode, Reply};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;
use zerocopy::IntoBytes as _;

/// The most bytes of records that wait to be taken: about a tenth of a second of the densest traffic. What comes on top is counted
/// and left out, because a slow reader must not hold up the mount.
const QUEUE: usize = 16 << 20;

/// A recording in progress. It ends when this is dropped.
pub struct Recorder {
    session: Arc<Session>,
    tap: Arc<Tap>,
    observer: Arc<dyn Observer>,
}

/// What the threads that serve write into.
struct Tap {
    /// When the recording began, see [`meter::now`].
    began: u64,
    /// Whose rules are recorded. The session holds its observers.
    session: Weak<Session>,
    data: bool,
    queue: Mutex<Queue>,
    more: Condvar,
    /// The last request in progress was answered after the end.
    answered: Condvar,
}

#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    lost: u32,
    /// Requests that were recorded and not answered yet.
    open: HashSet<u64>,
    ended: bool,
}

impl Queue {
    /// Notes that a request has come; false if it is not to be recorded any more.
    fn begins(&mut self, unique: u64) -> bool {
        !self.ended && self.open.insert(unique)
    }
}

/// How long the answers of requests that are in progress at the end are waited for. Some may never come: whoever waits
/// for a lock.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

impl Recorder {
    /// Records every request of `session` from the next one on; `data`: with the contents of files and attributes.
    pub fn start(session: &Arc<Session>, data: bool) -> Recorder {
        let real = clock_gettime(ClockId::Realtime);
        let mut flags = CaptureFlags::native();
        flags.set(CaptureFlags::DATA, data);
        let header = Header {
            flags,
            began: real.tv_sec as u64 * 1_000_000_000 + real.tv_nsec as u64,
        };
        let tap = Arc::new(Tap {
            began: meter::now(),
            session: Arc::downgrade(session),
            data,
            queue: Mutex::default(),
            more: Condvar::new(),
            answered: Condvar::new(),
        });
        lock(&tap.queue).bytes.extend(header.to_bytes());
        let mut agreed = Reply::with_capacity(64);
        agreed.put(&session.agreed.to_out().0);
        let message = agreed.finish(0);
        tap.push(RecordKind::Init, Opcode::INIT, message.len(), &[message]);
        tap.rules();
        let observer: Arc<dyn Observer> = tap.clone();
        session.observers.add(observer.clone());
        Recorder {
            session: session.clone(),
            tap,
            observer,
        }
    }

    /// Records nothing more, except the answers of requests that have been begun, as far as they come soon. What was
    /// recorded can still be taken.
    pub(crate) fn stop(&self) {
        let mut queue = lock(&self.tap.queue);
        queue.ended = true;
        let waited = self
            .tap
            .answered
            .wait_timeout_while(queue, LAST_ANSWERS, |queue| !queue.open.is_empty());
        drop(waited);
        self.session.observers.remove(&self.observer);
    }

    /// The next bytes of the recording's file, any number of whole records; none after `wait` without a request.
    pub fn take(&self, wait: Duration) -> Vec<u8> {
        let queue = lock(&self.tap.queue);
        let (mut queue, _) = self
            .tap
            .more
            .wait_timeout_while(queue, wait, |queue| queue.bytes.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut queue.bytes)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Tap {
    /// Adds the rules in force.
    fn rules(&self) {
        if let Some(session) = self.session.upgrade() {
            let text = rules::write(&session.fs);
            self.push(RecordKind::Rules, Opcode::INIT, text.len(), &[&text]);
        }
    }

    /// Adds one record, whose message of `len` bytes is kept as far as `parts` go.
    fn push(&self, kind: RecordKind, opcode: Opcode, len: usize, parts: &[&[u8]]) {
        let thread = rustix::thread::gettid().as_raw_nonzero().get();
        let mut record = Record {
            kind,
            cpu: rustix::thread::sched_getcpu() as u16,
            thread: thread as u32,
            time: meter::now().saturating_sub(self.began),
            opcode,
            len: len as u32,
            kept: &[],
        };
        let kept = parts.concat();
        let mut queue = lock(&self.queue);
        if queue.bytes.len() + kept.len() > QUEUE {
            queue.lost = queue.lost.saturating_add(1);
            return;
        }
        let lost = std::mem::take(&mut queue.lost);
        if lost > 0 {
            let gap = Record {
                kind: RecordKind::Lost,
                len: lost,
                ..record
            };
            write_record(&mut queue.bytes, &gap);
        }
        record.kept = &kept;
        let was_empty = queue.bytes.is_empty();
        write_record(&mut queue.bytes, &record);
        drop(queue);
        if was_empty {
            self.more.notify_one();
        }
    }
}

impl Observer for Tap {
    fn request(&self, frame: &Frame<'_>) {
        if !lock(&self.queue).begins(frame.head.unique) {
            return;
        }
        let head = frame.head.as_bytes();
        let whole = [head, frame.args, frame.tail, frame.ext];
        let len = whole.iter().map(|part| part.len()).sum();
        // Without the commands to the configuration file nobody could say what came after them.
        if self.data || frame.head.nodeid == NodeId::CONFIG.0 {
            return self.push(RecordKind::Request, frame.opcode(), len, &whole);
        }
        // Contents are the end of the tail, and such requests have no extensions.
        let keep = strip::request(frame).min(len);
        let without = len - keep;
        let tail = &frame.tail[..frame.tail.len().saturating_sub(without)];
        let parts = [head, frame.args, tail, frame.ext];
        self.push(RecordKind::Request, frame.opcode(), len, &parts);
    }

    fn answer(&self, frame: &Frame<'_>, answer: &[u8], _: Times) {
        let unique = frame.head.unique;
        // A request from before the recording is not in it, and neither is its answer.
        if !lock(&self.queue).open.contains(&unique) {
            return;
        }
        self.answered(frame, answer);
        let mut queue = lock(&self.queue);
        queue.open.remove(&unique);
        if queue.ended && queue.open.is_empty() {
            self.answered.notify_all();
        }
    }
}

impl Tap {
    fn answered(&self, frame: &Frame<'_>, answer: &[u8]) {
        let opcode = frame.opcode();
        if answer.is_empty() {
            return self.push(RecordKind::Done, opcode, 0, &[]);
        }
        let kept = if self.data {
            answer.len()
        } else {
            strip::answer(frame, answer)
        };
        self.push(RecordKind::Answer, opcode, answer.len(), &[&answer[..kept]]);
        if opcode == Opcode::WRITE && frame.head.nodeid == NodeId::CONFIG.0 {
            self.rules();
        }
    }
}
