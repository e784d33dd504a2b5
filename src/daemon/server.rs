//! The process that serves, seen from the inside: what it does besides serving.

use super::ending::{LAST_LINES, forward, told, unmount};
use super::facts::Facts;
use super::heir::may_serve;
use super::serve;
use crate::cli::Options;
use crate::fs::Fs;
use crate::fs::journal::Restart;
use crate::ledger::header::{End, FirstPage};
use crate::ledger::{Ledger, Region, Unreadable};
use crate::log;
use crate::mutex::lock;
use crate::session::Session;
use crate::session::meter::now;
use crate::sys::child;
use crate::sys::inherit::Inherited;
use crate::sys::signals::{self, Signals};
use crate::sys::stop;
use crate::sys::stuck;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{BorrowedFd, RawFd};
use rustix::process::Pid;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant, SystemTime};

/// A server that is younger was not there to be ended with the others.
const NEW: Duration = Duration::from_secs(1);

/// How long a spare keeper may take to come.
const PATIENCE: Duration = Duration::from_millis(300);

/// What a server begins with.
pub(super) struct ServerStart<'a> {
    /// What the command line says.
    pub(super) options: &'a Options,
    /// What the start has found out.
    pub(super) facts: &'a Facts,
    /// What its predecessors have left.
    pub(super) ledger: &'static Ledger,
    /// The signals that end the daemon, and others.
    pub(super) signals: &'a Signals,
    /// Is told that it serves.
    pub(super) begun: BorrowedFd<'a>,
    /// Descriptors that are the keeper's.
    pub(super) kept: &'a [RawFd],
}

/// Serves until the connection ends, or the process is killed. `first`: nobody has served this mount before.
pub(super) fn run(start: &ServerStart<'_>, first: bool) -> ! {
    let header = start.ledger.header();
    let began = Instant::now();
    stuck::zero_at_end(&header.main_thread);
    let keeper = Pid::from_raw(header.keeper.load(Acquire));
    if !keeper.is_some_and(child::notice_end_of) && is_alone(header) {
        end_alone(header);
    }
    stop::is_server(header.servers.load(Relaxed));
    let inherited = match first {
        true => Inherited::of(start.facts.descriptors()),
        false => {
            let named = Fs::descriptors_in(start.ledger);
            let all = named.into_iter().chain(start.facts.descriptors());
            Inherited::keep(all.chain(start.kept.iter().copied()))
        }
    };
    let may_serve = || match may_serve(start.ledger) {
        true => {}
        // Nothing that is this process's is anybody's to find.
        false => child::leave(),
    };
    let served = serve::start(
        start.options,
        start.facts,
        start.ledger,
        &inherited,
        may_serve,
    );
    let served = served.and_then(|server| {
        if rustix::process::geteuid().is_root() {
            serve::filter(
                start.options,
                u32::try_from(header.keeper.load(Acquire)).ok(),
            )?;
        }
        Ok(server)
    });
    let server = match served {
        Ok(server) => server,
        Err(error) => {
            let broken = error.downcast_ref::<Unreadable>().is_some();
            let text = format!("{error:#}");
            start.ledger.write(Region::Words, text.as_bytes());
            header.set_end(if broken { End::Unreadable } else { End::Failed });
            std::process::exit(1);
        }
    };
    log::use_system();
    header.serving.store(header.servers.load(Relaxed), Release);
    let _ = rustix::io::write(start.begun, &1_u64.to_ne_bytes());
    if !first {
        tell(start, &server.session);
    }
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(server.session.ended(), PollFlags::IN),
            PollFd::new(start.signals, PollFlags::IN),
        ];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            header.set_end(End::Over);
            if let Some(printer) = &server.printer {
                printer.flush(LAST_LINES);
            }
            std::process::exit(0);
        }
        match start.signals.read() {
            Ok(Some(signal)) if signals::ends(signal) || signal == libc::SIGUSR2 => {
                forward(start.ledger, signal);
                if signals::ends(signal) && is_alone(header) {
                    // Whoever could unmount is dead.
                    let _ = unmount(&start.facts.mount, signal);
                    header.set_end(End::Over);
                    std::process::exit(0);
                }
            }
            Ok(Some(child::PARENT_ENDED)) if is_alone(header) => {
                // Made at the moment at which somebody ended all processes that there were.
                if began.elapsed() < NEW {
                    end_alone(header);
                }
                log::error(format_args!(
                    "{}: the keeper and the spare one have died: the mount ends with this process; unmount it and start it anew",
                    start.facts.mount.mountpoint().display()
                ));
            }
            _ => {}
        }
    }
}

/// Ends, and all is to end with this process: nobody keeps it.
fn end_alone(header: &FirstPage) -> ! {
    // Another keeper has made another server otherwise.
    if header.server.load(Acquire) == child::own() {
        header.set_end(End::Over);
    }
    std::process::exit(0);
}

/// True if the keeper has died and no other one takes its place, which would end this process.
fn is_alone(header: &FirstPage) -> bool {
    if !header.has_keeper() {
        std::thread::sleep(PATIENCE);
    }
    !header.has_keeper()
}

/// Says what has happened, once the mount is served again.
fn tell(start: &ServerStart<'_>, session: &Session) {
    let header = start.ledger.header();
    let ended = header.ended_at.load(Acquire);
    let stall = Duration::from_nanos(now().saturating_sub(ended));
    let why = match header.ended_by() {
        End::Restart => "another server was asked for".to_owned(),
        End::Upgrade => "another program was asked for".to_owned(),
        End::KeeperDied => "the keeper died".to_owned(),
        End::WentBack => "another program did not serve".to_owned(),
        _ => format!("the server died ({})", told(header.status.load(Relaxed))),
    };
    let why = match lock(&session.blamed).take() {
        Some(request) => format!("{why}, as others had, over {request}, which was answered EIO"),
        None => why,
    };
    log::warn(format_args!(
        "{}: {why}; nobody served for {:.1} ms",
        start.facts.mount.mountpoint().display(),
        stall.as_secs_f64() * 1e3
    ));
    session.fs.enforcer.journal().restarted(Restart {
        time: SystemTime::now(),
        why: why.into_bytes().into(),
        stall,
    });
}
