//! `etcfsctl bedrock` beside daemons that run, and what it says to do, done.

use super::minibedrock::{STRATA, World};
use super::world;
use std::fs;
use std::process::Command;

/// What it says of the world: the exit status and the lines.
fn advice(world: &World) -> (Option<i32>, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_tested-etcfsctl"))
        .args(["bedrock", "--root"])
        .arg(world.root())
        .output()
        .expect("run etcfsctl");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().map(str::to_owned).collect();
    (output.status.code(), lines)
}

fn configure(world: &World) {
    let etc = world.root().join("bedrock/etc");
    fs::create_dir_all(&etc).expect("mkdir");
    fs::write(etc.join("bedrock.conf"), "[global]\netc = .pwd.lock\n").expect("write");
}

#[test]
fn a_dead_daemon_is_told_and_its_stratum_mended_as_it_says() {
    world(|world| {
        configure(world);
        let (code, lines) = advice(world);
        assert_eq!((code, lines.len()), (Some(1), STRATA.len()), "{lines:#?}");
        for (line, stratum) in lines.iter().zip(STRATA) {
            let begin = format!("/bedrock/strata/{stratum}/etc: passthrough is not switched on");
            assert!(line.starts_with(&begin), "{line}");
            assert!(line.contains("ETCFS_ENABLE_PASSTHROUGH=1"), "{line}");
        }
        for stratum in STRATA {
            world.kill_all(stratum);
            let (_, lines) = advice(world);
            let begin =
                format!("/bedrock/strata/{stratum}/etc: no daemon of this program serves it");
            let line = lines.iter().find(|line| line.starts_with(&begin));
            let line = line.unwrap_or_else(|| panic!("{lines:#?}"));
            let (_, remedy) = line.split_once("if it is dead: ").expect("a remedy");
            let (start, apply) = remedy.split_once(" && ").expect("and what follows");
            assert_eq!(apply, "brl apply");
            world.sh(start).unwrap_or_else(|e| panic!("{start}: {e}"));
            assert_eq!(world.etc_mounts(stratum).len(), 1);
            assert!(
                fs::metadata(world.etc(stratum, "hosts")).is_ok(),
                "{stratum}"
            );
            let (_, lines) = advice(world);
            assert!(
                !lines.iter().any(|line| line.starts_with(&begin)),
                "{lines:#?}"
            );
        }
    });
}

#[test]
fn with_passthrough_in_the_environment_there_is_nothing_to_say() {
    super::bare(|world| {
        configure(world);
        for stratum in STRATA {
            world
                .sh(&format!(
                    "export ETCFS_ENABLE_PASSTHROUGH=1; exec chroot /bedrock/strata/{stratum} {}",
                    super::minibedrock::START
                ))
                .unwrap_or_else(|e| panic!("{stratum}: {e}"));
        }
        assert_eq!(advice(world), (Some(0), vec![]));
    });
}
