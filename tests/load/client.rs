//! A client: a process of its own, as one of the users, that does what programs do in /etc, over and over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};

use crate::harness::{Rng, User, as_user};
use crate::times::Times;
use crate::{DIRS, USERS};

/// Whose client number `n` is.
pub fn user(n: u32) -> u32 {
    1000 + n % USERS
}

/// A client's process.
pub struct Client(Pid);

impl Client {
    /// True if it has ended, which it must have done in good order.
    pub fn has_ended(&mut self) -> bool {
        let ended = waitpid(Some(self.0), WaitOptions::NOHANG).expect("wait for a client");
        ended.is_some_and(|(_, status)| {
            assert_eq!(status.exit_status(), Some(0), "a client: {status:?}");
            true
        })
    }
}

/// Starts client `n`, which works for a while and writes its times to a file `n` in `results`.
pub fn start(n: u32, mnt: &Path, results: &Path, files: usize, time: Duration) -> Client {
    #[allow(unsafe_code)]
    // SAFETY: the child goes on in this thread alone, takes no lock that another thread may have held (the C library looks
    // after its own), and leaves without unwinding into what its parent has on the stack.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let worked = std::panic::catch_unwind(|| {
            let times = as_user(&User::plain(user(n)), || work(n, mnt, files, time));
            fs::write(results.join(n.to_string()), times.write()).expect("write the times");
        });
        #[allow(unsafe_code)]
        // SAFETY: ends the child without running what its parent has registered.
        unsafe {
            libc::_exit(i32::from(worked.is_err()))
        };
    }
    Client(Pid::from_raw(pid).filter(|_| pid > 0).expect("fork"))
}

/// What a client does, with the chance of each in a hundred.
const ACTS: [(&str, u64); 6] = [
    ("stat", 55),
    ("read", 25),
    ("replace", 6),
    ("append", 6),
    ("list", 4),
    ("missing", 4),
];

fn work(n: u32, mnt: &Path, files: usize, time: Duration) -> Times {
    let mut rng = Rng::new(u64::from(n) + 1);
    let mut times = Times::default();
    let own = mnt.join(format!("own-{n}"));
    let end = Instant::now() + time;
    let mut round = 0_u64;
    while Instant::now() < end {
        round += 1;
        let mut chance = rng.below(100);
        let (act, _) = ACTS
            .iter()
            .find(|(_, share)| {
                let found = chance < *share;
                chance = chance.saturating_sub(*share);
                found
            })
            .expect("they are a hundred in all");
        let dir = mnt.join(format!("shared-{}", rng.below(DIRS as u64)));
        let file = dir.join(format!("file-{}", rng.below(files as u64)));
        let began = Instant::now();
        let done = match *act {
            "stat" => file.metadata().map(drop),
            "read" => read(&file),
            "replace" => replace(&own, round % 10),
            "append" => append(&own.join("log")),
            "list" => list(&dir, files),
            _ => missing(&dir.join("missing")),
        };
        times.add(act, began.elapsed(), done.err());
    }
    times
}

fn read(file: &Path) -> io::Result<()> {
    let mut text = String::new();
    File::open(file)?.read_to_string(&mut text)?;
    match text.as_str() {
        "" | "text" => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn replace(own: &Path, n: u64) -> io::Result<()> {
    let (new, name): (PathBuf, PathBuf) = (own.join("new"), own.join(format!("file-{n}")));
    fs::write(&new, "replaced")?;
    fs::rename(&new, &name)?;
    match fs::read(&name)?.as_slice() {
        b"replaced" => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn append(log: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(log)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
    file.write_all(b"a line of text\n")?;
    if file.metadata()?.len() > 64 * 1024 {
        file.set_len(0)?;
    }
    Ok(())
}

fn list(dir: &Path, files: usize) -> io::Result<()> {
    let mut count = 0;
    for entry in fs::read_dir(dir)? {
        entry?;
        count += 1;
    }
    match count == files {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn missing(file: &Path) -> io::Result<()> {
    match file.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}
