//! Clients whom the fault does not concern.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::harness::{User, as_user};

/// A user who works all the time in a directory that is sound.
pub struct Others {
    rounds: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Others {
    /// Begins in `dir`, which must be everybody's, beneath a mount.
    pub fn start(dir: &Path) -> Others {
        let mut others = Others {
            rounds: Arc::default(),
            failed: Arc::default(),
            over: Arc::default(),
            thread: None,
        };
        let (dir, rounds) = (dir.to_owned(), others.rounds.clone());
        let (failed, over) = (others.failed.clone(), others.over.clone());
        let work = move || {
            as_user(&User::plain(1001), || {
                while !over.load(Ordering::Relaxed) {
                    let round = || {
                        fs::write(dir.join("new"), "content")?;
                        fs::rename(dir.join("new"), dir.join("other"))?;
                        fs::read(dir.join("other"))
                    };
                    let right = round().is_ok_and(|content| content == b"content");
                    failed.fetch_add(u64::from(!right), Ordering::Relaxed);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        };
        others.thread = Some(std::thread::spawn(work));
        others.go_on();
        others
    }

    /// Waits until they have done some more, without a failure.
    pub fn go_on(&self) {
        let (from, until) = (self.rounds(), Instant::now() + Duration::from_secs(60));
        while self.rounds() < from + 5 {
            assert!(Instant::now() < until, "others do not go on");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "others fail");
    }

    fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
