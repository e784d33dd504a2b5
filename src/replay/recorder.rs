//! Recording a running session. What is recorded lies in the ledger until it is sent: a successor goes on with it.

use super::rules;
use crate::fs::ids::NodeId;
use crate::ledger::stream::Stream;
use crate::mutex::lock;
use crate::session::{Observer, Session, Times, meter};
use crate::sys::inherit::Inherited;
use etcfs_proto::capture::{CaptureFlags, Header, Record, RecordKind, strip, write_record};
use etcfs_proto::{Frame, Opcode, Reply};
use rustix::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use rustix::time::{ClockId, clock_gettime};
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;
use zerocopy::IntoBytes as _;

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

struct Queue {
    stream: Stream,
    /// The bytes of the record that is being put.
    record: Vec<u8>,
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
    /// Records every request of `session` from the next one on; `data`: with the contents of files and attributes. `None`:
    /// there are too many recordings at once.
    pub fn start(session: &Arc<Session>, data: bool) -> Option<Recorder> {
        let mut stream = session.recordings.begin(meter::now(), data)?;
        let real = clock_gettime(ClockId::Realtime);
        let mut flags = CaptureFlags::native();
        flags.set(CaptureFlags::DATA, data);
        let header = Header {
            flags,
            began: real.tv_sec as u64 * 1_000_000_000 + real.tv_nsec as u64,
        };
        stream.put(&header.to_bytes(), 0);
        let tap = Tap::over(session, stream);
        let mut agreed = Reply::with_capacity(64);
        agreed.put(&session.agreed.to_out().0);
        let message = agreed.finish(0);
        tap.push(RecordKind::Init, Opcode::INIT, message.len(), &[message]);
        tap.rules();
        Some(Recorder::of(session, tap))
    }

    /// Goes on with what a predecessor was recording, and for whom. To be called before requests are read, so that none is
    /// missing. The client's descriptor is to be closed after its recording has ended.
    pub(crate) fn left(session: &Arc<Session>, inherited: &Inherited) -> Vec<(Recorder, OwnedFd)> {
        let left = session.recordings.left().into_iter();
        let found = left.filter_map(|(stream, client)| {
            let client = inherited.take(client)?;
            Some((Recorder::go_on(session, stream), client))
        });
        found.collect()
    }

    fn go_on(session: &Arc<Session>, stream: Stream) -> Recorder {
        let tap = Tap::over(session, stream);
        tap.push(RecordKind::Restart, Opcode::INIT, 0, &[]);
        // The predecessor may have been killed before it had recorded new ones.
        tap.rules();
        Recorder::of(session, tap)
    }

    fn of(session: &Arc<Session>, tap: Arc<Tap>) -> Recorder {
        let observer: Arc<dyn Observer> = tap.clone();
        session.observers.add(observer.clone());
        Recorder {
            session: session.clone(),
            tap,
            observer,
        }
    }

    /// A successor goes on with this, for the client with that descriptor, which stays open until this is dropped.
    pub(crate) fn outlives_the_server(&self, client: BorrowedFd<'_>) {
        let queue = lock(&self.tap.queue);
        queue.stream.outlives_the_server(client.as_raw_fd());
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

    /// The next bytes of the recording's file, `most` of them, and their position in it; none after `wait` without a request.
    pub(crate) fn next(&self, wait: Duration, most: usize) -> (u64, Vec<u8>) {
        let queue = lock(&self.tap.queue);
        let (mut queue, _) = self
            .tap
            .more
            .wait_timeout_while(queue, wait, |queue| queue.stream.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        queue.stream.rest();
        queue.stream.next(most)
    }

    /// The client has the next `len` bytes.
    pub(crate) fn sent(&self, len: usize) {
        lock(&self.tap.queue).stream.sent(len);
    }

    /// The next bytes of the recording's file, as many as there are; none after `wait` without a request.
    pub fn take(&self, wait: Duration) -> Vec<u8> {
        let (_, bytes) = self.next(wait, usize::MAX);
        self.sent(bytes.len());
        bytes
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Tap {
    fn over(session: &Arc<Session>, stream: Stream) -> Arc<Tap> {
        let queue = Queue {
            record: Vec::new(),
            open: HashSet::new(),
            ended: false,
            stream,
        };
        Arc::new(Tap {
            began: queue.stream.began(),
            session: Arc::downgrade(session),
            data: queue.stream.with_data(),
            queue: Mutex::new(queue),
            more: Condvar::new(),
            answered: Condvar::new(),
        })
    }

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
        let was_empty = queue.stream.is_empty();
        let mut bytes = std::mem::take(&mut queue.record);
        bytes.clear();
        let lost = queue.stream.take_lost();
        if lost > 0 {
            let gap = Record {
                kind: RecordKind::Lost,
                len: lost,
                ..record
            };
            write_record(&mut bytes, &gap);
        }
        record.kept = &kept;
        write_record(&mut bytes, &record);
        queue.stream.put(&bytes, lost.saturating_add(1));
        queue.record = bytes;
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
