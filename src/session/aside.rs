//! Threads for requests that may take long: a worker that waits for a disk serves nobody.

use super::meter::{InFlight, Role};
use super::serve::{Outcome, serve};
use super::worker::{Buffer, write};
use super::{Session, waiters};
use crate::fs::node::lock;
use crate::log;
use crate::sys::creds;
use etcfs_proto::{Frame, Reply};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How many threads may be at work at once; requests beyond that wait in line.
const MOST: usize = 64;
/// How many threads stay for the next request when there is none.
const KEPT: usize = 2;
/// The largest answer of a request that is served aside: none of them carries file contents.
const ANSWER: usize = 4096;

/// The threads and what waits for them.
#[derive(Default)]
pub struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Buffer>,
    threads: usize,
    idle: usize,
}

impl Pool {
    /// Serves the message in `request` in another thread.
    pub fn run(&self, session: &Arc<Session>, request: Buffer) {
        let mut state = lock(&self.state);
        state.waiting.push_back(request);
        if state.idle >= state.waiting.len() || state.threads >= MOST {
            self.work.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let session_of_thread = session.clone();
        let started = std::thread::Builder::new()
            .name("etcfs-aside".into())
            .stack_size(256 * 1024)
            .spawn(move || session_of_thread.pool.work(&session_of_thread));
        if let Err(error) = started {
            log::error(format_args!(
                "no thread for a long request ({error}); it is served by a worker"
            ));
            lock(&self.state).threads -= 1;
            self.serve_waiting(session);
        }
    }

    /// The request that has waited longest for a thread.
    pub fn oldest_waiting(&self) -> Option<InFlight> {
        let state = lock(&self.state);
        let request = state.waiting.front()?;
        let frame = Frame::cut(request.bytes()).ok()?;
        Some(InFlight::of(frame.head, request.taken))
    }

    /// What a thread of the pool does until there is nothing to do and others are idle.
    fn work(&self, session: &Arc<Session>) {
        // Without an umask of its own the thread still answers; only creating needs it, which is never done aside.
        let _ = creds::prepare_thread();
        loop {
            self.serve_waiting(session);
            let mut state = lock(&self.state);
            if !state.waiting.is_empty() {
                continue;
            }
            if state.idle >= KEPT {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn serve_waiting(&self, session: &Arc<Session>) {
        let mut reply = Reply::with_capacity(ANSWER);
        let seat = session.meters.sit(Role::Aside);
        loop {
            let Some(request) = lock(&self.state).waiting.pop_front() else {
                return;
            };
            let message = (request.bytes(), request.taken);
            match serve(session, &seat, message, &mut reply, true) {
                Outcome::Answer(answer) => write(session, answer),
                Outcome::Wait(wait) => waiters::start(session, message, wait, &mut reply),
                Outcome::Silent | Outcome::Aside => {}
            }
        }
    }
}
