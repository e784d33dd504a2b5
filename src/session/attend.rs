//! The one place that answers a request, exactly once, whatever happens to it.
//!
//! A request whose client nobody answers keeps that client for ever, past SIGKILL. So what serves one, in whatever thread,
//! holds its [`Debt`], which is paid by an answer, passed to the thread that goes on with it, or, if all that is given up
//! by a panic, paid with EIO when it is dropped.

use super::buffer::Request;
use super::connection::Session;
use super::debt::Debt;
use super::meter::Meter;
use super::serve::{Served, refuse, serve};
use super::way::Way;
use super::{head, lock_wait, panics};
use crate::log;
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::Reply;
use std::sync::Arc;

/// Serves one message to its answer, or to where it is handed on.
pub(crate) fn attend(
    session: &Arc<Session>,
    meter: &Meter,
    request: Request<'_>,
    reply: &mut Reply,
    way: &Way<'_>,
) {
    let served = panics::catch(|| {
        let debt = Debt::of(session, request.message);
        match serve(session, meter, request, reply, way) {
            Served::Answer(answer) => debt.pay(answer),
            Served::Silent => debt.pass_on(),
            Served::Aside { shown } => {
                set_aside(session, debt, request, reply, shown);
            }
            Served::Wait(wait) => lock_wait::start(session, debt, request, wait, reply),
        }
    });
    if let Err(panic) = served {
        meter.hand_on();
        log::error(format_args!(
            "serving a request {panic}; it was answered EIO, please report this"
        ));
    }
}

/// Has the request served by another thread, or refuses it.
pub(crate) fn set_aside(
    session: &Arc<Session>,
    debt: Debt<'_>,
    request: Request<'_>,
    reply: &mut Reply,
    shown: bool,
) {
    let account = head::account_of(request.message);
    let copy = session
        .flights
        .copy(request.message, request.taken, request.flight);
    stop::at(StopPoint::Parked);
    match session.pool.run(session, account, copy, shown) {
        Ok(()) => debt.pass_on(),
        Err(errno) => debt.pay(refuse(session, request, reply, shown, errno)),
    }
}

#[cfg(test)]
mod tests;
