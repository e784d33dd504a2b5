//! The reports: from the session's tables to what is sent.

use super::Control;
use super::replace::in_words;
use super::report::{
    Enforcement, Init, JournalReport, ObjectReport, Op, OverrideReport, PassthroughReport,
    RequestReport, RestartReport, SinceReset, Stats, ThreadReport, Which,
};
use super::wire::Query;
use crate::fs::ids::NodeId;
use crate::fs::ids::Side;
use crate::fs::journal::{Deed, Restart};
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::mutex::lock;
use crate::printable::plain;
use crate::printable::printable;
use crate::session::meter::{self, Role, Snapshot};
use crate::trace::side_word;
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::Agreed;
use rustix::io::Errno;
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

/// How many of a path's last enforcements `which` tells.
const LAST: usize = 5;

impl Control {
    /// The text of a report.
    pub(super) fn answer(&self, ask: &Query) -> Result<Vec<u8>, String> {
        let text = match ask {
            Query::Stats { reset } => serde_json::to_vec(&self.stats(*reset)),
            Query::Which { path } => serde_json::to_vec(&self.which(path)?),
            Query::Journal => serde_json::to_vec(&self.journal()),
            Query::Drop { path } => serde_json::to_vec(&self.let_go(path.as_deref())?),
            Query::Doctor => serde_json::to_vec(&self.doctor()),
            Query::Log(_)
            | Query::Trace(_)
            | Query::Record { .. }
            | Query::Restart
            | Query::Upgrade { .. } => {
                return Err("this is no report".to_owned());
            }
        };
        text.map_err(|error| format!("the daemon cannot write the report: {error}"))
    }

    fn stats(&self, reset: bool) -> Stats {
        let session = &self.session;
        let fs = &session.fs;
        let now = meter::now();
        let snapshot = session.meters.snapshot();
        let uptime = now.saturating_sub(session.meters.since);
        let mut last = lock(&self.reset);
        let since_reset = last.as_ref().map(|(when, then)| SinceReset {
            seconds: now.saturating_sub(*when) as f64 / 1e9,
            ops: ops(&snapshot.since(then)),
        });
        let threads = snapshot.threads.iter().map(|thread| ThreadReport {
            role: match thread.role {
                Role::Worker => "worker".to_owned(),
                Role::Aside => "aside".to_owned(),
            },
            tid: thread.tid,
            busy: thread.busy_ns as f64 / uptime.max(1) as f64,
        });
        let stats = Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mountpoint: printable(&fs.settings.mountpoint),
            stratum: printable(&fs.settings.stratum),
            uptime_s: uptime as f64 / 1e9,
            ops: ops(&snapshot),
            since_reset,
            in_flight: self.in_flight(now),
            threads: threads.collect(),
            nodes: fs.lower.nodes.count(),
            handles: fs.lower.nodes.handles() + fs.configuration.opens(),
            backing_ids: fs.passthrough.registry.ids(),
            passthrough: self.passthrough(),
            transport: "/dev/fuse".to_owned(),
            init: self.init(),
            cache: self.cache(),
            lock_waiters: session.waiters.len(),
            listeners: self.listeners.load(Ordering::Relaxed),
            servers: self
                .start
                .keeper
                .map_or(0, |keeper| keeper.servers.load(Ordering::Relaxed)),
            upgrade: self
                .start
                .keeper
                .and_then(|keeper| in_words(keeper.trial()))
                .map(str::to_owned),
            upgrade_id: self
                .start
                .keeper
                .map_or(0, |keeper| keeper.trial_of.load(Ordering::Relaxed)),
        };
        if reset {
            *last = Some((now, snapshot));
        }
        stats
    }

    /// What is being worked on, the oldest first.
    pub(super) fn in_flight(&self, now: u64) -> Vec<RequestReport> {
        let mut requests = self.session.in_flight();
        requests.sort_by_key(|request| request.taken);
        let shown = requests.iter().map(|request| RequestReport {
            op: request.opcode.to_string(),
            path: self.path_of(NodeId::of(request.nodeid)),
            pid: request.pid,
            uid: request.uid,
            tid: request.tid,
            age_us: now.saturating_sub(request.taken) as f64 / 1e3,
        });
        shown.collect()
    }

    /// The path of a node, with the mount point.
    fn path_of(&self, id: NodeId) -> Option<String> {
        let fs = &self.session.fs;
        let path = fs.lower.path_of(id).ok()?;
        let mut whole = fs.settings.mountpoint.to_vec();
        if !path.is_empty() {
            whole.push(b'/');
            whole.extend_from_slice(&path);
        }
        Some(printable(&whole))
    }

    /// The state of passthrough.
    pub(super) fn passthrough(&self) -> PassthroughReport {
        let backing = &self.session.fs.passthrough.registry;
        let mut reasons: Vec<String> = backing.reasons().into_iter().map(|r| r.text).collect();
        if !self.start.passthrough {
            reasons.push(
                "it was not asked for (-o passthrough, or ETCFS_ENABLE_PASSTHROUGH=1 in the environment)"
                    .to_owned(),
            );
        }
        PassthroughReport {
            asked: self.start.passthrough,
            on: backing.is_on(),
            reasons,
        }
    }

    /// What INIT agreed on.
    pub(super) fn init(&self) -> Init {
        init(&self.session.agreed, self.start.wished)
    }

    fn which(&self, path: &str) -> Result<Which, String> {
        let fs = &self.session.fs;
        let parts: Vec<&str> = path
            .split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .collect();
        if parts.contains(&"..") {
            return Err(format!("{path}: give a path without .."));
        }
        let path = parts.join("/");
        let rules = fs.lower.rules();
        let found = rules.find(path.as_bytes());
        let side = fs.lower.side_of(&rules, &found);
        let shown = |path: &[u8]| format!("/{}", printable(path));
        let base = match side {
            Side::Local => &self.start.local,
            Side::Global => &self.start.global,
        };
        let (object, error) = match self.object(side, &path) {
            Ok(object) => (Some(object), None),
            Err(Errno::NOENT) => (None, Some("nothing is there".to_owned())),
            Err(Errno::LOOP) => {
                let why = "a directory above is a symlink: ask about the path that it leads to";
                (None, Some(why.to_owned()))
            }
            Err(errno) => (None, Some(reason(errno))),
        };
        let mut enforcements: Vec<Enforcement> = fs
            .enforcer
            .journal()
            .entries()
            .iter()
            .filter(|entry| *entry.path == *path.as_bytes())
            .map(enforcement)
            .collect();
        enforcements.drain(..enforcements.len().saturating_sub(LAST));
        Ok(Which {
            path: format!("/{path}"),
            side: side_word(side).to_owned(),
            lower: lower(base, &path),
            kept: self.keeps(&path, &found, side),
            global_rule: found.global.map(|at| shown(rules.path(at).to_bytes())),
            over: found.over.map(|over| OverrideReport {
                kind: over.kind.word().to_owned(),
                content: printable(&over.content),
            }),
            hidden_by: found.hidden_by.map(|over| shown(&over.path)),
            object,
            error,
            enforcements,
        })
    }

    fn object(&self, side: Side, path: &str) -> Result<ObjectReport, Errno> {
        let path = CString::new(path).map_err(|_| Errno::INVAL)?;
        let (stat, node) = self.session.fs.explain.object_at(side, &path)?;
        Ok(object(&stat, node.as_ref()))
    }

    fn journal(&self) -> JournalReport {
        let journal = self.session.fs.enforcer.journal();
        let (restarts, restarted) = journal.restarts();
        let restart = |restart: &Restart| RestartReport {
            time: seconds_since_1970(restart.time),
            why: printable(&restart.why),
            stall: restart.stall.as_secs_f64(),
        };
        JournalReport {
            total: journal.total(),
            entries: journal.entries().iter().map(enforcement).collect(),
            restarted,
            restarts: restarts.iter().map(restart).collect(),
        }
    }
}

/// What INIT agreed on, where so much was wished for.
pub(super) fn init(agreed: &Agreed, wished: InitFlags) -> Init {
    let names = |flags: InitFlags| {
        flags
            .iter_names()
            .map(|(name, _)| name.to_owned())
            .collect::<Vec<_>>()
    };
    Init {
        protocol: format!("7.{}", agreed.minor),
        flags: names(agreed.flags),
        missing: names(wished.difference(agreed.offered)),
        max_write: agreed.max_write,
        max_pages: agreed.max_pages,
        max_readahead: agreed.max_readahead,
        max_stack_depth: agreed.max_stack_depth,
    }
}

/// An error number in words.
pub(super) fn reason(errno: Errno) -> String {
    plain(&errno.to_string()).into_owned()
}

fn lower(base: &Path, path: &str) -> String {
    let mut whole = printable(base.as_os_str().as_encoded_bytes());
    if !path.is_empty() {
        whole.push('/');
        whole.push_str(path);
    }
    whole
}

fn object(stat: &Stat, node: Option<&Arc<Node>>) -> ObjectReport {
    let (handles, backing_id) = match node {
        Some(node) => {
            let handles = node.handles();
            (handles.len(), handles.backing.id())
        }
        None => (0, None),
    };
    ObjectReport {
        kind: match stat.kind() {
            libc::S_IFREG => "file",
            libc::S_IFDIR => "directory",
            libc::S_IFLNK => "symlink",
            _ => "special file",
        }
        .to_owned(),
        dev: format!("{}:{}", stat.0.stx_dev_major, stat.0.stx_dev_minor),
        ino: stat.0.stx_ino,
        mode: format!("{:04o}", stat.0.stx_mode & 0o7777),
        uid: stat.0.stx_uid,
        gid: stat.0.stx_gid,
        node: node.map(|node| node.id.0),
        handles,
        backing_id,
    }
}

fn ops(snapshot: &Snapshot) -> Vec<Op> {
    let name = |opcode| match opcode {
        Snapshot::OTHER => "other".to_owned(),
        opcode => opcode.to_string(),
    };
    let ops = snapshot.ops.iter();
    ops.map(|(opcode, counts)| Op::new(name(*opcode), counts))
        .collect()
}

fn seconds_since_1970(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

fn enforcement(entry: &Deed) -> Enforcement {
    Enforcement {
        time: seconds_since_1970(entry.time),
        path: format!("/{}", printable(&entry.path)),
        kind: entry.kind.word().to_owned(),
        side: side_word(entry.side).to_owned(),
        found: entry.found.to_string(),
        changed_by: entry.changed_by.as_ref().map(ToString::to_string),
        met_by: entry.met_by.as_ref().map(ToString::to_string),
        error: entry.result.err().map(reason),
        text: entry.to_string(),
    }
}
