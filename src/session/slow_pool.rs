//! Threads for requests that may take long: a worker that waits for a disk serves nobody.
//!
//! Users take turns at them, and each has a bounded number of them, so that the threads that one user keeps busy are never
//! all there are. Root has some that nobody else gets.

use super::attend::attend;
use super::buffer::Buffer;
use super::connection::Session;
use super::debt::Debt;
use super::head;
use super::meter::{InFlight, Meter, Role};
use super::pool::{BOUNDS, Job, Pool};
use super::serve::{answer_again, refuse};
use super::way::Way;
use crate::fs::budget::Account;
use crate::ledger::flight::Intent;
use crate::log;
use crate::mutex::lock;
use crate::ops;
use crate::sys::stop::{self, StopPoint};
use crate::sys::{creds, proc};
use etcfs_proto::{Frame, Reply};
use rustix::io::Errno;
use rustix::thread::CpuSet;
use std::sync::{Arc, PoisonError};

/// How many threads stay for the next request when there is none.
const KEPT: usize = 2;
/// What the buffer of a thread holds between requests, in bytes: enough for all answers without file contents.
const ANSWER: usize = 4096;

impl Pool {
    /// Has the message in `request` served by another thread when it is the turn of `account`. `shown`: its observers
    /// have been told of it.
    ///
    /// # Errors
    /// ENOMEM when so much of this account waits already that no more is taken in.
    pub(crate) fn run(
        &self,
        session: &Arc<Session>,
        account: Account,
        request: Buffer,
        shown: bool,
    ) -> Result<(), Errno> {
        let Ok(frame) = Frame::cut(request.bytes()) else {
            return Err(Errno::IO);
        };
        let (unique, pid) = (frame.head.unique, frame.head.pid);
        let ticket = session.interrupts.ticket(unique);
        if ticket.is_interrupted() && has_given_up(pid) {
            return Err(Errno::INTR);
        }
        let job = Job {
            request,
            ticket,
            unique,
            pid,
            shown,
        };
        let pushed = lock(&self.state).lanes.push(account, job);
        pushed.map_err(|_| Errno::NOMEM)?;
        self.call_thread(session);
        Ok(())
    }

    /// As [`Pool::run`], of what a predecessor had taken in, which is not refused.
    pub(crate) fn take_over(&self, session: &Arc<Session>, account: Account, job: Job) {
        lock(&self.state).lanes.push_anyway(account, job);
        self.call_thread(session);
    }

    /// The client of request `unique` has a signal to handle, or was killed: what still waits for its turn is answered if
    /// nobody waits for it any more. Natively most of it cannot be interrupted by a signal that does not kill.
    pub(crate) fn interrupt(&self, session: &Session, unique: u64) {
        let pid = {
            let state = lock(&self.state);
            state.lanes.find(unique).map(|job| job.pid)
        };
        // Not under the lock: it reads a file.
        if !pid.is_some_and(has_given_up) {
            return;
        }
        let taken_out = lock(&self.state).lanes.take_out(unique);
        if let Some(job) = taken_out {
            self.refuse(session, &job, &mut Reply::with_capacity(0), Errno::INTR);
        }
    }

    /// Has a thread come for what may begin.
    fn call_thread(&self, session: &Arc<Session>) {
        let mut state = lock(&self.state);
        if !state.lanes.any_may_begin() {
            return;
        }
        if state.idle > 0 {
            state.idle -= 1;
            state.called += 1;
            self.work.notify_one();
            return;
        }
        if state.called > 0 || state.threads >= BOUNDS.all + BOUNDS.root {
            // Whoever comes, or is done, looks again.
            return;
        }
        state.threads += 1;
        drop(state);
        let own = session.clone();
        let started = std::thread::Builder::new()
            .name("etcfs-aside".into())
            .stack_size(256 * 1024)
            .spawn(move || own.pool.work(&own));
        if let Err(error) = started {
            log::error(format_args!(
                "no thread can be made for a long request ({error}); a worker serves it, and others wait for that worker"
            ));
            self.serve_waiting(session);
            lock(&self.state).threads -= 1;
        }
    }

    /// True while something waits, or is under way.
    pub(crate) fn is_busy(&self) -> bool {
        !lock(&self.state).lanes.is_idle()
    }

    /// The request that has waited longest for a thread.
    pub(crate) fn oldest_waiting(&self) -> Option<InFlight> {
        let state = lock(&self.state);
        let oldest = state
            .lanes
            .first_of_each()
            .min_by_key(|job| job.request.taken)?;
        let frame = Frame::cut(oldest.request.bytes()).ok()?;
        Some(InFlight::of(frame.head, oldest.request.taken))
    }

    /// What a thread of the pool does until there is nothing to do and others are idle.
    fn work(&self, session: &Arc<Session>) {
        unpin();
        stop::enlist(false);
        if let Err(errno) = creds::prepare_thread() {
            // Its umask would be everybody's.
            log::error(format_args!(
                "a thread for long requests cannot have a umask of its own ({errno}); the requests that wait are refused"
            ));
            self.refuse_waiting(session);
            lock(&self.state).threads -= 1;
            return;
        }
        loop {
            self.serve_waiting(session);
            let mut state = lock(&self.state);
            if state.lanes.any_may_begin() {
                continue;
            }
            if state.idle >= KEPT {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            while state.called == 0 {
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            state.called -= 1;
        }
    }

    /// Answers what waits, and nothing else: there is no thread for it.
    fn refuse_waiting(&self, session: &Arc<Session>) {
        let mut reply = Reply::with_capacity(0);
        loop {
            let begun = lock(&self.state).lanes.begin();
            let Some((account, job)) = begun else {
                return;
            };
            self.refuse(session, &job, &mut reply, Errno::NOMEM);
            lock(&self.state).lanes.ended(account);
        }
    }

    fn refuse(&self, session: &Session, job: &Job, reply: &mut Reply, errno: Errno) {
        let debt = Debt::of(session, job.request.bytes());
        let request = job.request.request();
        debt.pay(refuse(session, request, reply, job.shown, errno));
    }

    fn serve_waiting(&self, session: &Arc<Session>) {
        let mut reply = Reply::with_capacity(ANSWER);
        let seat = session.meters.sit(Role::Aside);
        loop {
            let begun = lock(&self.state).lanes.begin();
            let Some((account, job)) = begun else {
                return;
            };
            self.call_thread(session);
            serve_one(session, &seat, job, &mut reply);
            if reply.body_len() > ANSWER {
                reply = Reply::with_capacity(ANSWER);
            }
            lock(&self.state).lanes.ended(account);
        }
    }
}

fn serve_one(session: &Arc<Session>, meter: &Meter, job: Job, reply: &mut Reply) {
    let Job {
        request,
        ticket,
        unique,
        pid,
        shown,
    } = job;
    stop::request(head::opcode_of(request.bytes()).0);
    stop::at(StopPoint::Aside);
    let given_up = || ticket.is_interrupted() && has_given_up(pid);
    let mut way = Way::aside(shown, &given_up);
    match request.flight().intent(unique) {
        None => {}
        Some(Intent::Done(errno, body)) => {
            let debt = Debt::of(session, request.bytes());
            let answer = (errno, &*body);
            debt.pay(answer_again(session, request.request(), reply, answer));
            return;
        }
        Some(Intent::Begun(before)) => {
            take_back(session, &request);
            way.begun = Some(before);
        }
    }
    attend(session, meter, request.request(), reply, &way);
}

/// Takes back what a predecessor has counted and opened for a request that it has not answered.
pub(super) fn take_back(session: &Session, request: &Buffer) {
    if let Ok(frame) = Frame::cut(request.bytes()) {
        ops::take_back(&session.fs, &frame, request.flight());
    }
}

/// True if the thread `pid`, which has a signal to handle, is about to end: nobody will see what is done for it. A thread
/// that cannot be looked up (of another pid namespace) is believed to.
fn has_given_up(pid: u32) -> bool {
    pid == 0 || proc::is_dying(pid)
}

/// Lets the calling thread run on every CPU that the process may use: a thread that a worker starts is held on that
/// worker's CPU otherwise.
fn unpin() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    // Being somewhere else costs time only.
    let _ = rustix::thread::sched_setaffinity(None, &all);
}
