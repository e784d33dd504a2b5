//! What a keeper is that a server has made: a copy of a process with threads, which may allocate nothing and take no lock.

use super::ending::{Told, now};
use crate::ledger::Ledger;
use crate::ledger::header::End;
use crate::sys::child::{self, Command};
use crate::sys::signals;
use rustix::fd::RawFd;
use rustix::process::Pid;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Waits for the end of the server, and goes on as `program` then, which makes the next one.
pub(super) fn stand_in(ledger: &Ledger, again: &Command, program: RawFd, told: &Told) -> ! {
    let header = ledger.header();
    let server = Pid::from_raw(header.server.load(Acquire));
    if server.is_some_and(child::notice_end_of) {
        loop {
            let signal = signals::wait();
            if signal == child::PARENT_ENDED {
                break;
            }
            if signals::ends(signal) && !told.survives(signal) {
                header.signal.store(signal, Release);
                if let Some(server) = server {
                    let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
                }
            }
        }
    }
    if header.end() == End::Over {
        child::leave();
    }
    if header.end() == End::None {
        header.status.store(0, Relaxed);
    }
    header.ended_at.store(now(), Release);
    again.execute(program);
    child::leave()
}
