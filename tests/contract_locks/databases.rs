//! SQLite on one database from two sides: rows are neither lost nor damaged, whatever it maps.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, private};

const MODES: [&[&str]; 2] = [&[], &["passthrough"]];
/// How many transactions each of two processes makes.
const TRANSACTIONS: usize = 240;
/// Bytes that SQLite maps.
const MAPPED: [u64; 2] = [0, 256 << 20];

fn sqlite(database: &Path, script: &str) -> Child {
    let mut child = Command::new("sqlite3")
        .arg("-bail")
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sqlite3(1), which scripts/setup installs");
    let mut stdin = child.stdin.take().expect("piped");
    let text = format!(".timeout 60000\n{script}");
    // All of it fits a pipe, or is read while it is written; a child that ends early says so itself.
    std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    child
}

fn said(child: Child) -> String {
    let output = child.wait_with_output().expect("wait");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}

/// Has two processes write to a database, each at its place, and says what went wrong and what is there then.
fn rows(places: [&Path; 2], journal: &str, mapped: u64) -> (Vec<String>, String) {
    let set = format!("PRAGMA mmap_size={mapped}; PRAGMA synchronous=off;");
    let made = said(sqlite(
        places[0],
        &format!("PRAGMA journal_mode={journal}; CREATE TABLE t(who, n, filler);"),
    ));
    assert_eq!(made, journal, "a new database");
    let writers: Vec<_> = (0..2)
        .map(|who| {
            let mut script = format!("{set}\n.output /dev/null\n");
            for n in 0..TRANSACTIONS {
                let size = n * 31 % 3000;
                script += &format!(
                    "BEGIN IMMEDIATE; INSERT INTO t VALUES({who}, {n}, hex(zeroblob({size})));\n\
                     SELECT count(*), sum(length(filler)) FROM t; COMMIT;\n\
                     SELECT count(DISTINCT filler) FROM t;\n"
                );
            }
            sqlite(places[who], &script)
        })
        .collect();
    let wrong = writers.into_iter().map(|writer| {
        let mut lines = said(writer).lines().map(str::to_owned).collect::<Vec<_>>();
        // The answer to PRAGMA mmap_size.
        lines.retain(|line| *line != mapped.to_string());
        lines.join("; ")
    });
    let wrong: Vec<String> = wrong.filter(|text| !text.is_empty()).collect();
    let check = "SELECT count(*), count(DISTINCT who * 1000 + n) FROM t; PRAGMA integrity_check;";
    (wrong, said(sqlite(places[1], check)).replace('\n', " "))
}

fn intact() -> (Vec<String>, String) {
    let all = 2 * TRANSACTIONS;
    (Vec::new(), format!("{all}|{all} ok"))
}

fn strata(env: &Env, options: &[&str]) -> (Etcfs, Etcfs) {
    let bases = Bases::new(env, Lower::Tmpfs);
    fs::create_dir(bases.global().join("shared")).expect("mkdir");
    let opts = |stratum: &str| Opts {
        stratum: stratum.to_owned(),
        config: vec!["add_global /shared".to_owned()],
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..Opts::default()
    };
    let second = bases.second(env, "beta");
    let alpha = Etcfs::serve(env, bases, opts("alpha"));
    let beta = Etcfs::serve(env, second, opts("beta"));
    (alpha, beta)
}

/// With the strata's own pages each of three such runs ended with "database disk image is malformed" and lost rows.
#[test]
fn a_database_that_two_strata_write_stays_whole_9_2() {
    for options in MODES {
        private(DEADLINE * 4, move |env| {
            let (alpha, beta) = strata(env, options);
            for journal in ["delete", "wal"] {
                // Passthrough maps what mode without it maps, and reads nothing through the daemon.
                let mapped = if options.is_empty() {
                    &MAPPED[..]
                } else {
                    &MAPPED[1..]
                };
                for &mapped in mapped {
                    let name = format!("{journal}-{mapped}");
                    if options.is_empty() {
                        let native = alpha.native().join(&name);
                        let natively = rows([&native, &native], journal, mapped);
                        assert_eq!(natively, intact(), "natively, {name}");
                    }
                    let places = [&alpha, &beta].map(|e| e.mnt().join("shared").join(&name));
                    let got = rows([&places[0], &places[1]], journal, mapped);
                    assert_eq!(got, intact(), "{name}, {options:?}");
                }
            }
        });
    }
}

/// On the mount and beneath it, where each side has pages of its own without passthrough: one of three such runs ended with
/// "malformed".
#[test]
fn a_local_database_that_is_written_beneath_too_stays_whole_9_2() {
    for options in MODES {
        private(DEADLINE * 4, move |env| {
            let opts = Opts {
                options: options.iter().map(|&o| o.to_owned()).collect(),
                ..Opts::default()
            };
            let etcfs = Etcfs::start(env, opts);
            for mapped in MAPPED {
                let name = format!("delete-{mapped}");
                let places = [etcfs.mnt().join(&name), etcfs.local().join(&name)];
                let got = rows([&places[0], &places[1]], "delete", mapped);
                assert_eq!(got, intact(), "{name}, {options:?}");
            }
        });
    }
}
