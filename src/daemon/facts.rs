//! What a start has found out and made, and every server after the first goes on with: written down once.

use crate::ledger::{Ledger, Region, Unreadable};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::Agreed;
use rustix::fd::RawFd;
use serde::{Deserialize, Serialize};

/// What a start has found out and made. A later version may know more fields: those that it misses have their defaults, and
/// those that it does not know are left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Facts {
    /// The mountpoint, as the stratum sees it.
    pub(super) mountpoint: Vec<u8>,
    /// The directory with the global files.
    pub(super) global_dir: Vec<u8>,
    /// The stratum's name.
    pub(super) stratum: Vec<u8>,
    /// `/dev/fuse`.
    pub(super) device: RawFd,
    /// The base directories.
    pub(super) local: RawFd,
    /// See `local`.
    pub(super) global: RawFd,
    /// What clients of the control socket come in by.
    pub(super) door: Option<crate::ctl::door::Numbers>,
    /// The program, for one that is to take this one's place.
    pub(super) program: Option<RawFd>,
    /// The mount.
    pub(super) mount: crate::mount::Attached,
    /// See [`crate::fs::settings::Settings`].
    pub(super) generation: u32,
    /// See there.
    pub(super) keeps_access_times: bool,
    /// See there.
    pub(super) suid: bool,
    /// See there.
    pub(super) dev: bool,
    /// See there.
    #[serde(default)]
    pub(super) below: bool,
    agreed: InitFacts,
}

/// What INIT agreed on.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct InitFacts {
    minor: u32,
    offered: u64,
    flags: u64,
    max_write: u32,
    max_pages: u16,
    buffer_size: usize,
    max_readahead: u32,
    max_stack_depth: u32,
    passthrough: bool,
    time_gran: u32,
    max_background: u16,
    congestion_threshold: u16,
}

impl From<&Agreed> for InitFacts {
    fn from(agreed: &Agreed) -> InitFacts {
        InitFacts {
            minor: agreed.minor,
            offered: agreed.offered.bits(),
            flags: agreed.flags.bits(),
            max_write: agreed.max_write,
            max_pages: agreed.max_pages,
            buffer_size: agreed.buffer_size,
            max_readahead: agreed.max_readahead,
            max_stack_depth: agreed.max_stack_depth,
            passthrough: agreed.passthrough,
            time_gran: agreed.time_gran,
            max_background: agreed.max_background,
            congestion_threshold: agreed.congestion_threshold,
        }
    }
}

/// What is known before there is a connection.
pub(super) struct Before {
    /// See [`Facts`], as all of these.
    pub(super) mountpoint: Vec<u8>,
    pub(super) global_dir: Vec<u8>,
    pub(super) stratum: Vec<u8>,
    pub(super) local: RawFd,
    pub(super) global: RawFd,
    pub(super) generation: u32,
    pub(super) keeps_access_times: bool,
    pub(super) suid: bool,
    pub(super) dev: bool,
}

impl Before {
    /// With what a connection has brought.
    pub(super) fn and(
        self,
        device: RawFd,
        agreed: &Agreed,
        (mount, below): (crate::mount::Attached, bool),
        door: Option<crate::ctl::door::Numbers>,
        program: Option<RawFd>,
    ) -> Facts {
        Facts {
            mountpoint: self.mountpoint,
            global_dir: self.global_dir,
            stratum: self.stratum,
            device,
            local: self.local,
            global: self.global,
            door,
            program,
            mount,
            generation: self.generation,
            keeps_access_times: self.keeps_access_times,
            suid: self.suid,
            dev: self.dev,
            below,
            agreed: agreed.into(),
        }
    }
}

impl Facts {
    /// What INIT agreed on.
    pub(super) fn agreed(&self) -> Agreed {
        let init = &self.agreed;
        Agreed {
            minor: init.minor,
            offered: InitFlags::from_bits_retain(init.offered),
            flags: InitFlags::from_bits_retain(init.flags),
            max_write: init.max_write,
            max_pages: init.max_pages,
            buffer_size: init.buffer_size,
            max_readahead: init.max_readahead,
            max_stack_depth: init.max_stack_depth,
            passthrough: init.passthrough,
            time_gran: init.time_gran,
            max_background: init.max_background,
            congestion_threshold: init.congestion_threshold,
        }
    }

    /// The numbers of the descriptors that are named here.
    pub(super) fn descriptors(&self) -> Vec<RawFd> {
        let door = self.door.iter().flat_map(|door| door.all());
        [self.device, self.local, self.global]
            .into_iter()
            .chain(self.program)
            .chain(door)
            .collect()
    }

    /// Writes them down.
    pub(super) fn write(&self, ledger: &Ledger) {
        let text = serde_json::to_vec(self).unwrap_or_default();
        ledger.write(Region::Facts, &text);
    }

    /// Reads what was written down.
    ///
    /// # Errors
    /// It is damaged.
    pub(super) fn read(ledger: &Ledger) -> Result<Facts, Unreadable> {
        serde_json::from_slice(&ledger.read(Region::Facts))
            .map_err(|_| Unreadable::Broken("what the start has found out"))
    }
}

/// The variable that names the descriptor of the state to go on with.
pub(super) const STATE: &str = "ETCFS_STATE";

/// The only argument of a program that is asked whether it could go on with the state in the descriptor whose number follows.
/// What knows nothing of it refuses it, as an option that it does not have.
pub(super) const UNDERSTANDS: &str = "--understands-state=";

/// The exit code of a program that has found a state of another version, or a damaged one.
pub(super) const OTHER_STATE: i32 = 3;

/// And of one that lacks an option of the mount's command line.
pub(super) const OTHER_OPTIONS: i32 = 4;
