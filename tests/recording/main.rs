//! `etcfsctl record`, `decode` and `replay` from one end to the other, and what Wireshark makes of a recording.

mod harness;

use etcfs_proto::op::SHAPES;
use harness::{Env, Etcfs, Opts, private};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);
const STORM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/storm.etcfsrec");
const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/etcfs-fuse.lua");

fn etcfsctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etcfsctl"));
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

        let replayed = output(&["replay", str(&file)]);
        let told = text(&replayed.stdout);
        assert!(
            replayed.status.success(),
            "{told}{}",
            text(&replayed.stderr)
        );
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

/// A stratum with every kind of rule.
fn configured(env: &Env) -> Etcfs {
    let source = path(env, "injection");
    fs::write(&source, "injected line\n").expect("write");
    let etcfs = Etcfs::start(env, Opts::default());
    let (local, global) = (etcfs.local(), etcfs.global());
    for dir in [
        local.join("default"),
        global.join("default"),
        global.join("shared"),
    ] {
        fs::create_dir(dir).expect("mkdir");
    }
    for (file, text) in [
        (local.join("passwd"), "root:x:0:0"),
        (local.join("profile"), "PATH=/bin\n"),
        (local.join("later"), "the stratum's own"),
        (global.join("hosts"), "127.0.0.1 localhost"),
        (global.join("default/grub"), "GRUB_DEFAULT=0"),
        (global.join("shared/one"), "1"),
        (global.join("later"), "everybody's, and longer"),
    ] {
        fs::write(file, text).expect("write below");
    }
    let inject = format!("add_override inject /profile {}", str(&source));
    let lines = [
        "add_global /hosts",
        "add_global /default/grub",
        "add_global /shared",
        "add_override symlink /localtime /usr/share/zoneinfo/UTC",
        "add_override directory /made x",
        &inject,
    ];
    etcfs.write_config(&lines).expect("configure");
    etcfs
}

fn use_what_is_configured(etcfs: &Etcfs) {
    let mnt = etcfs.mnt();
    let read = |name: &str| fs::read_to_string(mnt.join(name)).expect("read");
    assert_eq!(read("hosts"), "127.0.0.1 localhost");
    assert_eq!(read("default/grub"), "GRUB_DEFAULT=0");
    assert_eq!(read("profile"), "PATH=/bin\ninjected line\n");
    assert_eq!(read("later"), "the stratum's own");
    let zone = fs::read_link(mnt.join("localtime")).expect("readlink");
    assert_eq!(zone, Path::new("/usr/share/zoneinfo/UTC"));
    for dir in [mnt.clone(), mnt.join("shared"), mnt.join("made")] {
        fs::read_dir(dir).expect("list").count();
    }
    fs::write(mnt.join("shared/two"), "22").expect("write");
    // What passwd(1) and editors do: a local temporary file over a global name.
    fs::write(mnt.join("hosts.new"), "::1 localhost").expect("write");
    fs::rename(mnt.join("hosts.new"), mnt.join("hosts")).expect("rename");
    assert_eq!(read("hosts"), "::1 localhost");
    // The rules change in the middle.
    let lines = ["add_global /later", "rm_override /localtime"];
    etcfs.write_config(&lines).expect("configure");
    assert_eq!(read("later"), "everybody's, and longer");
    fs::remove_file(mnt.join("localtime")).expect("unlink");
    assert!(!mnt.join("localtime").exists());
}

#[test]
fn a_recording_is_carried_out_under_the_rules_that_it_was_made_under() {
    private(DEADLINE, |env| {
        let etcfs = configured(env);
        let file = path(env, "a.etcfsrec");
        // The two sides as they were at the beginning.
        let (local, global) = (path(env, "local"), path(env, "global"));
        for (from, to) in [(etcfs.local(), &local), (etcfs.global(), &global)] {
            let copied = Command::new("cp").arg("-a").args([&from, to]).status();
            assert!(copied.expect("cp").success());
        }
        record(&etcfs, &file, &[], || use_what_is_configured(&etcfs));
        let decoded = text(&output(&["decode", str(&file)]).stdout);
        assert!(
            decoded.contains("= rules: add_global /hosts; add_global /default/grub; "),
            "{decoded}"
        );
        assert!(decoded.contains("; source 14 /"), "{decoded}");
        // Elsewhere there is no such file.
        fs::remove_file(path(env, "injection")).expect("remove");
        let report = replay(&[str(&file)]);
        assert_eq!(report["differing"], 0, "{report:#}");
        assert_eq!(report["left_out"], serde_json::json!({}), "{report:#}");
        let report = replay(&[
            "--against",
            str(&local),
            "--global",
            str(&global),
            str(&file),
        ]);
        assert_eq!(report["differing"], 0, "{report:#}");
    });
}

#[test]
fn rules_are_carried_out_with_hidden_names_too() {
    private(DEADLINE, |env| {
        let etcfs = configured(env);
        let file = path(env, "hidden.etcfsrec");
        record(&etcfs, &file, &["--redact"], || {
            use_what_is_configured(&etcfs)
        });
        let bytes = fs::read(&file).expect("the recording");
        for word in ["hosts", "localtime", "injection", "zoneinfo"] {
            let found = bytes.windows(word.len()).any(|at| at == word.as_bytes());
            assert!(!found, "{word}");
        }
        let report = replay(&[str(&file)]);
        assert_eq!(report["differing"], 0, "{report:#}");
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
        refused(&["decode", str(&file)], "no recording of etcfsctl");
        refused(&["replay", str(&file)], "no recording of etcfsctl");
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

fn tshark(args: &[&str], file: &Path) -> String {
    let dissector = format!("lua_script:{DISSECTOR}");
    let output = Command::new("tshark")
        .args(["-X", &dissector, "-r", str(file)])
        .args(args)
        .output()
        .expect("tshark runs (scripts/setup test installs it)");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn wireshark_reads_a_recording() {
    let dir = std::env::temp_dir().join(format!("etcfs-pcapng-{}", std::process::id()));
    fs::create_dir(&dir).expect("a scratch directory");
    let file = dir.join("storm.pcapng");
    let written = output(&["decode", "--pcapng", str(&file), STORM]);
    assert!(written.status.success(), "{}", text(&written.stderr));
    let count = |filter: &str| {
        tshark(&["-Y", filter, "-T", "fields", "-e", "frame.number"], &file)
            .lines()
            .count()
    };
    let told = text(&output(&["--json", "decode", STORM]).stdout);
    let lines: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .filter(|line: &Value| line["kind"].is_string())
        .collect();
    let same = |kind: &str, opcode: &str| {
        let of = |line: &&Value| line["kind"] == kind && line["opcode"] == opcode;
        lines.iter().filter(of).count()
    };
    assert_eq!(
        count("etcfs"),
        lines.len(),
        "every record is a packet that is understood"
    );
    assert_eq!(count("_ws.malformed or _ws.lua.error"), 0);
    assert_eq!(
        count("etcfs.kind == 2 and etcfs.opcode == 5"),
        same("request", "READLINK")
    );
    let failed = lines.iter().filter(|line| line["errno"] == 2).count();
    assert_eq!(count("etcfs.error == -2"), failed);
    assert_eq!(count("etcfs.kind == 3 and not etcfs.asked_in"), 0);
    assert!(count("etcfs.name == \"systemd\"") > 100);
    let info = tshark(&["-T", "fields", "-e", "_ws.col.Info"], &file);
    assert!(info.starts_with("INIT INIT ok\n"), "{info}");
    assert!(
        info.contains("\nLOOKUP request systemd\nLOOKUP answer ok\n"),
        "{info}"
    );
    fs::remove_dir_all(&dir).expect("cleaning up");
}

#[test]
fn the_dissector_knows_every_opcode_as_the_wire_crate_does() {
    let lua = fs::read_to_string(DISSECTOR).expect("scripts/etcfs-fuse.lua");
    for shape in SHAPES {
        let row = format!(
            "[{}] = {{ \"{}\", {}, ",
            shape.opcode.0, shape.name, shape.args
        );
        assert!(lua.contains(&row), "{row}");
    }
    assert_eq!(lua.matches("] = { \"").count(), SHAPES.len());
}
