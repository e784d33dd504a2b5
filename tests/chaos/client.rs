//! A client: a process of its own, that knows what must lie in its own directories and looks whether it does.

use crate::acts::ACTS;
use crate::harness::{Rng, User, as_user, fnv};
use crate::held::Held;
use crate::times::Times;
use crate::{Places, user_of};
use rustix::io::Errno;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One goes on no longer after so many failures.
const ENOUGH: usize = 5;

/// What a client knows and has seen.
pub struct Client {
    pub number: u32,
    /// The mount point.
    pub mnt: PathBuf,
    pub at: Places,
    pub rng: Rng,
    /// What lies in each of its two directories.
    pub files: [BTreeMap<String, Vec<u8>>; 2],
    /// How many of its lines are in the log of all, and how often it has counted.
    pub lines: u32,
    pub counted: [u32; 3],
    pub times: Times,
    failures: Vec<String>,
}

/// An act fails with what was wrong.
pub type Act = fn(&mut Client) -> Result<(), String>;

impl Client {
    /// Makes a system call that must not fail.
    pub fn call<T>(
        &mut self,
        name: &str,
        call: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, String> {
        let began = Instant::now();
        let done = call();
        let error = done.as_ref().err().map(|errno| (*errno).into());
        self.times.add(name, began.elapsed(), error);
        done.map_err(|errno| format!("{name}: {errno} ({errno:?})"))
    }

    /// One of its directories, 0 or 1, and one of its files there, if there is any.
    pub fn any(&mut self) -> Option<(usize, String)> {
        let side = self.rng.below(2) as usize;
        let count = self.files[side].len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.rng.below(count) as usize;
        self.files[side]
            .keys()
            .nth(at)
            .map(|name| (side, name.clone()))
    }
}

/// A client's process.
pub struct Started(Pid);

impl Started {
    /// True if it has ended, which it must have done in good order.
    pub fn has_ended(&mut self) -> bool {
        let ended = waitpid(Some(self.0), WaitOptions::NOHANG).expect("wait for a client");
        ended.is_some_and(|(_, status)| {
            assert_eq!(status.exit_status(), Some(0), "a client: {status:?}");
            true
        })
    }
}

/// Starts client `number`, which works until `end` and writes what it knows to a file in `results`.
pub fn start(number: u32, mnt: PathBuf, at: Places, results: &Path, end: Instant) -> Started {
    #[allow(unsafe_code)]
    // SAFETY: the child goes on in this thread alone, takes no lock that another thread may have held (the C library looks
    // after its own), and leaves without unwinding into what its parent has on the stack.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let worked = std::panic::catch_unwind(|| {
            as_user(&User::plain(user_of(number)), || {
                let mut client = Client {
                    number,
                    mnt,
                    at,
                    rng: Rng::new(u64::from(number) + 1),
                    files: Default::default(),
                    lines: 0,
                    counted: [0; 3],
                    times: Times::default(),
                    failures: Vec::new(),
                };
                client.work(end);
                fs::write(results.join(number.to_string()), client.told()).expect("write");
            });
        });
        #[allow(unsafe_code)]
        // SAFETY: ends the child without running what its parent has registered.
        unsafe {
            libc::_exit(i32::from(worked.is_err()))
        };
    }
    Started(Pid::from_raw(pid).filter(|_| pid > 0).expect("fork"))
}

impl Client {
    fn work(&mut self, end: Instant) {
        let mut held = match Held::new(self) {
            Ok(held) => held,
            Err(why) => return self.fail("what is held open", &why),
        };
        let shares: u64 = ACTS.iter().map(|(_, share, _)| share).sum();
        while Instant::now() < end && self.failures.len() < ENOUGH {
            let mut chance = self.rng.below(shares);
            let act = ACTS.iter().find(|(_, share, _)| {
                let found = chance < *share;
                chance = chance.saturating_sub(*share);
                found
            });
            let (name, _, act) = act.expect("one of them");
            if let Err(why) = act(self) {
                self.fail(name, &why);
            }
            if self.rng.one_in(8) {
                if let Err(why) = held.look(self) {
                    self.fail("what is held open", &why);
                }
            }
            // Eight that never wait would leave servers no time to come up where there are two processors.
            std::thread::sleep(Duration::from_micros(self.rng.below(2000)));
        }
    }

    fn fail(&mut self, what: &str, why: &str) {
        let (number, user) = (self.number, user_of(self.number));
        self.failures
            .push(format!("client {number} (uid {user}), {what}: {why}"));
    }

    /// As text: failures, files and counts, then the times.
    fn told(&self) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            text += &format!("failure\t{}\n", failure.replace('\n', " "));
        }
        for (side, files) in self.files.iter().enumerate() {
            for (name, content) in files {
                text += &format!("file\t{side}\t{name}\t{}\n", fnv(content));
            }
        }
        let [a, b, c] = self.counted;
        text + &format!("counts\t{}\t{a}\t{b}\t{c}\n\n", self.lines) + &self.times.write()
    }
}

/// What a client has told at its end.
pub struct Told {
    pub failures: Vec<String>,
    pub times: Times,
    pub lines: u32,
    pub counted: [u32; 3],
    files: [BTreeMap<String, u64>; 2],
}

/// Reads what client `number` has told.
pub fn told(results: &Path, number: u32) -> Told {
    let text = fs::read_to_string(results.join(number.to_string()));
    let text = text.unwrap_or_else(|e| panic!("client {number} told nothing: {e}"));
    let (facts, times) = text.split_once("\n\n").expect("facts, then times");
    let mut told = Told {
        failures: Vec::new(),
        times: Times::read(times),
        lines: 0,
        counted: [0; 3],
        files: Default::default(),
    };
    let of = |text: &str| text.parse::<u64>().expect("a number");
    for line in facts.lines() {
        let fields: Vec<_> = line.split('\t').collect();
        match fields[0] {
            "failure" => told.failures.push(fields[1].to_owned()),
            "file" => {
                told.files[of(fields[1]) as usize].insert(fields[2].to_owned(), of(fields[3]));
            }
            _ => {
                told.lines = of(fields[1]) as u32;
                told.counted = [2, 3, 4].map(|at| of(fields[at]) as u32);
            }
        }
    }
    told
}

impl Told {
    /// What lies below of client `number` and is not what it has told.
    pub fn differences(&self, number: u32, below: &Places) -> Vec<String> {
        let mut all = Vec::new();
        for (dir, expected) in below.own.iter().zip(&self.files) {
            let entries = fs::read_dir(dir)
                .expect("list")
                .map(|entry| entry.expect("an entry"));
            let found: BTreeMap<_, _> = entries
                .map(|entry| {
                    let content = fs::read(entry.path()).unwrap_or_default();
                    (
                        entry.file_name().into_string().expect("UTF-8"),
                        fnv(&content),
                    )
                })
                .collect();
            let names: std::collections::BTreeSet<_> =
                found.keys().chain(expected.keys()).collect();
            for name in names {
                if found.get(name) != expected.get(name) {
                    let (is, must) = (found.get(name), expected.get(name));
                    all.push(format!(
                        "{number}: {}/{name} is {is:?} instead of {must:?}",
                        dir.display()
                    ));
                }
            }
        }
        all
    }
}
