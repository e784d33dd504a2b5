//! The process that serves is killed, and another one goes on with all locks: a native process finds exactly the same
//! ranges locked, who waits goes on waiting, and each lock ends with what it ended with before.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::DEADLINE;
use crate::agent::{Agent, native_flock};
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, private};
use crate::places::{AGAIN, RDONLY, RDWR, done, ok};

fn kept(env: &Env) -> Etcfs {
    let bases = Bases::new(env, Lower::Tmpfs);
    std::fs::write(bases.local().join("file"), [b' '; 200]).expect("write");
    Etcfs::serve(
        env,
        bases,
        Opts {
            options: vec!["keeper=yes,max_deaths=0".into()],
            ..Opts::default()
        },
    )
}

/// All ranges of a file that a native process finds locked, as F_GETLK says them.
fn locked(rival: &mut Agent, fd: i32) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut asked = vec![(0, i64::MAX)];
    while let Some((first, last)) = asked.pop() {
        let len = if last == i64::MAX {
            0
        } else {
            last - first + 1
        };
        let answer = rival.call(&format!("getlk {fd} w {first} {len}"));
        let answer = answer.expect("F_GETLK");
        let words: Vec<&str> = answer.split(' ').collect();
        if let [_, start, len, _] = words[..] {
            let (start, len): (i64, i64) = (start.parse().unwrap(), len.parse().unwrap());
            let end = if len == 0 { i64::MAX } else { start + len - 1 };
            if start > first {
                asked.push((first, start - 1));
            }
            if end < last {
                asked.push((end + 1, last));
            }
            found.insert(answer);
        }
    }
    found
}

#[test]
fn a_rival_finds_the_same_ranges_locked_after_a_kill() {
    private(DEADLINE, |env| {
        let etcfs = kept(env);
        let file = etcfs.mnt().join("file");
        let mut agents: Vec<Agent> = (0..3).map(|_| Agent::new()).collect();
        let mut rival = Agent::new();
        let below = rival.open(&etcfs.local().join("file"), RDWR);
        let fds: Vec<_> = agents
            .iter_mut()
            .map(|agent| (agent.open(&file, RDWR), agent.open(&file, RDONLY)))
            .collect();
        // Each is what a kill follows: taken, split, converted, joined, given up, by a process and by an open file.
        let steps = [
            (0, "setlk", 0, "w 0 50"),
            (0, "setlk", 0, "u 10 5"),
            (1, "setlk", 1, "r 60 10"),
            (1, "setlk", 0, "w 62 2"),
            (2, "ofd_setlk", 0, "w 100 20"),
            (2, "ofd_setlk", 0, "r 105 5"),
            (0, "setlk", 0, "w 10 5"),
            (2, "setlk", 1, "r 65 5"),
            (1, "setlk", 0, "w 150 0"),
            (0, "setlk", 0, "u 0 20"),
        ];
        for (who, how, which, what) in steps {
            let fd = if which == 0 { fds[who].0 } else { fds[who].1 };
            let answer = agents[who].call(&format!("{how} {fd} {what}"));
            assert_eq!(answer, ok(), "{how} {what}");
            let before = locked(&mut rival, below);
            etcfs.kill_server();
            assert_eq!(locked(&mut rival, below), before, "{how} {what}");
        }
        // What a rival is refused, and is not, is the same as before, too.
        assert_eq!(rival.call(&format!("setlk {below} w 5 3")), ok());
        assert_eq!(rival.call(&format!("setlk {below} r 30 1")), AGAIN);
        // Each lock ends with its owner: a process, a descriptor of it, an open file.
        agents.remove(1).kill();
        while locked(&mut rival, below)
            .iter()
            .any(|range| range.starts_with("w 150"))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        etcfs.kill_server();
        assert_eq!(agents[0].call(&format!("close {}", fds[0].0)), done());
        assert_eq!(agents[1].call(&format!("close {}", fds[2].1)), done());
        assert_eq!(agents[1].call(&format!("close {}", fds[2].0)), done());
        while !locked(&mut rival, below).is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn who_waits_goes_on_waiting_and_is_served_after_kills() {
    private(DEADLINE, |env| {
        let etcfs = kept(env);
        let file = etcfs.mnt().join("file");
        let (mut holder, mut posix, mut flock) = (Agent::new(), Agent::new(), Agent::new());
        let held = holder.open(&file, RDWR);
        let (by_range, whole) = (posix.open(&file, RDWR), flock.open(&file, RDONLY));
        assert_eq!(holder.call(&format!("setlk {held} w 0 10")), ok());
        assert_eq!(
            holder.call(&format!("flock {held} {}", libc::LOCK_EX)),
            done()
        );
        let first = posix.start(&format!("setlkw {by_range} w 5 1"));
        let second = flock.start(&format!("flock {whole} {}", libc::LOCK_EX));
        for _ in 0..3 {
            assert!(posix.waits(first) && flock.waits(second));
            etcfs.kill_server();
        }
        let below = std::fs::File::open(etcfs.local().join("file")).expect("open");
        let refused = native_flock(&below, libc::LOCK_SH | libc::LOCK_NB);
        assert_eq!(refused, Err(rustix::io::Errno::AGAIN));
        assert_eq!(holder.call(&format!("setlk {held} u 0 0")), ok());
        assert_eq!(posix.answer(first), ok());
        assert!(flock.waits(second));
        etcfs.kill_server();
        assert_eq!(holder.call(&format!("close {held}")), done());
        assert_eq!(flock.answer(second), done());
        // A ring of two is found by a server that has seen neither of them begin to wait.
        let mut other = Agent::new();
        let fd = other.open(&file, RDWR);
        assert_eq!(other.call(&format!("setlk {fd} w 50 1")), ok());
        let waits = posix.start(&format!("setlkw {by_range} w 50 1"));
        assert!(posix.waits(waits));
        etcfs.kill_server();
        let closes = other.call(&format!("setlkw {fd} w 5 1"));
        assert_eq!(closes, Err(rustix::io::Errno::DEADLK));
        other.kill();
        assert_eq!(posix.answer(waits), ok());
    });
}

#[test]
fn the_end_of_a_process_is_noticed_whoever_serves() {
    private(DEADLINE, |env| {
        let etcfs = kept(env);
        let file = etcfs.mnt().join("file");
        let mut rival = Agent::new();
        let below = rival.open(&etcfs.local().join("file"), RDWR);
        let mut reader = Agent::new();
        // An open for reading has no FLUSH, and somebody else keeps the open file: nothing but the end of the process says
        // that its locks go.
        let fd = reader.open(&file, RDONLY);
        let heir = reader.call(&format!("inherit {fd}")).expect("a child");
        assert_eq!(reader.call(&format!("setlk {fd} r 0 10")), ok());
        etcfs.kill_server();
        assert_eq!(locked(&mut rival, below).len(), 1);
        reader.kill();
        while !locked(&mut rival, below).is_empty() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let heir = heir.parse().ok().and_then(Pid::from_raw).expect("a pid");
        let _ = kill_process(heir, Signal::KILL);
    });
}

/// Counters that processes share under locks, while servers are killed: every process has its turn alone.
fn counted(how: &'static str) {
    private(DEADLINE, move |env| {
        let etcfs = kept(env);
        let counter = etcfs.mnt().join("file");
        let path: &Path = &counter;
        std::fs::write(path, "       0").expect("write");
        let mut agents: Vec<Agent> = (0..4).map(|_| Agent::new()).collect();
        const TIMES: usize = 150;
        let call = format!("count {how} {TIMES} {}", path.display());
        let started: Vec<_> = agents.iter_mut().map(|agent| agent.start(&call)).collect();
        let mut kills = 0;
        for (agent, started) in agents.iter_mut().zip(started) {
            while agent
                .answer_within(started, Duration::from_millis(30))
                .is_none()
            {
                etcfs.kill_server();
                kills += 1;
            }
        }
        let text = std::fs::read_to_string(path).expect("read");
        assert_eq!(text.trim(), (4 * TIMES).to_string(), "{how}, {kills} kills");
        assert!(kills > 0);
    });
}

#[test]
fn nobody_gets_between_while_servers_are_killed_posix() {
    counted("posix");
}

#[test]
fn nobody_gets_between_while_servers_are_killed_flock() {
    counted("flock");
}
