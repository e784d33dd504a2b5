//! The command line: options on either side of the command, help in every way, and what is said to what is wrong.

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{Etcfs, Opts, private};
use crate::{DEADLINE, arg, failure, run, text};

const RECORDING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/storm.etcfsrec");

#[test]
fn options_are_taken_before_and_after_the_command() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let mnt = arg(&mnt);
        for line in [
            &["--json", "stats", "--reset", mnt][..],
            &["stats", "--json", "--reset", mnt],
            &["stats", "--reset", mnt, "-j"],
            &["-j", "--reset", "stats", mnt],
            &["--reset", "--timeout", "7", "stats", mnt, "--json"],
            &["stats", "-j", "--timeout=7", "--reset", "--", mnt],
        ] {
            let said = text(line);
            let stats: serde_json::Value =
                serde_json::from_str(&said).unwrap_or_else(|e| panic!("{line:?}: {e}: {said}"));
            assert_eq!(stats["mountpoint"], mnt, "{line:?}");
        }
        let json = text(&["journal", mnt, "-j"]);
        assert!(json.starts_with('{'), "{json}");
        assert!(text(&["doctor", mnt, "--json"]).starts_with('{'));
        let path = etcfs.mnt().join("file");
        assert!(text(&["which", arg(&path), "-j"]).starts_with('{'));
    });
}

#[test]
fn help_is_there_in_every_way() {
    let all = text(&["--help"]);
    assert!(all.starts_with("Usage: etcfsctl "), "{all}");
    for ask in [&["help"][..], &["-h"], &[]] {
        assert_eq!(text(ask), all, "{ask:?}");
    }
    let commands: Vec<&str> = all
        .split("Commands:\n")
        .nth(1)
        .and_then(|rest| rest.split("\nTopics").next())
        .expect("a list of commands")
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 10, "{commands:?}");
    for command in commands {
        let help = text(&["help", command]);
        let usage = format!("Usage: etcfsctl {command}");
        assert!(help.starts_with(&usage), "{help}");
        assert!(help.contains("-j, --json "), "{help}");
        for ask in [[command, "-h"], [command, "--help"], ["-h", command]] {
            assert_eq!(text(&ask), help, "{ask:?}");
        }
    }
    let topics = all.split("\nTopics, for etcfsctl help:\n").nth(1);
    let topics = topics.expect("a list of topics").lines();
    let topics = topics.filter_map(|line| line.split_whitespace().next());
    let mut count = 0;
    for topic in topics {
        count += 1;
        assert!(text(&["help", topic]).lines().count() > 10, "{topic}");
        assert_eq!(text(&[topic, "-h"]), text(&["help", topic]));
    }
    assert!(count > 5, "{all}");
    assert!(text(&["-V"]).starts_with("etcfsctl 0."));
}

#[test]
fn what_is_wrong_is_one_line_with_its_remedy() {
    for (line, parts) in [
        (
            &["stats", "--bogus"][..],
            ["--bogus", "etcfsctl help stats"],
        ),
        (&["--bogus"], ["--bogus", "etcfsctl help"]),
        (&["stats", "--jsn"], ["--jsn", "--json"]),
        (&["log", "--reset"], ["--reset", "option of stats"]),
        (&["statz"], ["statz", "did you mean stats"]),
        (&["which"], ["PATH is missing", "etcfsctl help which"]),
        (&["log", "--count", "many"], ["many", "etcfsctl help log"]),
        (
            &["log", "--min-latency", "x"],
            ["--min-latency", "etcfsctl help log"],
        ),
        (
            &["-j", "trace", "--count", "0"],
            ["--count 0", "leave it out"],
        ),
        (&["help", "nothing"], ["nothing", "etcfsctl help"]),
    ] {
        let said = failure(line);
        assert!(said.starts_with("etcfsctl: "), "{said}");
        for part in parts {
            assert!(said.contains(part), "{line:?}: {said:?} lacks {part:?}");
        }
    }
    assert_eq!(run(&["doctor", "--bogus"]).status.code(), Some(1));
}

/// A FIFO at the configuration's place was waited for until somebody wrote to it.
#[test]
fn a_file_that_cannot_be_had_is_named_with_a_remedy() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        let dir = env.dir("files");
        let (missing, fifo) = (dir.join("missing"), dir.join("fifo"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).expect("mkfifo");
        std::fs::write(dir.join("text"), "text").expect("write");
        let nowhere = dir.join("missing/recording");
        for (line, name, remedy) in [
            (&["check", arg(&missing)][..], "missing", "name another"),
            (&["check", arg(&dir)], "files", "name a file"),
            (
                &["check", arg(&fifo)],
                "fifo",
                "not a regular file; name a file",
            ),
            (&["decode", arg(&missing)], "missing", "etcfsctl record"),
            (&["decode", arg(&dir)], "files", "name a file"),
            (&["replay", arg(&missing)], "missing", "etcfsctl record"),
            (
                &["decode", arg(&dir.join("text"))],
                "text",
                "etcfsctl record",
            ),
            (
                &["decode", "--pcapng", arg(&nowhere), RECORDING],
                "missing",
                "create the directory",
            ),
            (
                &["record", arg(&nowhere), arg(&mnt)],
                "missing",
                "create the directory",
            ),
            (&["record", arg(&dir), arg(&mnt)], "files", "name a file"),
        ] {
            let said = failure(line);
            assert_eq!(said.lines().count(), 1, "{said}");
            for part in ["etcfsctl: ", name, remedy] {
                assert!(said.contains(part), "{line:?}: {said:?} lacks {part:?}");
            }
        }
    });
}
