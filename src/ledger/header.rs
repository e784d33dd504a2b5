//! The first page: what the keeper reads, and numbers that must go on.

use rustix::process::{Pid, getppid};
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use zerocopy::FromBytes;

/// `etcfsldg`, as a number.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"etcfsldg");

/// How many deaths of servers are remembered.
pub(crate) const MOST_DEATHS: usize = 64;

/// The first page of a ledger. It grows at its end only: programs of two versions look at one while one takes the other's place.
#[derive(Debug, FromBytes)]
#[repr(C)]
pub(crate) struct FirstPage {
    /// [`MAGIC`].
    pub(crate) magic: AtomicU64,
    /// [`super::VERSION`].
    pub(crate) version: AtomicU32,
    /// How many servers have begun, the first one included.
    pub(crate) servers: AtomicU32,
    /// The next node's number.
    pub(crate) next_node: AtomicU64,
    /// The next handle's number.
    pub(crate) next_handle: AtomicU64,
    /// What users' shares of the descriptors are told apart by; 0: not chosen yet.
    pub(crate) account_seed: AtomicU64,
    /// The largest backing id that the kernel is known to have given.
    pub(crate) last_backing: AtomicU32,
    /// How many nodes have been forgotten, as far as that tells which of two was first.
    pub(crate) slept: AtomicU32,
    /// By region: see [`super::table::Table`].
    pub(crate) marks: [AtomicU32; 64],
    /// The process that keeps the descriptors while there is no server.
    pub(crate) keeper: AtomicI32,
    /// The process that serves.
    pub(crate) server: AtomicI32,
    /// The number of the server that has begun to serve last.
    pub(crate) serving: AtomicU32,
    /// Why the server ends: one of [`End`].
    end: AtomicU32,
    /// Why the one before it has ended.
    ended_by: AtomicU32,
    /// How the last server ended (the signal; an exit code as a number below 0; 0: unknown), and when: ns of the monotonic
    /// clock.
    pub(crate) status: AtomicI32,
    /// See `status`.
    pub(crate) ended_at: AtomicU64,
    /// When the latest servers died of themselves, ns of the monotonic clock, the oldest first.
    pub(crate) deaths: [AtomicU64; MOST_DEATHS],
    /// The request that is carried out with nothing beside it; 0: none.
    pub(crate) alone: AtomicU64,
    /// The last one over which a server died then, and how many have.
    pub(crate) blamed: AtomicU64,
    /// See `blamed`.
    pub(crate) blamed_deaths: AtomicU32,
    /// The signal upon which all is to end, for a keeper that cannot unmount by itself; 0: none.
    pub(crate) signal: AtomicI32,
    /// The server's descriptor of a program that is to take this one's place, while the keeper has not taken it; 0: none.
    pub(crate) candidate: AtomicI32,
    /// Which file that is, by device and inode: the number may be another file's by the time it is looked at.
    pub(crate) candidate_is: [AtomicU64; 2],
    /// The version of the state that a program has understood which is tried out; 0: none has.
    pub(crate) understood: AtomicU32,
    /// The program before this one, until this one serves; 0: none.
    pub(crate) previous: AtomicI32,
    /// What became of the last program that was to take this one's place: one of [`Trial`].
    trial: AtomicU32,
    /// Who has asked for that: a number that the client has chosen.
    pub(crate) trial_of: AtomicU64,
    /// Who has brought the one that is offered.
    pub(crate) offered_by: AtomicU64,
    /// Who goes on while another program is executed in the keeper's place: one of [`Heir`].
    heir: AtomicU32,
    /// The spare keeper that stands by meanwhile, as the program before; 0: none.
    pub(crate) stand_by: AtomicI32,
    /// That one, once it does.
    pub(crate) stands_by: AtomicI32,
    /// When the other program was executed: ns of the monotonic clock.
    pub(crate) executed_at: AtomicU64,
    /// The server's main thread; 0: it has ended, though the process has not. See `sys::stuck`.
    pub(crate) main_thread: AtomicI32,
    /// How many threads of the server wait for answers of the server: see `session::vigil`.
    pub(crate) dropping: AtomicU32,
    /// Not 0: none is to do so any more.
    pub(crate) ends: AtomicU32,
    /// The descriptor of the timer that has the keeper look whether they wait in vain; 0: there is none.
    pub(crate) timer: AtomicI32,
    /// See [`super::convert`].
    pub(crate) oldest: AtomicU32,
    #[cfg(feature = "other-state")]
    pub(crate) later: AtomicU64,
}

/// Who goes on while another program is executed in the keeper's place. The two of them have tables of descriptors of
/// their own from then on, so that only one of them may ever read requests: one exchange of this word decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Heir {
    /// No program is executed.
    None,
    /// It is about to be, or has been, and has read no request.
    Open,
    /// The new program, which reads requests.
    New,
    /// The old one again.
    Old,
}

/// Why a server ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum End {
    /// It does not, or it was killed.
    None,
    /// The connection has ended.
    Over,
    /// It could not begin; the words say why.
    Failed,
    /// What its predecessor left cannot be gone on with; the words say why.
    Unreadable,
    /// Another one is to take its place.
    Restart,
    /// Another program is to take its place.
    Upgrade,
    /// Its keeper has died, and the spare one can look after its own children only.
    KeeperDied,
    /// Another program was asked for and did not serve, and this one was gone back to.
    WentBack,
}

/// What became of a program that was to take this one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Trial {
    /// It has not been decided.
    Open,
    /// It serves.
    Serves,
    /// It could not be executed, or did not end in time when it was tried out.
    DoesNotRun,
    /// It does not understand this state.
    OtherState,
    /// It was executed, did not serve in time, and this program was gone back to.
    DidNotServe,
    /// It does not know the options of this mount.
    OtherOptions,
    /// Nobody can stand by who would go back to this program.
    NobodyStandsBy,
    /// The keeper that tried it out has died.
    BrokenOff,
}

impl Trial {
    const ALL: [Trial; 8] = [
        Trial::Open,
        Trial::Serves,
        Trial::DoesNotRun,
        Trial::OtherState,
        Trial::DidNotServe,
        Trial::OtherOptions,
        Trial::NobodyStandsBy,
        Trial::BrokenOff,
    ];
}

impl End {
    fn of(word: u32) -> End {
        use End::{Failed, KeeperDied, None, Over, Restart, Unreadable, Upgrade, WentBack};
        let all = [
            None, Over, Failed, Unreadable, Restart, Upgrade, KeeperDied, WentBack,
        ];
        all.get(word as usize).copied().unwrap_or(None)
    }
}

impl FirstPage {
    /// True while the process that has made this one, a server, lives and is its keeper.
    pub(crate) fn has_keeper(&self) -> bool {
        let keeper = Pid::from_raw(self.keeper.load(Ordering::Acquire));
        keeper.is_some() && getppid() == keeper
    }

    /// True if the last server died of a fault of its own, not because somebody killed it.
    pub(crate) fn died_of_itself(&self) -> bool {
        let faults = [
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGSEGV,
        ];
        let status = self.status.load(Ordering::Acquire);
        self.ended_by() == End::None && (status < 0 || faults.contains(&status))
    }

    /// Why the server ends.
    pub(crate) fn end(&self) -> End {
        End::of(self.end.load(Ordering::Acquire))
    }

    /// Why the one before it has ended.
    pub(crate) fn ended_by(&self) -> End {
        End::of(self.ended_by.load(Ordering::Acquire))
    }

    /// A server begins.
    pub(crate) fn begin(&self) {
        let before = self.end.swap(End::None as u32, Ordering::AcqRel);
        self.ended_by.store(before, Ordering::Release);
    }

    /// Says why the server ends.
    pub(crate) fn set_end(&self, end: End) {
        self.end.store(end as u32, Ordering::Release);
    }

    /// What became of the last candidate.
    pub(crate) fn trial(&self) -> Trial {
        let word = self.trial.load(Ordering::Acquire) as usize;
        Trial::ALL.get(word).copied().unwrap_or(Trial::Open)
    }

    /// Who goes on.
    pub(crate) fn heir(&self) -> Heir {
        let all = [Heir::None, Heir::Open, Heir::New, Heir::Old];
        let word = self.heir.load(Ordering::Acquire) as usize;
        all.get(word).copied().unwrap_or(Heir::None)
    }

    /// Says who goes on.
    pub(crate) fn set_heir(&self, heir: Heir) {
        self.heir.store(heir as u32, Ordering::Release);
    }

    /// Goes on, if that is open.
    ///
    /// # Errors
    /// It is not open: who goes on.
    pub(crate) fn claim(&self, heir: Heir) -> Result<(), Heir> {
        let (open, taken) = (Heir::Open as u32, heir as u32);
        self.heir
            .compare_exchange(open, taken, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(|_| self.heir())
    }

    /// Says what became of the candidate.
    pub(crate) fn set_trial(&self, trial: Trial) {
        self.trial.store(trial as u32, Ordering::Release);
    }
}
