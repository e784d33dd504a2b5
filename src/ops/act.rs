//! The second gate: what a request changes is changed in the caller's name.
//!
//! The kernel has decided on the mount, with attributes that were true a moment ago. The act itself is the caller's: with
//! its file system ids and without capabilities, so the lower file system decides about the object as it is at that
//! moment. Only where that refuses is the caller itself looked at (`/proc/TID`): its groups, and the capabilities that it
//! has in the daemon's own user namespace, are put on for one more try. Most requests are the owner's or root's in root's
//! directories, and never come to that.

use super::Call;
use crate::fs::asker::Asker;
use crate::fs::lower::resolve::Spot;
use crate::fs::stat::Stat;
use crate::sys::creds::{self, Held};
use crate::sys::proc::{self, Caller};
use crate::sys::stop::{self, StopPoint};
use etcfs_proto::Frame;
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::Agreed;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

const SET_IDS: u32 = libc::S_ISUID | libc::S_ISGID;

/// Who a request acts as.
#[derive(Clone, Copy)]
pub(crate) struct Actor<'a> {
    frame: &'a Frame<'a>,
    agreed: &'a Agreed,
    /// The kernel has asked for the rights on the mount.
    vouched: bool,
}

impl<'a> Call<'a> {
    /// Who this request acts as.
    pub(super) fn actor(&self) -> Actor<'a> {
        Actor {
            frame: self.frame,
            agreed: self.agreed,
            vouched: true,
        }
    }

    /// Who this request acts as where `spot` is.
    pub(super) fn actor_at(&self, spot: &Spot) -> Actor<'a> {
        match spot.foreign {
            true => self.actor().unvouched(),
            false => self.actor(),
        }
    }

    /// [`Actor::act`].
    ///
    /// # Errors
    /// Those of `op`.
    pub(super) fn act<T>(&self, op: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        self.actor().act(op)
    }
}

impl<'a> Actor<'a> {
    /// The same, for what the kernel has not asked about: it knows the directories of the mount, not those of the other side.
    pub(super) fn unvouched(self) -> Actor<'a> {
        Actor {
            vouched: false,
            ..self
        }
    }

    /// Runs `op`, which changes something, as the caller. It runs a second time where the first is refused and the caller
    /// holds more than its ids; so it is one system call, or changes nothing before the one that is refused.
    ///
    /// # Errors
    /// Those of `op`.
    pub(super) fn act<T>(&self, mut op: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        let first = creds::act_as(self.ids(), self.frame.supplementary_group(), &mut op);
        let done = match first {
            Err(errno) if self.may_hold_more(errno) => match self.held() {
                Some(held) => creds::act_as_held(self.ids(), &held, op),
                None => first,
            },
            _ => first,
        };
        stop::at(StopPoint::Acted);
        done
    }

    /// As [`Actor::act`], where what the caller does not seem to hold is not refused but left out in silence, such as
    /// set-group-id in a mode: it is looked at first.
    ///
    /// # Errors
    /// Those of `op`.
    pub(super) fn act_truly<T>(&self, op: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        match creds::acts_for_others().then(|| self.held()).flatten() {
            Some(held) => creds::act_as_held(self.ids(), &held, op),
            None => self.act(op),
        }
    }

    /// Runs `op` with the caller's ids and no capability at all.
    ///
    /// # Errors
    /// Those of `op`.
    pub(super) fn act_without_more<T>(
        &self,
        op: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let held = Held {
            groups: Vec::new(),
            capabilities: CapabilitySet::empty(),
        };
        creds::act_as_held(self.ids(), &held, op)
    }

    /// As [`Actor::act`], for a change of `fd` that takes set-id bits away (its contents, its owner), unless the caller has
    /// CAP_FSETID or, for some, is in the file's group. `told`: whether the request says that the caller has not that
    /// capability (`FUSE_HANDLE_KILLPRIV_V2`); `None`: it does not say.
    ///
    /// # Errors
    /// Those of `op`.
    pub(super) fn act_dropping_set_ids<T>(
        &self,
        fd: BorrowedFd<'_>,
        told: Option<bool>,
        op: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.act_dropping_set_ids_of(&Stat::of(fd)?, told, op)
    }

    /// The same, for a change of what is `stat`.
    ///
    /// # Errors
    /// Those of `op`.
    pub(super) fn act_dropping_set_ids_of<T>(
        &self,
        stat: &Stat,
        told: Option<bool>,
        mut op: impl FnMut() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let mode = u32::from(stat.0.stx_mode);
        if mode & SET_IDS == 0 {
            return self.act(op);
        }
        match told {
            // The lower file system takes the bits away by itself. Whether set-group-id without execution is one of them
            // depends on the caller's groups (`setattr_should_drop_sgid`).
            Some(true) if mode & SET_IDS == libc::S_ISUID || mode & libc::S_IXGRP != 0 => {
                self.act(op)
            }
            // The kernel's word about CAP_FSETID, given with this very request.
            Some(false) => {
                let held = Held {
                    groups: Vec::new(),
                    capabilities: creds::ACTING | CapabilitySet::FSETID,
                };
                match creds::act_as_held(self.ids(), &held, &mut op) {
                    Err(errno) if self.may_hold_more(errno) => self.act_truly(op),
                    done => done,
                }
            }
            _ => self.act_truly(op),
        }
    }

    /// What `flag` of a request says about CAP_FSETID, if the kernel says anything.
    pub(super) fn told(&self, flag: bool) -> Option<bool> {
        let says = InitFlags::HANDLE_KILLPRIV_V2;
        self.agreed.flags.contains(says).then_some(flag)
    }

    /// The caller's file system ids.
    fn ids(&self) -> (u32, u32) {
        (self.frame.head.uid, self.frame.head.gid)
    }

    /// True if a refusal may be for want of what the caller holds. Space may be kept for root (`ext4_has_free_clusters`).
    fn may_hold_more(&self, errno: Errno) -> bool {
        match errno {
            Errno::PERM | Errno::ACCESS => creds::acts_for_others(),
            Errno::NOSPC | Errno::DQUOT => creds::acts_for_others() && self.frame.head.uid == 0,
            _ => false,
        }
    }

    /// What the caller really holds; `None`: nothing beyond its ids.
    ///
    /// A caller whom nobody here can look at has passed the kernel's check on the mount, and that is what is left to go by:
    /// root may do what root may, others what their permissions allowed a moment ago.
    pub(super) fn held(&self) -> Option<Held> {
        let looked = creds::own(|| Ok(proc::look_at(self.frame.head.pid, self.ids())));
        let held = match looked.ok()? {
            Caller::Nothing => return None,
            Caller::Holds(held) => held,
            Caller::Unknown => Held {
                groups: Vec::new(),
                capabilities: match self.frame.head.uid {
                    0 => CapabilitySet::all(),
                    _ if self.vouched => creds::REACHING,
                    _ => return None,
                },
            },
        };
        let more = !held.groups.is_empty() || !held.capabilities.is_empty();
        more.then_some(held)
    }
}

impl Asker for Actor<'_> {
    fn act(&self, op: &mut dyn FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
        Actor::act(self, op)
    }

    fn rules_over(&self, owner: u32) -> bool {
        let capable = |held: Held| held.capabilities.contains(CapabilitySet::FOWNER);
        !creds::acts_for_others()
            || self.frame.head.uid == owner
            || self.held().is_some_and(capable)
    }
}
