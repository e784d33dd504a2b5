//! Another server, or another program, in place of this one.

use super::report::{BROKEN_OFF, Replaced};
use super::{Client, Control};
use crate::ledger::header::{End, FirstPage, Trial};
use crate::sys::child;
use rustix::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, open};
use rustix::process::{Pid, Signal, kill_process};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// How long the keeper may take to try a program out.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long a spare keeper may take to come.
const COMES: Duration = Duration::from_millis(300);

const NO_KEEPER: &str = "this daemon has no keeper that could make another server (any more): unmount, and start it anew, not with -o keeper=no";

impl Control {
    /// The state, if there is somebody who makes another server, or comes in a moment and ends this one.
    fn keeper(&self) -> Option<&'static FirstPage> {
        let end = Instant::now() + COMES;
        loop {
            let header = self.start.keeper?;
            match header.has_keeper() {
                true => return Some(header),
                false if Instant::now() > end => return None,
                false => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// Ends this process, once the client knows; the keeper makes another one.
    pub(super) fn restart(&self, client: &Client) {
        let Some(header) = self.keeper() else {
            return client.refuse(NO_KEEPER.to_owned());
        };
        client.report(&number(header));
        header.set_end(End::Restart);
        child::leave();
    }

    /// Has the keeper try out the client's program and go on as that. This process is killed then.
    pub(super) fn upgrade(&self, client: &Client, number: i32, id: u64) {
        let Some(header) = self.keeper() else {
            return client.refuse(NO_KEEPER.to_owned());
        };
        let taken = match client.pid() {
            Some(pid) => program_of(pid, number),
            None => Err("the client is in another pid namespace".to_owned()),
        };
        let (program, stat) = match taken {
            Ok(taken) => taken,
            Err(why) => return client.refuse(why),
        };
        let _one = crate::mutex::lock(&self.upgrading);
        header.offered_by.store(id, Release);
        header.candidate_is[0].store(stat.st_dev, Release);
        header.candidate_is[1].store(stat.st_ino, Release);
        let number = program.as_fd().as_raw_fd();
        header.candidate.store(number, Release);
        let keeper = Pid::from_raw(header.keeper.load(Acquire));
        if keeper.is_none_or(|keeper| kill_process(keeper, Signal::USR2).is_err()) {
            // Whoever takes its place asks nobody for it, and ends this process.
            header.candidate.store(0, Release);
            return;
        }
        let end = Instant::now() + PATIENCE;
        let is_open = || header.trial_of.load(Acquire) != id || header.trial() == Trial::Open;
        while is_open() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Not closed before it is taken back: the keeper may be about to take its own copy.
        let taken = header
            .candidate
            .compare_exchange(number, 0, AcqRel, Relaxed);
        let all = Instant::now() + PATIENCE;
        while taken.is_err() && is_open() && Instant::now() < all {
            std::thread::sleep(Duration::from_millis(5));
        }
        let trial = Some(header.trial()).filter(|_| !is_open());
        client.refuse(match trial.and_then(in_words) {
            Some(why) => why.to_owned(),
            None => "the keeper does not answer".to_owned(),
        });
    }
}

/// What a client is told first.
fn number(header: &FirstPage) -> Vec<u8> {
    let servers = header.servers.load(Acquire);
    serde_json::to_vec(&Replaced { servers }).unwrap_or_default()
}

/// What became of a program, in words. `None`: it is not decided.
pub(super) fn in_words(trial: Trial) -> Option<&'static str> {
    match trial {
        Trial::Open => None,
        Trial::Serves => Some("it serves"),
        Trial::DoesNotRun => Some(
            "the program cannot be run here, or does not say within 2 s whether it can go on with this mount; nothing has changed",
        ),
        Trial::OtherState => Some(
            "the program does not understand the state of this daemon (another version of it); nothing has changed",
        ),
        Trial::DidNotServe => {
            Some("the program did not serve within 2 s, and the one before it was gone back to")
        }
        Trial::OtherOptions => Some(
            "the program does not know an option that this mount was started with; nothing has changed",
        ),
        Trial::NobodyStandsBy => Some(
            "no process can be made, or none answers, that would go back to the program of now; nothing has changed",
        ),
        Trial::BrokenOff => Some(BROKEN_OFF),
    }
}

/// The descriptor `number` of process `pid`, if it is a program that may take this one's place: root's or this user's own, and
/// nobody else's to write.
fn program_of(pid: Pid, number: i32) -> Result<(OwnedFd, Stat), String> {
    let path = format!("/proc/{}/fd/{number}", pid.as_raw_nonzero());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let program = open(path, flags, Mode::empty())
        .map_err(|errno| format!("the program cannot be opened: {errno}"))?;
    let stat = fstat(&program).map_err(|errno| format!("the program: {errno}"))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::RegularFile || stat.st_mode & 0o111 == 0 {
        return Err("the program is no file that can be executed".to_owned());
    }
    if !child::is_ours_alone(&stat) {
        return Err(
            "the program can be written by others than root and this daemon's user; chown and chmod it".to_owned(),
        );
    }
    Ok((program, stat))
}
