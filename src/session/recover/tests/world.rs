//! Two servers after one another, and the kernel that asks them.

use super::StopPoint;
use super::asked::Scenario;
use crate::fs::Fs;
use crate::fs::config::parse_line;
use crate::fs::ids::NodeId;
use crate::fs::lower::BaseDir;
use crate::fs::settings::Settings;
use crate::ledger::Ledger;
use crate::session::connection::Session;
use crate::session::head;
use crate::sys::stop;
use etcfs_proto::Opcode;
use etcfs_proto::abi::{EntryOut, InHeader, OpenIn, OpenOut, OutHeader, UNIQUE_RESEND};
use etcfs_proto::init::{Agreed, Wish, negotiate};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use zerocopy::{FromBytes, IntoBytes};

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer: its body or its errno.
pub(super) type Answer = Result<Vec<u8>, i32>;

/// What came of a scenario.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) was_stopped: bool,
    /// The answer without what differs between two runs.
    pub(super) answer: Answer,
    /// What lies below, a line each.
    pub(super) tree: Vec<String>,
    /// Known nodes, lookups of all of them, and open handles.
    pub(super) counts: (usize, u64, usize),
}

pub(super) struct World {
    pub(super) dir: PathBuf,
    /// The global directory, on another file system where there is one.
    pub(super) global: PathBuf,
    fs: Arc<Fs>,
    ledger: &'static Ledger,
    agreed: Agreed,
    dev: OwnedFd,
    socket: OwnedFd,
    next: u64,
    /// What has been sent and not answered.
    unanswered: BTreeMap<u64, Vec<u8>>,
    answers: BTreeMap<u64, Answer>,
    /// What wants none.
    silent: BTreeSet<u64>,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
        let _ = std::fs::remove_dir_all(&self.global);
    }
}

impl World {
    /// The scenario, with a stop at `point`.
    pub(super) fn run(scenario: &Scenario, point: Option<StopPoint>, resends: bool) -> Outcome {
        let mut world = World::new();
        let first = world.serve(world.ledger, resends);
        let (opcode, node, body) = (scenario.ask)(&mut world);
        let (before, readers) = (stop::stopped(), stop::stopped_readers());
        stop::arm(point, opcode.0);
        let unique = world.send(opcode, node, &body);
        world.until(scenario, |world| {
            stop::stopped() > before || world.answers.contains_key(&unique)
        });
        let was_stopped = world.settle(before, point, unique);
        if was_stopped {
            if stop::stopped_readers() == readers {
                // The one that reads stops with what it reads next.
                world.send(Opcode::GETATTR, 1, &[0; 16]);
                while stop::stopped_readers() == readers {
                    std::thread::yield_now();
                }
            }
            world.hear();
            let file = world.ledger.file().unwrap().try_clone_to_owned().unwrap();
            let ledger = Ledger::adopt(file).unwrap();
            if resends {
                world.send_again();
            }
            std::mem::forget(first);
            let second = world.serve(ledger, resends);
            world.until(scenario, |world| {
                world.unanswered.is_empty() && second.interrupts.len() == 0
            });
        }
        stop::arm(None, 0);
        // What one thread reads and wants no answer has been carried out when others have been answered.
        for _ in 0..3 {
            world.ask(Opcode::GETATTR, 1, &[0; 16]).unwrap();
        }
        Outcome {
            was_stopped,
            answer: (scenario.shown)(world.answers[&unique].clone()),
            tree: [tree(&world.dir), tree(&world.global)].concat(),
            counts: world.counts(),
        }
    }

    fn new() -> World {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("etcfs-recover-{}-{n}", std::process::id()));
        let global = Path::new("/dev/shm").join(dir.file_name().unwrap());
        std::fs::create_dir_all(dir.join("local/d")).unwrap();
        std::fs::create_dir_all(&global).unwrap();
        std::fs::write(global.join("shared"), "global").unwrap();
        std::fs::write(dir.join("local/f"), "text").unwrap();
        std::fs::write(dir.join("local/g"), "other").unwrap();
        let base = |path: &Path| {
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = rustix::fs::open(path, flags, Mode::empty());
            BaseDir::new(&fd.unwrap()).unwrap()
        };
        let settings = Settings {
            stratum: Box::from(*b"here"),
            mountpoint: Box::from(*b"/etc"),
            dir_limit: 1000,
            privileged: true,
            ..Settings::default()
        };
        let fs = Fs::new(base(&dir.join("local")), base(&global), settings).unwrap();
        let rules = ["add_global /shared", "add_global /fresh"];
        let rules = rules.map(|line| parse_line(line.as_bytes()).unwrap());
        fs.change_config(&rules).unwrap();
        let fs = Arc::new(fs);
        let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
        let (socket, dev) = socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None).unwrap();
        World {
            dir,
            global,
            fs,
            ledger: Ledger::create().unwrap(),
            agreed: negotiate(&crate::session::fake::offer(), &Wish::default()).unwrap(),
            dev,
            socket,
            next: 100,
            unanswered: BTreeMap::new(),
            answers: BTreeMap::new(),
            silent: BTreeSet::new(),
        }
    }

    /// Starts a server with one thread that reads.
    fn serve(&self, ledger: &'static Ledger, resends: bool) -> Arc<Session> {
        ledger.header().servers.fetch_add(1, Ordering::Relaxed);
        let dev = rustix::io::dup(&self.dev).unwrap();
        let session = Session::over(ledger, dev, self.fs.clone(), self.agreed, None).unwrap();
        session.resends.store(resends, Ordering::Relaxed);
        session.start(Some(1)).unwrap();
        // Nobody relieves who has stopped.
        session.crew.end();
        session
    }

    fn until(&mut self, scenario: &Scenario, done: impl Fn(&World) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            (scenario.meanwhile)(&self.dir);
            self.hear();
            assert!(
                Instant::now() < until,
                "{} hangs, waited for: {:?}",
                scenario.name,
                self.unanswered
            );
        }
    }

    /// True if the server has stopped: where the answer has come, it may be about to.
    fn settle(&mut self, before: usize, point: Option<StopPoint>, unique: u64) -> bool {
        let is_silent = self.silent.contains(&unique);
        let until = Instant::now() + Duration::from_millis(10);
        while stop::stopped() == before
            && (point == Some(StopPoint::Written) && !is_silent
                || is_silent && Instant::now() < until)
        {
            std::thread::yield_now();
        }
        stop::arm(None, 0);
        self.hear();
        stop::stopped() > before
    }

    pub(super) fn send(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> u64 {
        self.next += 2;
        let head = InHeader {
            len: (size_of::<InHeader>() + body.len()) as u32,
            opcode: opcode.0,
            unique: self.next,
            nodeid,
            ..InHeader::default()
        };
        let message = [head.as_bytes(), body].concat();
        rustix::io::write(&self.socket, &message).unwrap();
        if let Some(unique) = head::owed(&message) {
            self.unanswered.insert(unique, message);
        } else {
            self.silent.insert(self.next);
            self.answers.insert(self.next, Ok(vec![]));
        }
        self.next
    }

    /// What a kernel does upon RESEND.
    fn send_again(&self) {
        for (unique, message) in &self.unanswered {
            let mut message = message.clone();
            message[8..16].copy_from_slice(&(unique | UNIQUE_RESEND).to_ne_bytes());
            rustix::io::write(&self.socket, &message).unwrap();
        }
    }

    /// Takes in what answers there are, after a moment at most. What is answered twice the kernel refuses the second time.
    fn hear(&mut self) {
        let moment = Timespec {
            tv_sec: 0,
            tv_nsec: 300_000,
        };
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            if poll(&mut fds, Some(&moment)).unwrap() == 0 {
                return;
            }
            let mut buffer = vec![0; 1 << 16];
            let len = rustix::io::read(&self.socket, &mut buffer[..]).unwrap();
            let (head, body) = OutHeader::read_from_prefix(&buffer[..len]).unwrap();
            let unique = head.unique & !UNIQUE_RESEND;
            if head.unique == 0 || self.unanswered.remove(&unique).is_none() {
                continue;
            }
            let result = match head.error {
                0 => Ok(body.to_vec()),
                error => Err(-error),
            };
            self.answers.insert(unique, result);
        }
    }

    pub(super) fn ask(&mut self, opcode: Opcode, nodeid: u64, body: &[u8]) -> Answer {
        let unique = self.send(opcode, nodeid, body);
        let until = Instant::now() + PATIENCE;
        while !self.answers.contains_key(&unique) {
            self.hear();
            assert!(Instant::now() < until, "{opcode} is not answered");
        }
        self.answers[&unique].clone()
    }

    /// Looks a name up in the root: its node.
    pub(super) fn look_up(&mut self, name: &str) -> u64 {
        let body = self.ask(Opcode::LOOKUP, 1, format!("{name}\0").as_bytes());
        EntryOut::read_from_prefix(&body.unwrap()).unwrap().0.nodeid
    }

    /// Looks a file up and opens it: node and handle.
    pub(super) fn open(&mut self, name: &str, flags: i32) -> (u64, u64) {
        let node = self.look_up(name);
        let open = OpenIn {
            flags: flags as u32,
            ..OpenIn::default()
        };
        let body = self.ask(Opcode::OPEN, node, open.as_bytes()).unwrap();
        (node, OpenOut::read_from_prefix(&body).unwrap().0.fh)
    }

    fn counts(&self) -> (usize, u64, usize) {
        let nodes = &self.fs.lower.nodes;
        let known = (2..2000).filter_map(|id| nodes.get(NodeId(id)));
        let lookups = known.map(|node| node.lookups()).sum();
        (nodes.count(), lookups, nodes.handles())
    }
}

/// What lies below, apart from times and numbers.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let meta = entry.metadata().unwrap();
        let name = entry.file_name().into_string().unwrap();
        let content = match meta.is_file() {
            true => std::fs::read(entry.path()).unwrap(),
            false => vec![],
        };
        let content = String::from_utf8_lossy(&content[..content.len().min(64)]).into_owned();
        let value = &mut [0; 64][..];
        let len = rustix::fs::lgetxattr(entry.path(), c"user.x", &mut *value).unwrap_or(0);
        let size = if meta.is_dir() { 0 } else { meta.len() };
        let (mode, links) = (meta.mode(), meta.nlink());
        let value = &value[..len];
        found.push(format!(
            "{name} {mode:o} {links} {size} {content:?} {value:?}"
        ));
        if meta.is_dir() {
            let below = tree(&entry.path()).into_iter();
            found.extend(below.map(|line| format!("{name}/{line}")));
        }
    }
    found
}
