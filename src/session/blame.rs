//! A request over which servers die. After a server has died of a fault of its own, what it had in hand is carried out one
//! after the other, with nothing else beside it; so if the next one dies as well, it is known over which. One that has killed
//! several in this way is answered EIO, and all others go on.

use super::buffer::Buffer;
use super::connection::Session;
use super::debt::Debt;
use super::head;
use super::slow_pool::take_back;
use crate::ledger::flight::number;
use crate::ledger::header::FirstPage;
use crate::log;
use crate::mutex::lock;
use crate::session::serve::refuse;
use etcfs_proto::{Frame, Reply};
use rustix::io::Errno;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::time::{Duration, Instant};

/// So many servers die over one request that is carried out alone.
const ENOUGH: u32 = 2;

/// How long others wait for one, and for all: what takes longer does so without killing.
const EACH: Duration = Duration::from_millis(100);
const ALL: Duration = Duration::from_secs(1);

/// What is known of the request over which the servers before this one have died.
pub(super) struct Blame<'a> {
    session: &'a Arc<Session>,
    header: &'static FirstPage,
    /// The request that is to be refused.
    guilty: Option<u64>,
    end: Instant,
}

impl<'a> Blame<'a> {
    /// `None`: the server before this one has not died of a fault of its own, so nothing need be carried out with care.
    pub(super) fn of(session: &'a Arc<Session>) -> Option<Blame<'a>> {
        let header = session.first_page();
        let alone = header.alone.swap(0, Release);
        if !header.died_of_itself() {
            return None;
        }
        if alone != 0 {
            let before = match header.blamed.swap(alone, Release) == alone {
                true => header.blamed_deaths.load(Acquire),
                false => 0,
            };
            header
                .blamed_deaths
                .store(before.saturating_add(1), Release);
        }
        let is_guilty = alone != 0 && header.blamed_deaths.load(Acquire) >= ENOUGH;
        Some(Blame {
            session,
            header,
            guilty: is_guilty.then_some(alone),
            end: Instant::now() + ALL,
        })
    }

    /// Answers the request if it is the one. Gives back any other.
    pub(super) fn refuse(&self, buffer: Buffer) -> Option<Buffer> {
        let unique = number(head::unique_of(buffer.bytes()).unwrap_or(0));
        if self.guilty != Some(unique) {
            return Some(buffer);
        }
        let what = Frame::cut(buffer.bytes()).map(|frame| {
            let head = frame.head;
            format!(
                "{} of node {} for pid {} uid {}",
                frame.opcode(),
                head.nodeid,
                head.pid,
                head.uid
            )
        });
        let what = what.unwrap_or_default();
        log::error(format_args!(
            "servers die over {what}: it is answered EIO, please report this"
        ));
        take_back(self.session, &buffer);
        let mut reply = Reply::with_capacity(0);
        let debt = Debt::of(self.session, buffer.bytes());
        let request = buffer.request();
        debt.pay(refuse(self.session, request, &mut reply, false, Errno::IO));
        // It is known what they died of.
        for death in &self.header.deaths {
            death.store(0, Release);
        }
        *lock(&self.session.blamed) = Some(what);
        None
    }

    /// Request `unique` is about to be carried out alone.
    pub(super) fn begin(&self, unique: u64) {
        self.header.alone.store(number(unique), Release);
    }

    /// Waits until it has been, or takes too long to be waited for.
    pub(super) fn wait(&self) {
        let end = self.end.min(Instant::now() + EACH);
        while self.session.pool.is_busy() && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.header.alone.store(0, Release);
    }
}
