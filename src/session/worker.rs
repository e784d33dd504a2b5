//! A worker: reads a request, has it served, writes the answer, without a hand-over.

use super::attend::{Way, attend};
use super::meter::{self, Role};
use super::serve::caller_of;
use super::turns::Turn;
use super::{Ended, Session};
use crate::sys::creds;
use etcfs_proto::Reply;
use rustix::io::{self, Errno};
use rustix::thread::CpuSet;
use std::sync::Arc;
use zerocopy::IntoBytes as _;

/// A buffer for requests, aligned for the wire's 64-bit fields.
pub struct Buffer {
    words: Vec<u64>,
    len: usize,
    /// When its message was read, see [`meter::now`].
    pub taken: u64,
}

impl Buffer {
    /// Room for `len` bytes. Pages that are never written cost no memory.
    pub fn new(len: usize) -> Buffer {
        Buffer {
            words: vec![0; len.div_ceil(8)],
            len,
            taken: 0,
        }
    }

    /// A copy of one message, read at `taken`.
    pub fn copy(message: &[u8], taken: u64) -> Buffer {
        let mut buffer = Buffer::new(message.len());
        buffer.taken = taken;
        buffer.bytes_mut().copy_from_slice(message);
        buffer
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    /// The bytes, for filling.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.len]
    }
}

/// What the device says instead of a request, and what that means. The one place where it is decided.
enum Device {
    /// The request was interrupted before it could be read, or a signal came: read again.
    Again,
    /// No more requests.
    End(Ended),
}

fn read_error(errno: Errno) -> Device {
    match errno {
        Errno::NOENT | Errno::INTR | Errno::AGAIN => Device::Again,
        Errno::NODEV => Device::End(Ended::Unmounted),
        // With FUSE_ABORT_ERROR an abort is told from an unmount.
        Errno::CONNABORTED => Device::End(Ended::Aborted),
        other => Device::End(Ended::Failed(other)),
    }
}

/// Serves until the connection ends, on `cpu` if one is given, whenever it is its turn.
pub fn run(session: &Arc<Session>, cpu: Option<usize>, mut turn: Turn) -> Ended {
    if let Some(cpu) = cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        // Being somewhere else costs time only.
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    if let Err(errno) = creds::prepare_thread() {
        return Ended::Failed(errno);
    }
    let mut buffer = Buffer::new(session.agreed.buffer_size);
    let mut reply = Reply::with_capacity(session.agreed.max_write as usize);
    let seat = session.meters.sit(Role::Worker);
    loop {
        turn.wait();
        let len = match io::read(&session.dev, buffer.bytes_mut()) {
            // An empty datagram is what a closed socket pair reads as; the device never gives one.
            Ok(0) => return Ended::Unmounted,
            Ok(len) => len,
            Err(errno) => match read_error(errno) {
                Device::Again => continue,
                Device::End(why) => return why,
            },
        };
        let message = &buffer.bytes()[..len];
        let taken = meter::now();
        turn.request(caller_of(message), taken);
        session.waker.request();
        attend(session, &seat, (message, taken), &mut reply, &Way::WORKER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a worker does after `errno`: read again (`None`), or end.
    fn after(errno: Errno) -> Option<Ended> {
        match read_error(errno) {
            Device::Again => None,
            Device::End(why) => Some(why),
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
