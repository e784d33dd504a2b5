//! A worker: reads a request, has it served, writes the answer, without a hand-over.

use super::attend::{attend, set_aside};
use super::connection::{Ended, Session};
use super::debt::Debt;
use super::head::{caller_of, opcode_of};
use super::lone_caller::{Turn, Turns};
use super::meter;
use super::way::Way;
use crate::sys::creds;
use crate::sys::lease::never_wait;
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::Reply;
use rustix::io::{self, Errno};
use rustix::thread::CpuSet;
use std::sync::Arc;

/// What the device says instead of a request, and what that means. The one place where it is decided.
enum NotARequest {
    /// The request was interrupted before it could be read, or a signal came: read again.
    Again,
    /// No more requests.
    End(Ended),
}

fn read_error(errno: Errno) -> NotARequest {
    match errno {
        Errno::NOENT | Errno::INTR | Errno::AGAIN => NotARequest::Again,
        Errno::NODEV => NotARequest::End(Ended::Unmounted),
        // With FUSE_ABORT_ERROR an abort is told from an unmount.
        Errno::CONNABORTED => NotARequest::End(Ended::Aborted),
        other => NotARequest::End(Ended::Failed(other)),
    }
}

/// Starts a thread that has a place among the workers.
///
/// # Errors
/// When no thread can be made.
pub(crate) fn start(session: &Arc<Session>, place: Post) -> std::io::Result<()> {
    let index = match &place {
        Post::Own(turn) => turn.index(),
        Post::Of { index, .. } => *index,
    };
    let session = session.clone();
    std::thread::Builder::new()
        .name(format!("etcfs-{index}"))
        .stack_size(256 * 1024)
        .spawn(move || {
            let turn = match place {
                Post::Own(turn) => Some(turn),
                Post::Of {
                    index,
                    holder,
                    turns,
                } => turns.relieve(index, holder),
            };
            match turn.and_then(|turn| run(&session, turn)) {
                Some(why) => session.worker_ended(why),
                None => session.crew.left(),
            }
        })
        .map(drop)
}

/// Which place a thread gets.
pub(crate) enum Post {
    /// One that nobody has had.
    Own(Turn),
    /// That of a worker which is stuck.
    Of {
        /// The worker.
        index: usize,
        /// The thread that is stuck.
        holder: u32,
        /// Where both are.
        turns: Arc<Turns>,
    },
}

/// Serves until the connection ends, on the CPU of its place, whenever it is its turn. `None`: it was relieved.
fn run(session: &Arc<Session>, mut turn: Turn) -> Option<Ended> {
    let why = serve_all(session, &mut turn)?;
    turn.leave().then_some(why)
}

fn serve_all(session: &Arc<Session>, turn: &mut Turn) -> Option<Ended> {
    if let Some(cpu) = turn.cpu() {
        let mut set = CpuSet::new();
        set.set(cpu);
        // Being somewhere else costs time only.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    never_wait();
    if let Err(errno) = creds::prepare_thread() {
        return Some(Ended::Failed(errno));
    }
    let mut buffer = session.flights.to_read_into(session.agreed.buffer_size);
    stop::enlist(true);
    let mut reply = Reply::with_capacity(session.agreed.max_write as usize);
    let seat = session.meters.sit_at(turn.index());
    while !turn.is_relieved() {
        turn.wait();
        let len = match io::read(&session.dev, buffer.bytes_mut()) {
            // An empty datagram is what a closed socket pair reads as; the device never gives one.
            Ok(0) => return Some(Ended::Unmounted),
            Ok(len) => len,
            Err(errno) => match read_error(errno) {
                NotARequest::Again => continue,
                NotARequest::End(why) => return Some(why),
            },
        };
        buffer.taken = meter::now();
        buffer.note_read(len);
        let request = buffer.request_of(len);
        stop::request(opcode_of(request.message).0);
        stop::at(StopPoint::Read);
        turn.request(caller_of(request.message), request.taken);
        session.waker.request();
        let alone = session.crew.begin(turn);
        if session.crew.holds_back(request.message) {
            let debt = Debt::of(session, request.message);
            set_aside(session, debt, request, &mut reply, false);
        } else {
            attend(session, &seat, request, &mut reply, &Way::WORKER);
        }
        if alone {
            session.crew.waker.request();
        }
        buffer.empty();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker does after `errno`: read again (`None`), or end.
    fn after(errno: Errno) -> Option<Ended> {
        match read_error(errno) {
            NotARequest::Again => None,
            NotARequest::End(why) => Some(why),
        }
    }

    #[test]
    fn a_worker_reads_again_unless_the_device_is_gone() {
        for again in [Errno::NOENT, Errno::INTR, Errno::AGAIN] {
            assert_eq!(after(again), None);
        }
        assert_eq!(after(Errno::NODEV), Some(Ended::Unmounted));
        assert_eq!(after(Errno::CONNABORTED), Some(Ended::Aborted));
        for other in [Errno::IO, Errno::INVAL, Errno::PERM, Errno::BADF] {
            assert_eq!(after(other), Some(Ended::Failed(other)));
        }
    }
}
