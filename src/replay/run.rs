//! Carrying a recording out again: the same requests, in the same order, by the same code that serves a mount, without a
//! kernel in between.

use super::compare::{Answered, Knows, compare};
use super::ids::{Ids, Unknown};
use super::listing::Listing;
use super::rules::Recorded;
use super::tally::{Difference, Tally};
use super::{Exchange, Recording, errno_of, is_left_out};
use crate::fs::Fs;
use crate::fs::ids::NodeId;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use crate::ledger::flight::Flight;
use crate::session::meter::{self, Role, Seat};
use crate::session::{Request, Served, Session, Way, serve};
use crate::sys::creds;
use anyhow::{Context as _, Result};
use etcfs_proto::abi::{EntryOut, OpenOut, OutHeader, ReadIn, ReleaseIn};
use etcfs_proto::capture::Message;
use etcfs_proto::op::Body;
use etcfs_proto::{Frame, Opcode, Reply, show};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use zerocopy::{FromBytes as _, FromZeros as _, IntoBytes as _};

/// Where a request's head names the thread that asked (`struct fuse_in_header`). It is a number of another machine or
/// another time, and nobody who bears it here may be asked what the caller held; 0 is somebody who cannot be asked.
const PID: std::ops::Range<usize> = 32..36;

/// The two directories that a replay works on. It changes them.
pub struct Trees<'a> {
    /// The stratum's own directory.
    pub local: &'a Path,
    /// The directory that strata share.
    pub global: &'a Path,
    /// They are copies of the recording's, not made up from it.
    pub are_copies: bool,
}

/// Carries out `recording` over `trees`.
///
/// # Errors
/// When there can be no session over these directories.
pub fn run(recording: &Recording<'_>, trees: &Trees<'_>) -> Result<Tally> {
    let session = session(recording, trees)?;
    // In a thread of its own, because the identity of the thread that serves changes.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let prepared = creds::prepare_thread();
            let mut replay = Replay::new(&session, trees);
            for (at, exchange) in recording.exchanges.iter().enumerate() {
                replay.exchange(at + 1, exchange);
                replay.ask_waiting(exchange.request.opcode);
            }
            prepared.map(|()| replay.end())
        });
        thread.join()
    })
    .map_err(|_| anyhow::anyhow!("the replay's thread panicked"))?
    .context("preparing the replay's thread")
}

fn session(recording: &Recording<'_>, trees: &Trees<'_>) -> Result<Arc<Session>> {
    let agreed = recording
        .agreed()
        .map_err(|refusal| anyhow::anyhow!("{refusal}"))?;
    let open = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .and_then(|fd: OwnedFd| BaseDir::new(&fd))
            .with_context(|| format!("opening {}", path.display()))
    };
    let rules = recording.first_rules();
    let settings = Settings {
        stratum: b"replay".as_slice().into(),
        mountpoint: b"/etc".as_slice().into(),
        exact_globals: rules.exact,
        dir_limit: 256,
        privileged: rustix::process::geteuid().is_root(),
        ..Settings::default()
    };
    let mut fs = Fs::new(open(trees.local)?, open(trees.global)?, settings)
        .context("looking at the directories")?;
    fs.configuration
        .make_up_sources(Recorded::made_up_sources(&recording.rules));
    fs.change_config(&rules.commands)
        .map_err(|error| anyhow::anyhow!("the recorded rules: {error}"))?;
    // Nothing is read from it, and what is written to it says that a notice has been sent.
    let device = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .context("opening /dev/null")?;
    Session::new(device, fs, agreed, None).context("making the session")
}

struct Replay<'s, 'r> {
    session: &'s Session,
    seat: Seat,
    /// Nobody goes on with a replay that was killed.
    flight: Flight,
    ids: Ids,
    listings: HashMap<u64, Listing>,
    /// Locks that could not be had yet, with their numbers.
    waiting: Vec<(usize, &'s Exchange<'r>)>,
    knows: Knows,
    asked: Message,
    sent: Message,
    recorded: Message,
    reply: Reply,
    /// The errno of the replay's last answer.
    errno: i32,
    report: Tally,
}

impl<'s, 'r> Replay<'s, 'r> {
    fn new(session: &'s Session, trees: &Trees<'_>) -> Replay<'s, 'r> {
        Replay {
            session,
            seat: session.meters.sit(Role::Worker),
            flight: Flight::new_zeroed(),
            ids: Ids::default(),
            listings: HashMap::new(),
            waiting: Vec::new(),
            knows: Knows {
                tree: trees.are_copies,
                owners: rustix::process::geteuid().is_root(),
            },
            asked: Message::default(),
            sent: Message::default(),
            recorded: Message::default(),
            reply: Reply::with_capacity(64 * 1024),
            errno: 0,
            report: Tally::default(),
        }
    }

    /// Tries the locks that are waited for again, after a request that may have let one go.
    fn ask_waiting(&mut self, done: Opcode) {
        if matches!(
            done,
            Opcode::SETLK | Opcode::SETLKW | Opcode::FLUSH | Opcode::RELEASE
        ) {
            for (number, exchange) in std::mem::take(&mut self.waiting) {
                self.exchange(number, exchange);
            }
        }
    }

    fn end(mut self) -> Tally {
        for _ in &self.waiting {
            self.report.leave_out("locks that others hold");
        }
        self.report
    }

    fn exchange(&mut self, number: usize, exchange: &'s Exchange<'r>) {
        let asked = std::mem::take(&mut self.asked);
        self.asked = self.carry_out(number, exchange, asked);
    }

    fn carry_out(
        &mut self,
        number: usize,
        exchange: &'s Exchange<'r>,
        mut asked: Message,
    ) -> Message {
        let request = &exchange.request;
        let Ok(frame) = Frame::cut(asked.load(request)) else {
            self.report.leave_out("malformed");
            return asked;
        };
        if let Some(reason) = is_left_out(frame.opcode()) {
            self.report.leave_out(reason);
            return asked;
        }
        if frame.opcode() == Opcode::SETLKW && exchange.was_given_up() {
            self.report
                .leave_out("locks that were not waited for to the end");
            return asked;
        }
        if frame.head.nodeid == NodeId::CONFIG.0 && request.is_cut() {
            self.report
                .leave_out("commands to the configuration file, whose text was not recorded");
            return asked;
        }
        self.sent.load(request);
        if let Err(unknown) = self.ids.translate(self.sent.bytes_mut()) {
            self.report.leave_out(match unknown {
                Unknown::Node => "about objects from before the recording",
                Unknown::Handle => "on files opened before the recording",
            });
            return asked;
        }
        if frame.opcode() == Opcode::READDIR {
            self.list(number, exchange, &frame);
        } else {
            self.ask_and_compare(number, exchange, &frame);
        }
        asked
    }

    fn ask_and_compare(&mut self, number: usize, exchange: &'s Exchange<'r>, frame: &Frame<'_>) {
        let opcode = frame.opcode();
        let Some(ns) = self.serve() else {
            match opcode {
                Opcode::SETLKW => self.waiting.push((number, exchange)),
                _ => self.report.leave_out("locks that others hold"),
            }
            return;
        };
        self.count(exchange, opcode, ns);
        if let (Opcode::RELEASEDIR, Ok(args)) = (opcode, frame.args::<ReleaseIn>()) {
            self.listings.remove(&args.fh);
        }
        let Some(answer) = &exchange.answer else {
            return;
        };
        let mut recorded = std::mem::take(&mut self.recorded);
        let old = side(recorded.load(answer));
        let new = Answered {
            errno: self.errno,
            body: self.reply.body(),
        };
        let mut lines = compare(frame, old, new, answer.is_cut(), self.knows);
        if old.errno == 0 && new.errno == 0 {
            self.bind(opcode, old.body, &mut lines);
        }
        self.tell(number, frame, lines);
        self.recorded = recorded;
    }

    /// Learns which numbers of the replay stand for the recorded ones.
    fn bind(&mut self, opcode: Opcode, old: &[u8], lines: &mut Vec<String>) {
        let new = self.reply.body();
        let kind = opcode.shape().map_or(Body::Unknown, |shape| shape.body);
        let (mut old_rest, mut new_rest) = (old, new);
        if matches!(kind, Body::Entry | Body::Create) {
            let (Ok((old, a)), Ok((new, b))) = (
                EntryOut::read_from_prefix(old),
                EntryOut::read_from_prefix(new),
            ) else {
                return;
            };
            if !self.ids.bind_node(old.nodeid, new.nodeid) {
                lines.push(format!(
                    "node: recorded {} stood for another one than {} before",
                    old.nodeid, new.nodeid
                ));
            }
            (old_rest, new_rest) = (a, b);
        }
        if matches!(kind, Body::Open | Body::Create) {
            let old = OpenOut::read_from_prefix(old_rest);
            let new = OpenOut::read_from_prefix(new_rest);
            if let (Ok((old, _)), Ok((new, _))) = (old, new) {
                self.ids.bind_handle(old.fh, new.fh);
            }
        }
    }

    fn list(&mut self, number: usize, exchange: &Exchange<'_>, frame: &Frame<'_>) {
        let Ok(args) = frame.args::<ReadIn>() else {
            return;
        };
        let mut listing = self.listings.remove(&args.fh).unwrap_or_default();
        listing.begin(args.offset);
        let mut errno = 0;
        let mut ns = 0;
        if !listing.ended {
            ns = self.read_on(&mut listing, &mut errno);
        }
        self.count(exchange, Opcode::READDIR, ns);
        if let Some(answer) = &exchange.answer {
            let mut recorded = std::mem::take(&mut self.recorded);
            let old = side(recorded.load(answer));
            let mut lines = Vec::new();
            if old.errno != errno {
                let new = Answered { errno, body: &[] };
                lines = compare(frame, old, new, false, self.knows);
            } else if errno == 0 && listing.take_recorded(old.body) {
                while !listing.ended && errno == 0 {
                    self.read_on(&mut listing, &mut errno);
                }
                lines = listing.differences();
            }
            self.tell(number, frame, lines);
            self.recorded = recorded;
        }
        self.listings.insert(args.fh, listing);
    }

    /// Reads the replay's next portion of a listing; nanoseconds.
    fn read_on(&mut self, listing: &mut Listing, errno: &mut i32) -> u64 {
        const OFFSET: usize =
            size_of::<etcfs_proto::abi::InHeader>() + std::mem::offset_of!(ReadIn, offset);
        if let Some(offset) = self.sent.bytes_mut().get_mut(OFFSET..OFFSET + 8) {
            offset.copy_from_slice(listing.at.as_bytes());
        }
        let ns = self.serve().unwrap_or(0);
        *errno = self.errno;
        if *errno == 0 {
            listing.take_replayed(self.reply.body());
        } else {
            listing.ended = true;
        }
        ns
    }

    /// Has the request in `sent` served; nanoseconds, or none if it would have to wait.
    fn serve(&mut self) -> Option<u64> {
        if let Some(pid) = self.sent.bytes_mut().get_mut(PID) {
            pid.fill(0);
        }
        let taken = meter::now();
        let request = Request {
            message: self.sent.bytes(),
            taken,
            flight: &self.flight,
        };
        let way = Way::aside(false, &|| false);
        let outcome = serve(self.session, &self.seat, request, &mut self.reply, &way);
        let ns = meter::now() - taken;
        match outcome {
            Served::Answer(answer) => self.errno = errno_of(answer),
            Served::Silent => self.errno = 0,
            Served::Aside { .. } | Served::Wait(_) => return None,
        }
        Some(ns)
    }

    fn count(&mut self, exchange: &Exchange<'_>, opcode: Opcode, ns: u64) {
        let figures = self.report.ops.entry(opcode).or_default();
        figures.replayed.push(ns);
        if let Some(answer) = &exchange.answer {
            let recorded = answer.time.saturating_sub(exchange.request.time);
            figures.recorded.push(recorded);
        }
    }

    fn tell(&mut self, number: usize, frame: &Frame<'_>, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let difference = Difference {
            number,
            request: show::request(frame).to_string(),
            lines,
        };
        self.report.differs(frame.opcode(), difference);
    }
}

/// The recorded answer.
fn side(message: &[u8]) -> Answered<'_> {
    Answered {
        errno: errno_of(message),
        body: message.get(size_of::<OutHeader>()..).unwrap_or_default(),
    }
}
