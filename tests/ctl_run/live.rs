//! `log` and `trace`, and what they cost nobody.

use super::harness::{Etcfs, Opts, private};
use super::{DEADLINE, arg, command, failure, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, ExitStatus, Stdio};

/// A running `log` or `trace`.
pub(crate) struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    /// Starts it and waits until the daemon knows it.
    pub(crate) fn start(mnt: &Path, args: &[&str]) -> Follower {
        let before = json(&["stats", arg(mnt)])["listeners"]
            .as_u64()
            .expect("a number");
        let mut child = command(args)
            .arg(mnt)
            .stdout(Stdio::piped())
            .spawn()
            .expect("start");
        let out = child.stdout.take().expect("stdout is piped");
        while json(&["stats", arg(mnt)])["listeners"].as_u64() == Some(before) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        Follower {
            child,
            lines: BufReader::new(out).lines(),
        }
    }

    pub(crate) fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("wait")
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_line_names_process_path_result_and_side() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        fs::create_dir(mnt.join("dir")).expect("mkdir");
        let mut log = Follower::start(&mnt, &["log", "--op", "UNLINK,RENAME2,RENAME,MKDIR"]);
        fs::write(mnt.join("dir/old"), "x").expect("write");
        fs::rename(mnt.join("dir/old"), mnt.join("dir/new")).expect("rename");
        fs::remove_file(mnt.join("dir/new")).expect("unlink");
        fs::create_dir(mnt.join("dir")).expect_err("it exists");
        let at = mnt.display();
        let rename = log.line();
        assert!(
            rename.contains(&format!("{at}/dir/old -> {at}/dir/new")),
            "{rename}"
        );
        let unlink = log.line();
        let pid = rustix::thread::gettid().as_raw_nonzero();
        assert!(
            unlink.contains(&format!("[{pid}] uid=0 UNLINK {at}/dir/new")),
            "{unlink}"
        );
        assert!(
            unlink.contains(" = ok <") && unlink.ends_with(" local"),
            "{unlink}"
        );
    });
}

#[test]
fn filters_leave_out_what_was_not_asked_for() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        fs::create_dir(mnt.join("in")).expect("mkdir");
        fs::create_dir(mnt.join("inside")).expect("mkdir");
        let below = arg(&mnt.join("in")).to_owned();
        let mut log = Follower::start(
            &mnt,
            &["--json", "log", "--path", &below, "--errno", "ENOENT"],
        );
        let _ = fs::metadata(mnt.join("missing"));
        let _ = fs::metadata(mnt.join("inside/missing"));
        fs::write(mnt.join("in/there"), "x").expect("write");
        let _ = fs::metadata(mnt.join("in/there"));
        let _ = fs::metadata(mnt.join("in/missing"));
        // The file is looked up before it is made.
        for name in ["in/there", "in/missing"] {
            let record: serde_json::Value = serde_json::from_str(&log.line()).expect("JSON");
            assert_eq!(record["path"], arg(&mnt.join(name)), "{record}");
            assert_eq!(record["result"], "ENOENT");
            assert_eq!(record["op"], "LOOKUP");
        }
    });
}

#[test]
fn trace_shows_both_sides_of_the_wire() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        let mut trace = Follower::start(&mnt, &["trace", "--op", "mkdir"]);
        fs::create_dir(mnt.join("dir")).expect("mkdir");
        assert!(trace.line().ends_with(&format!("{}/dir", mnt.display())));
        let request = trace.line();
        assert!(
            request.contains("-> MKDIR unique=") && request.contains("name=\"dir\""),
            "{request}"
        );
        let answer = trace.line();
        assert!(
            answer.contains("<- MKDIR unique=") && answer.contains(" ok nodeid="),
            "{answer}"
        );
    });
}

#[test]
fn a_listener_that_goes_away_is_forgotten() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        drop(Follower::start(&mnt, &["log"]));
        while json(&["stats", arg(&mnt)])["listeners"] != 0 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        fs::create_dir(mnt.join("dir")).expect("the mount works");
    });
}

#[test]
fn a_listener_that_does_not_read_stops_nobody_and_learns_what_it_missed() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        let mut log = Follower::start(&mnt, &["--json", "log", "--op", "LOOKUP"]);
        let pid = rustix::process::Pid::from_child(&log.child);
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stop");
        for _ in 0..5000 {
            let _ = fs::metadata(mnt.join("missing"));
        }
        rustix::process::kill_process(pid, rustix::process::Signal::CONT).expect("go on");
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            loop {
                let record: serde_json::Value = serde_json::from_str(&log.line()).expect("JSON");
                seen += 1;
                let lost = record["lost"].as_u64().expect("a number");
                if lost > 0 {
                    return (seen, lost);
                }
            }
        });
        while !reader.is_finished() {
            let _ = fs::metadata(mnt.join("missing"));
        }
        let (seen, lost) = reader.join().expect("the reader");
        assert!(seen > 1 && lost > 100, "seen {seen}, lost {lost}");
    });
}

#[test]
fn an_unknown_request_or_error_is_refused_in_words() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        assert!(failure(&["log", "--op", "DANCE", arg(&mnt)]).contains("no request called DANCE"));
        assert!(
            failure(&["log", "--errno", "EDANCE", arg(&mnt)]).contains("EDANCE: no such error")
        );
    });
}
