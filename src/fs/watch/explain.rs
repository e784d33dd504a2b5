//! Whether a name is kept, and why not.

use super::clock::now;
use super::counts::Counted;
use super::mode::On;
use crate::fs::ids::Side;
use crate::fs::node::Node;
use crate::fs::stat::Stat;
use crate::ledger::kept::LONGEST_KEPT;
use crate::mutex::lock;
use rustix::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What there is to say of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// The kernel keeps it, its directory being watched.
    Kept,
    /// As it is not there.
    KeptAbsent,
    /// Nobody has looked it up in the last minute.
    NotAsked,
    /// Its directory is not watched: nobody has looked into it, or others have been looked into since.
    NotWatched,
    /// The kernel gives no more watches.
    NoWatches,
    /// The file system raises no events for what others change.
    Silent,
    /// It has several names, or nothing tells it from a later object.
    Several,
    /// The name is too long.
    Long,
}

impl Says {
    /// In words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Says::Kept => "yes, and its directory is watched",
            Says::KeptAbsent => "yes, as a name that is not there",
            Says::NotAsked => "no: nobody has looked it up within the last minute",
            Says::NotWatched => {
                "no: its directory is not watched, since nobody has looked into it lately"
            }
            Says::NoWatches => {
                "no: its directory is not watched, and no watch is left (raise the sysctl fs.inotify.max_user_watches)"
            }
            Says::Silent => {
                "no: its file system is none of those that raise events for every change"
            }
            Says::Several => {
                "no: it has several names, or nothing tells it from a later object of its number"
            }
            Says::Long => "no: its name has more than 72 bytes",
        }
    }
}

impl On {
    /// What there is to say of `name` in the local directory `dir`, where `stat` was found.
    pub(crate) fn says(&self, dir: &Arc<Node>, name: &[u8], stat: Option<&Stat>) -> Says {
        if name.len() > LONGEST_KEPT {
            return Says::Long;
        }
        let fd = self.lower.dir_fd(dir);
        if !fd.is_ok_and(|fd| self.tells(dir.dev(), fd.as_fd())) {
            return Says::Silent;
        }
        let single = |stat: &Stat| stat.is_dir() || stat.0.stx_nlink == 1;
        if stat.is_some_and(|stat| !single(stat) || stat.key(Side::Local).is_ambiguous()) {
            return Says::Several;
        }
        let watched = lock(&self.dirs).of_node(dir.id);
        let Some(watched) = watched else {
            return match self.failed.load(Ordering::Relaxed) {
                true => Says::NoWatches,
                false => Says::NotWatched,
            };
        };
        let state = watched.state();
        match state
            .get(name)
            .filter(|kept| !state.ended && !kept.is_over(now()))
        {
            None => Says::NotAsked,
            Some(_) if stat.is_none() => Says::KeptAbsent,
            Some(_) => Says::Kept,
        }
    }
}

impl On {
    /// What the mode has come to.
    pub(crate) fn counted(&self) -> Counted {
        let all = lock(&self.dirs).all();
        let (mut kept, mut bytes) = (0, 0);
        for dir in &all {
            let (names, held) = dir.weight();
            kept += names;
            bytes += held;
        }
        let since = self.counts.since.load(Ordering::Relaxed);
        let oldest = match since {
            0 => 0,
            since => now().saturating_sub(since),
        };
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            kept,
            watched: all.len(),
            most: self.most.load(Ordering::Relaxed),
            bytes,
            by_event: count(&self.counts.by_event),
            overflows: count(&self.counts.overflows),
            evicted: count(&self.counts.evicted),
            oldest,
            failed: self.failed.load(Ordering::Relaxed),
        }
    }
}
