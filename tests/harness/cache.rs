//! What the kernel keeps (`cache=watch`), for tests that have to know.

use std::fs;
use std::time::{Duration, Instant};

use super::{Etcfs, Opts};

/// How long a change beneath may take to be seen.
const SEEN: Duration = Duration::from_secs(20);

impl Opts {
    /// A daemon that has the kernel keep nothing, whatever `ETCFS_CACHE` says: for tests that count requests, or look at once at
    /// what was changed beneath.
    pub fn strict() -> Self {
        Self {
            options: vec!["cache=strict".to_owned()],
            ..Self::default()
        }
    }
}

impl Etcfs {
    /// Waits until what was changed beneath is seen by whoever asks. The events of changes come one after another, so what is
    /// changed last is seen last. Nothing is done where nothing is kept.
    pub fn settle(&self) {
        if std::env::var_os("ETCFS_CACHE").is_none_or(|mode| mode != *"watch") {
            return;
        }
        let (above, below) = (self.mnt().join(".settles"), self.local().join(".settles"));
        let until = Instant::now() + SEEN;
        for there in [true, false] {
            let _ = fs::metadata(&above);
            match there {
                true => drop(fs::write(&below, "")),
                false => drop(fs::remove_file(&below)),
            }
            while above.exists() != there {
                assert!(Instant::now() < until, "a change beneath is not seen");
            }
        }
    }
}
