//! `stats`, `which`, `journal`, `doctor` and `check`.

use super::harness::{Bases, Etcfs, Lower, Opts, private};
use super::{DEADLINE, arg, json, run, text};
use std::fs;
use std::time::Duration;

/// A mount with a global file, an override and a local file.
fn opts() -> Opts {
    Opts {
        config: vec![
            "add_global /hosts".to_owned(),
            "add_override symlink /localtime /run/zone".to_owned(),
        ],
        ..Opts::default()
    }
}

fn op<'a>(ops: &'a serde_json::Value, name: &str) -> Option<&'a serde_json::Value> {
    ops.as_array()?.iter().find(|op| op["op"] == name)
}

#[test]
fn stats_count_every_request_and_its_error() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::strict());
        let mnt = etcfs.mnt();
        fs::write(mnt.join("file"), vec![7; 10_000]).expect("write");
        fs::read(mnt.join("file")).expect("read");
        let before = json(&["stats", arg(&mnt)]);
        for _ in 0..25 {
            fs::metadata(mnt.join("missing")).expect_err("nothing is there");
        }
        let stats = json(&["stats", arg(&mnt)]);
        let missing = |stats: &serde_json::Value| {
            op(&stats["ops"], "LOOKUP").map_or(0, |op| op["errors"]["ENOENT"].as_u64().unwrap_or(0))
        };
        assert_eq!(missing(&stats) - missing(&before), 25);
        let read = op(&stats["ops"], "READ").expect("READ was counted");
        assert_eq!(read["bytes_read"], 10_000);
        let write = op(&stats["ops"], "WRITE").expect("WRITE was counted");
        assert_eq!(write["bytes_written"], 10_000);
        let lookup = op(&stats["ops"], "LOOKUP").expect("LOOKUP was counted");
        let us = |key: &str| lookup[key].as_f64().expect("a number");
        assert!(0.0 < us("p50_us") && us("p50_us") <= us("p90_us"));
        assert!(us("p90_us") <= us("p99_us") && us("p99_us") <= us("max_us"));
        assert_eq!(stats["handles"], 0);
        assert_eq!(stats["in_flight"].as_array().map(Vec::len), Some(0));
        let workers = stats["threads"].as_array().expect("threads");
        assert!(
            workers
                .iter()
                .any(|t| t["role"] == "worker" && t["tid"] != 0)
        );
    });
}

#[test]
fn a_reset_begins_a_second_count_and_keeps_the_first() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        fs::read_dir(&mnt).expect("list").count();
        assert!(json(&["stats", arg(&mnt)])["since_reset"].is_null());
        json(&["stats", "--reset", arg(&mnt)]);
        fs::create_dir(mnt.join("dir")).expect("mkdir");
        let stats = json(&["stats", arg(&mnt)]);
        let since = &stats["since_reset"]["ops"];
        assert_eq!(op(since, "MKDIR").expect("MKDIR")["count"], 1);
        assert!(op(since, "OPENDIR").is_none(), "{since}");
        assert!(op(&stats["ops"], "OPENDIR").is_some());
        let people = text(&["stats", arg(&mnt)]);
        assert!(
            people.contains("since the reset") && people.contains("since the start"),
            "{people}"
        );
    });
}

#[test]
fn stats_in_the_format_of_prometheus_have_cumulative_buckets() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        fs::create_dir(mnt.join("dir")).expect("mkdir");
        let page = text(&["stats", "--prometheus", arg(&mnt)]);
        let mut last = 0;
        let mut buckets = 0;
        for line in page
            .lines()
            .filter(|l| l.contains("_bucket{") && l.contains("op=\"MKDIR\""))
        {
            let n: u64 = line
                .rsplit(' ')
                .next()
                .expect("a value")
                .parse()
                .expect("a number");
            assert!(n >= last, "{line}");
            last = n;
            buckets += 1;
        }
        assert!(buckets > 5 && last == 1, "{page}");
        for line in page.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("name and value");
            assert!(name.starts_with("etcfs_"), "{line}");
            value
                .parse::<f64>()
                .unwrap_or_else(|e| panic!("{line}: {e}"));
        }
    });
}

#[test]
fn an_open_file_is_a_handle() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let file = fs::File::create(mnt.join("file")).expect("create");
        assert_eq!(json(&["stats", arg(&mnt)])["handles"], 1);
        let which = json(&["which", arg(&mnt.join("file"))]);
        assert_eq!(which["object"]["handles"], 1);
        drop(file);
    });
}

#[test]
fn which_tells_side_rule_override_and_enforcement() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mnt = etcfs.mnt();
        fs::write(etcfs.global().join("hosts"), "x").expect("write");
        fs::write(etcfs.local().join("passwd"), "x").expect("write");
        fs::read_link(mnt.join("localtime")).expect("the override stands");
        let hosts = json(&["which", arg(&mnt.join("hosts"))]);
        assert_eq!(hosts["side"], "global");
        assert_eq!(hosts["global_rule"], "/hosts");
        assert!(
            hosts["lower"]
                .as_str()
                .expect("a path")
                .ends_with("/global/hosts"),
            "{hosts}"
        );
        assert_eq!(hosts["object"]["kind"], "file");
        let passwd = json(&["which", arg(&mnt.join("passwd"))]);
        assert_eq!(
            (&passwd["side"], &passwd["over"]),
            (&"local".into(), &().into())
        );
        let people = text(&["which", arg(&mnt.join("localtime"))]);
        assert!(
            people.contains("override: a symlink to /run/zone"),
            "{people}"
        );
        assert!(
            people.contains("enforced:") && people.contains("made a symlink to /run/zone"),
            "{people}"
        );
        let missing = text(&["which", "--mount", arg(&mnt), "/no/such"]);
        assert!(missing.contains("nothing is there"), "{missing}");
    });
}

#[test]
fn journal_names_who_undid_and_who_met() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mnt = etcfs.mnt();
        assert!(text(&["journal", arg(&mnt)]).contains("no override has been enforced"));
        fs::read_link(mnt.join("localtime")).expect("the override stands");
        let journal = json(&["journal", arg(&mnt)]);
        assert_eq!(journal["total"], 1);
        let entry = &journal["entries"][0];
        assert_eq!(
            (&entry["path"], &entry["kind"]),
            (&"/localtime".into(), &"symlink".into())
        );
        assert_eq!(entry["found"], "nothing");
        assert!(
            entry["met_by"].as_str().expect("a process").contains('['),
            "{entry}"
        );
        let said = text(&["journal", arg(&mnt)]);
        let line = said.lines().next().expect("a line");
        assert!(line.starts_with("/localtime "), "{line}");
        let rest = "ago, symlink (local): nothing was there, met by ";
        assert!(line.contains(rest), "{line}");
        assert!(line.ends_with("; made a symlink to /run/zone"), "{line}");
    });
}

#[test]
fn journal_says_what_happened_and_what_was_done_about_it() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mnt = etcfs.mnt();
        let shell = |script: &str| {
            let mut shell = std::process::Command::new("/bin/sh");
            shell.current_dir(&mnt).args(["-uc", script]);
            assert!(shell.status().expect("run sh").success(), "{script}");
        };
        let last = || {
            let said = text(&["journal", arg(&mnt)]);
            said.lines().last().expect("a line").to_owned()
        };
        fs::read_link(mnt.join("localtime")).expect("the override stands");
        // An override rests a second after it was applied.
        std::thread::sleep(Duration::from_millis(1100));
        shell("rm localtime");
        fs::read_link(mnt.join("localtime")).expect("the override stands");
        let line = last();
        assert!(line.contains("nothing was there, removed by rm["), "{line}");
        assert!(line.ends_with("; made a symlink to /run/zone"), "{line}");
        std::thread::sleep(Duration::from_millis(1100));
        shell("ln -sf /elsewhere localtime");
        fs::read_link(mnt.join("localtime")).expect("the override stands");
        let line = last();
        let found = "a symlink to /elsewhere was there, made by ln[";
        assert!(line.contains(found), "{line}");
        // The first injection undoes nothing.
        let source = env.scratch().join("text");
        fs::write(&source, "# ours\n").expect("write");
        fs::write(etcfs.local().join("profile"), "a\n").expect("write");
        etcfs
            .write_config(&[format!("add_override inject /profile {}", source.display())])
            .expect("configure");
        assert_eq!(fs::read(mnt.join("profile")).expect("read"), b"a\n# ours\n");
        let line = last();
        let found = format!(
            "inject (local): the text of {} was missing, met by ",
            source.display()
        );
        assert!(line.contains(&found), "{line}");
        assert!(line.ends_with("; put in"), "{line}");
        etcfs
            .write_config(&["rm_override /profile"])
            .expect("configure");
        let line = last();
        let done = "met by a change of the configuration; taken out";
        assert!(line.ends_with(done), "{line}");
        // What cannot be done, with the reason in words.
        fs::create_dir_all(etcfs.local().join("full/file")).expect("mkdir");
        etcfs
            .write_config(&["add_override symlink /full /right"])
            .expect("configure");
        assert!(mnt.join("full").is_dir());
        let line = last();
        assert!(line.contains("a directory was there, met by "), "{line}");
        let why = "; left as it is, for it cannot be made a symlink to /right: Directory not empty";
        assert!(line.ends_with(why), "{line}");
        let said = etcfs.stderr();
        let begin = format!(
            "etcfs: {}/full: a directory was there, met by ",
            mnt.display()
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.starts_with(&begin) && said.trim_end().ends_with(why),
            "{said}"
        );
    });
}

#[test]
fn doctor_finds_an_override_that_cannot_be_enforced() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let healthy = text(&["doctor", arg(&mnt)]);
        assert!(
            healthy.contains("passthrough: off: it was not asked for"),
            "{healthy}"
        );
        assert!(!healthy.contains("PROBLEM"), "{healthy}");
        // On a kernel that can do everything (Linux 6.9): what etcfs leaves out is not missing.
        assert!(!healthy.contains("it lacks"), "{healthy}");
        fs::create_dir_all(etcfs.local().join("localtime/full")).expect("mkdir");
        etcfs
            .write_config(&["add_override symlink /localtime /run/zone"])
            .expect("configure");
        let _ = fs::read_link(mnt.join("localtime"));
        let output = run(&["doctor", arg(&mnt)]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("PROBLEM  overrides: /localtime"), "{said}");
        assert!(said.contains("a directory is there"), "{said}");
        // Mended, with nobody having looked since; and no longer configured.
        fs::remove_dir_all(etcfs.local().join("localtime")).expect("remove");
        std::os::unix::fs::symlink("/run/zone", etcfs.local().join("localtime")).expect("symlink");
        let mended = text(&["doctor", arg(&mnt)]);
        assert!(!mended.contains("PROBLEM"), "{mended}");
        fs::remove_file(etcfs.local().join("localtime")).expect("remove");
        assert_eq!(run(&["doctor", arg(&mnt)]).status.code(), Some(2));
        etcfs
            .write_config(&["rm_override /localtime"])
            .expect("configure");
        let gone = text(&["doctor", arg(&mnt)]);
        assert!(!gone.contains("PROBLEM"), "{gone}");
    });
}

#[test]
fn doctor_finds_a_lower_directory_that_is_fuse_itself() {
    private(DEADLINE, |env| {
        let below = Etcfs::start(env, Opts::default());
        fs::create_dir(below.mnt().join("dir")).expect("mkdir");
        let at = env.dir("second");
        fs::create_dir(env.dir("second").join("etc")).expect("mkdir");
        let mut daemon = std::process::Command::new(env!("CARGO_BIN_EXE_etcfs"))
            .args(["-f", "-o"])
            .arg(format!(
                "allow_other,stratum=second,global={}",
                below.mnt().join("dir").display()
            ))
            .arg(at.join("etc"))
            .spawn()
            .expect("start");
        let mounted = || {
            super::harness::mounts()
                .iter()
                .any(|m| m.at == at.join("etc"))
        };
        for _ in 0..2000 {
            if mounted() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(mounted(), "the second daemon mounts");
        let output = run(&["doctor", arg(&at.join("etc"))]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        rustix::mount::unmount(at.join("etc"), rustix::mount::UnmountFlags::DETACH)
            .expect("unmount");
        daemon.wait().expect("it ends by itself");
        assert!(
            said.contains("PROBLEM  global files") && said.contains("FUSE"),
            "{said}"
        );
    });
}

#[test]
fn stale_temporaries_are_found() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::create_dir(bases.local().join("dir")).expect("mkdir");
        fs::write(bases.local().join("dir/.etcfs-hidden-1"), "x").expect("write");
        let etcfs = Etcfs::serve(env, bases, Opts::default());
        // Young ones may be in use.
        let said = text(&["doctor", arg(&etcfs.mnt())]);
        assert!(!said.contains(".etcfs-hidden-"), "{said}");
    });
}

#[test]
fn check_prints_commands_and_warnings_with_their_lines() {
    let dir = std::env::temp_dir().join(format!("etcfsctl-check-{}", std::process::id()));
    fs::create_dir_all(&dir).expect("mkdir");
    let file = dir.join("bedrock.conf");
    fs::write(
        &file,
        "[global]\netc = hosts, group\n[etc-symlinks]\nlocaltime = /run/zone\n",
    )
    .expect("write");
    let good = text(&["check", arg(&file)]);
    assert!(
        good.contains("add_override symlink /localtime /run/zone"),
        "{good}"
    );
    fs::write(
        &file,
        "[global]\netc = zone/x\n[etc-symlinks]\nzone = /run\n",
    )
    .expect("write");
    let output = run(&["check", arg(&file)]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    fs::remove_dir_all(&dir).expect("remove");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(":2: /zone/x can never match"), "{said}");
}
