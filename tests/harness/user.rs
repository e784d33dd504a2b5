//! Threads that run as another user.

use rustix::process::{Gid, Uid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, configure_capability_in_ambient_set,
    set_capabilities, set_keep_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid, unshare_unsafe,
};

/// Credentials to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Real, effective, saved and file-system user id.
    pub uid: u32,
    /// Real, effective, saved and file-system group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Capabilities, permitted and effective (and ambient, for programs it starts); None leaves what the kernel gives:
    /// all for uid 0, none for others.
    pub caps: Option<CapabilitySet>,
}

impl User {
    /// A user with its own group and no other.
    pub fn plain(uid: u32) -> Self {
        Self {
            uid,
            gid: uid,
            groups: Vec::new(),
            caps: None,
        }
    }

    /// uid 0 with the given capabilities taken away.
    pub fn root_without(caps: CapabilitySet) -> Self {
        Self {
            caps: Some(CapabilitySet::all().difference(caps)),
            ..Self::plain(0)
        }
    }

    /// The same user, also in these groups.
    pub fn in_groups(mut self, groups: &[u32]) -> Self {
        self.groups = groups.to_vec();
        self
    }

    /// The same user with exactly these capabilities.
    pub fn with(mut self, caps: CapabilitySet) -> Self {
        self.caps = Some(caps);
        self
    }

    /// Changes the calling thread's credentials. Raw system calls change one thread; libc's wrappers change all.
    fn take(&self) -> rustix::io::Result<()> {
        let groups: Vec<Gid> = self.groups.iter().copied().map(Gid::from_raw).collect();
        let gid = Gid::from_raw(self.gid);
        let uid = Uid::from_raw(self.uid);
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        let Some(caps) = self.caps else {
            return set_thread_res_uid(uid, uid, uid);
        };
        let held = rustix::thread::capabilities(None)?.permitted;
        let caps = caps.intersection(held);
        set_keep_capabilities(true)?;
        set_thread_res_uid(uid, uid, uid)?;
        set_keep_capabilities(false)?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: caps,
                permitted: caps,
                inheritable: caps,
            },
        )?;
        // Root's programs get the inheritable set by themselves; only other users' need ambient ones.
        if self.uid != 0 {
            for cap in caps.iter() {
                configure_capability_in_ambient_set(cap, true)?;
            }
        }
        Ok(())
    }
}

/// Runs `body` in a thread that has the user's credentials, its own umask and its own working directory. Programs that
/// the body starts inherit the credentials.
pub fn as_user<T: Send>(user: &User, body: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                #[allow(unsafe_code)]
                // SAFETY: FS unshares the umask and the working directory, not the descriptor table.
                unsafe { unshare_unsafe(UnshareFlags::FS) }.expect("unshare the umask");
                user.take()
                    .unwrap_or_else(|e| panic!("become {user:?}: {e}"));
                body()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
