//! `etcfsctl record`, `decode` and `replay` from one end to the other, and what Wireshark makes of a recording.

#[path = "../harness/mod.rs"]
mod harness;
mod restarts;
mod rules;
mod wireshark;

use harness::{Env, Etcfs, Opts, private};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);
const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/storm.etcfsrec");

fn etcfsctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    etcfsctl(args).output().expect("etcfsctl runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Records `body` at work with the arguments given; what etcfsctl said at the end.
fn record(etcfs: &Etcfs, file: &Path, args: &[&str], body: impl FnOnce()) -> String {
    let mnt = etcfs.mnt();
    let mut all = vec!["record"];
    all.extend(args);
    all.extend([file.to_str(), mnt.to_str()].map(|path| path.expect("UTF-8")));
    let child = etcfsctl(&all)
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcfsctl runs");
    let ring = args.contains(&"--ring");
    wait_until(|| fs::metadata(file).is_ok_and(|meta| meta.len() > if ring { 31 } else { 32 }));
    body();
    end(child)
}

fn end(child: Child) -> String {
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("etcfsctl is there");
    let output = child.wait_with_output().expect("etcfsctl ends");
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    said
}

fn wait_until(condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < end, "nothing happens");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn serve(env: &Env) -> Etcfs {
    let etcfs = Etcfs::start(env, Opts::default());
    fs::write(etcfs.local().join("passwd"), "root:x:0:0").expect("write below");
    etcfs
}

fn use_it(etcfs: &Etcfs) {
    let mnt = etcfs.mnt();
    assert_eq!(fs::read(mnt.join("passwd")).expect("read"), b"root:x:0:0");
    assert!(fs::metadata(mnt.join("no-such-name")).is_err());
    fs::write(mnt.join("new.conf"), "top secret").expect("write");
    fs::rename(mnt.join("new.conf"), mnt.join("final.conf")).expect("rename");
    assert!(fs::read_dir(&mnt).expect("list").count() >= 3);
}

/// What a replay says that finds nothing wrong.
fn replayed_well(file: &Path) -> String {
    let replayed = output(&["replay", str(file)]);
    let told = text(&replayed.stdout);
    assert!(
        replayed.status.success(),
        "{told}{}",
        text(&replayed.stderr)
    );
    told
}

/// What comes of a replay.
fn replay(args: &[&str]) -> Value {
    let replayed = output(&[&["--json", "replay"], args].concat());
    serde_json::from_slice(&replayed.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&replayed.stderr)))
}

fn path(env: &Env, name: &str) -> PathBuf {
    env.scratch().join(name)
}

fn str(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn what_is_recorded_can_be_read_and_carried_out_again() {
    private(DEADLINE, |env| {
        let etcfs = serve(env);
        let file = path(env, "a.etcfsrec");
        let said = record(&etcfs, &file, &[], || use_it(&etcfs));
        assert!(said.contains(" records"), "{said}");

        let decoded = output(&["decode", str(&file)]);
        let told = text(&decoded.stdout);
        assert!(decoded.status.success(), "{told}{}", text(&decoded.stderr));
        assert!(told.starts_with("recording begun at "), "{told}");
        assert!(
            told.contains(", without contents, names as they were\n"),
            "{told}"
        );
        assert!(told.contains("< agreed: INIT unique=1 ok "), "{told}");
        assert!(told.contains("name=\"no-such-name\"\n"), "{told}");
        assert!(told.contains(" error=ENOENT(2) <"), "{told}");
        assert!(told.contains("(10 bytes left out)"), "{told}");
        assert!(!told.contains("top secret"), "{told}");
        assert!(told.ends_with(" records, 0 faults\n"), "{told}");

        let json = output(&["--json", "decode", str(&file)]);
        let lines: Vec<Value> = text(&json.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect();
        assert_eq!(lines[0]["kind"], "init");
        let missing = lines
            .iter()
            .find(|line| line["errno"] == 2)
            .expect("ENOENT");
        assert_eq!(missing["opcode"], "LOOKUP");
        assert!(missing["latency_ns"].as_u64() > Some(0));

        let told = replayed_well(&file);
        assert!(told.contains(", 0 answered differently, "), "{told}");

        // The tree as it is by now has what the recording has yet to make.
        let local = etcfs.local();
        let replayed = output(&["--json", "replay", "--against", str(&local), str(&file)]);
        let report: Value = serde_json::from_slice(&replayed.stdout).expect("JSON");
        assert_eq!(
            replayed.status.code(),
            Some(i32::from(report["differing"] != 0)),
            "{report}"
        );
        assert!(
            report["ops"]["RENAME"]["count"].as_u64() > Some(0),
            "{report}"
        );
        // So does a copy of what the mount shows.
        let mnt = etcfs.mnt();
        let of_mount = output(&["--json", "replay", "--mount", str(&mnt), str(&file)]);
        let same: Value = serde_json::from_slice(&of_mount.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&of_mount.stderr)));
        assert_eq!(same["differences"], report["differences"]);
        assert_eq!(
            fs::read(local.join("final.conf")).expect("read"),
            b"top secret"
        );
        assert!(
            !local.join("new.conf").exists(),
            "the copy is changed, not the tree"
        );
    });
}

#[test]
fn names_are_hidden_and_contents_kept_only_when_asked() {
    private(DEADLINE, |env| {
        let etcfs = serve(env);
        let hidden = path(env, "hidden.etcfsrec");
        record(&etcfs, &hidden, &["--redact"], || use_it(&etcfs));
        let bytes = fs::read(&hidden).expect("the recording");
        for word in ["passwd", "no-such-name", "final", "secret"] {
            assert!(
                !bytes.windows(word.len()).any(|at| at == word.as_bytes()),
                "{word}"
            );
        }
        assert!(
            bytes.windows(6).any(|at| at == b".conf\0"),
            "the extension stays"
        );
        let replayed = output(&["replay", str(&hidden)]);
        assert!(replayed.status.success(), "{}", text(&replayed.stdout));

        let whole = path(env, "whole.etcfsrec");
        record(&etcfs, &whole, &["--data"], || use_it(&etcfs));
        let bytes = fs::read(&whole).expect("the recording");
        assert!(bytes.windows(10).any(|at| at == b"top secret"));
        assert!(bytes.windows(10).any(|at| at == b"root:x:0:0"));
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(&whole).expect("the recording").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    });
}

#[test]
fn a_ring_keeps_the_latest_records() {
    private(DEADLINE, |env| {
        let etcfs = serve(env);
        let file = path(env, "ring.etcfsrec");
        let said = record(&etcfs, &file, &["--ring", "2K"], || {
            for _ in 0..50 {
                use_it(&etcfs);
            }
            fs::metadata(etcfs.mnt().join("passwd")).expect("the last stat");
        });
        assert!(
            said.contains(" older ones did not fit into the ring"),
            "{said}"
        );
        assert!(fs::metadata(&file).expect("the ring").len() < 2048 + 200);
        let told = text(&output(&["decode", str(&file)]).stdout);
        assert!(told.contains("name=\"passwd\""), "{told}");
    });
}

#[test]
fn what_cannot_be_recorded_or_read_is_told_with_the_reason() {
    private(DEADLINE, |env| {
        let etcfs = serve(env);
        let mnt = etcfs.mnt();
        let refused = |args: &[&str], word: &str| {
            let output = output(args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(word), "{said}");
        };
        let file = path(env, "x.etcfsrec");
        let on_the_mount = mnt.join("x.etcfsrec");
        refused(
            &["record", str(&on_the_mount), str(&mnt)],
            "on the mount that it records",
        );
        refused(
            &["record", "--data", "--redact", str(&file), str(&mnt)],
            "--redact hides names only",
        );
        refused(
            &["record", "--ring", "many", str(&file), str(&mnt)],
            "a number of bytes",
        );
        assert!(!file.exists() && !on_the_mount.exists());
        fs::write(&file, "no recording at all").expect("write");
        refused(
            &["decode", str(&file)],
            "no recording; etcfsctl record makes one",
        );
        refused(
            &["replay", str(&file)],
            "no recording; etcfsctl record makes one",
        );
        refused(&["decode", "/no/such/file"], "/no/such/file");
        let no_mount = env.dir("no-mount");
        refused(&["replay", "--mount", str(&no_mount), STORM], "no-mount");
        let both = ["replay", "--mount", str(&mnt), "--against", "/x", STORM];
        refused(&both, "exclude each other");
    });
}

#[test]
fn faults_of_a_conversation_end_decode_with_1() {
    let dir = std::env::temp_dir().join(format!("etcfs-faults-{}", std::process::id()));
    fs::create_dir(&dir).expect("a scratch directory");
    let storm = fs::read(STORM).expect("tests/data/storm.etcfsrec");
    // The file ends within a record; the request before it has no answer then.
    let file = dir.join("cut.etcfsrec");
    fs::write(&file, &storm[..storm.len() / 2]).expect("write");
    let decoded = output(&["decode", str(&file)]);
    fs::remove_dir_all(&dir).expect("cleaning up");
    let told = text(&decoded.stdout);
    let end: Vec<_> = told.lines().rev().take(20).collect();
    assert!(
        told.contains("note: the recording ends within the record at byte "),
        "{end:?}"
    );
    let faults = told
        .lines()
        .filter(|line| line.starts_with("FAULT: "))
        .count();
    assert_eq!(
        decoded.status.code(),
        Some(i32::from(faults > 0)),
        "{end:?}"
    );
    assert!(
        told.ends_with(&format!(" records, {faults} faults\n")),
        "{end:?}"
    );
}
