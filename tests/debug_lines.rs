//! What `-d` prints: contract B27.

mod harness;

use harness::{Bases, Etcfs, Lower, Opts, mounts, private};
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn b27_every_request_is_one_compatible_line_and_the_wire_below_it() {
    private(DEADLINE, |env| {
        let opts = Opts {
            flags: vec!["-d".into()],
            config: vec!["add_global /shared".into()],
            ..Opts::default()
        };
        let etcfs = Etcfs::start(env, opts);
        std::fs::write(etcfs.global().join("shared"), "x").expect("write below");
        std::fs::write(etcfs.local().join("own"), "secret").expect("write below");
        std::fs::metadata(etcfs.mnt().join("shared")).expect("stat");
        std::fs::rename(etcfs.mnt().join("own"), etcfs.mnt().join("other")).expect("rename");
        assert_eq!(
            std::fs::read(etcfs.mnt().join("other")).ok(),
            Some(b"secret".into())
        );
        assert!(std::fs::metadata(etcfs.mnt().join("missing")).is_err());

        let exe = std::env::current_exe().expect("this program");
        // The lines come through a pipe that the harness reads when it can.
        let mut said = etcfs.stderr();
        while !said.contains("m_lookup(\"/missing\")") {
            std::thread::sleep(Duration::from_millis(5));
            said = etcfs.stderr();
        }
        let find = |begin: &str| {
            let at = said.lines().position(|line| line.starts_with(begin));
            let at = at.unwrap_or_else(|| panic!("no line {begin:?} in:\n{said}"));
            let lines: Vec<_> = said.lines().skip(at).take(3).collect();
            (
                lines[0].to_owned(),
                lines[1].to_owned(),
                lines[2].to_owned(),
            )
        };
        let (line, request, answer) = find("etcfs: m_lookup(\"/shared\") called at time=");
        // The client is a thread, whose id the kernel gives instead of the process's.
        assert!(line.contains(" by UID=0 PID="), "{line}");
        assert!(
            line.contains(&format!(" exe=\"{}\" cmdline=\"", exe.display())),
            "{line}"
        );
        assert!(line.contains(" result=ok latency="), "{line}");
        assert!(line.ends_with("us layer=global"), "{line}");
        assert!(request.starts_with("  > LOOKUP unique="), "{request}");
        assert!(request.ends_with(" name=\"shared\""), "{request}");
        assert!(answer.starts_with("  < LOOKUP unique="), "{answer}");

        let (line, ..) = find("etcfs: m_lookup(\"/missing\")");
        assert!(line.contains(" result=ENOENT(2) latency="), "{line}");
        assert!(line.ends_with(" layer=local"), "{line}");
        let (line, ..) = find("etcfs: m_rename");
        assert!(line.contains("(\"/own\", \"/other\") called at"), "{line}");
        assert!(
            !said.contains("secret"),
            "contents stay out of the log:\n{said}"
        );
    });
}

/// Whoever reads the lines may itself wait for the mount.
#[test]
fn lines_that_nobody_reads_never_hold_up_the_mount() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let opts = Opts {
            flags: vec!["-d".into()],
            options: vec!["threads=1".into()],
            ..Opts::default()
        };
        let mut daemon = Etcfs::command(&bases, &opts)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start");
        let mnt = bases.mnt();
        while !mounts().iter().any(|mount| mount.at == mnt) {
            std::thread::sleep(Duration::from_millis(2));
        }
        // Three lines each: more than ten times what a pipe holds.
        for n in 0..2000 {
            assert!(std::fs::metadata(mnt.join(format!("missing-{n}"))).is_err());
        }
        let stderr = daemon.stderr.take().expect("a pipe");
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stderr).lines();
            lines.map_while(Result::ok).collect::<Vec<_>>()
        });
        rustix::mount::unmount(&mnt, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        daemon.wait().expect("it ends");
        let lines = reader.join().expect("the lines");
        let looked_up = |n| format!("etcfs: m_lookup(\"/missing-{n}\") called at ");
        let mut expected = (0..2000).map(looked_up).peekable();
        for line in &lines {
            expected.next_if(|begin| line.starts_with(begin));
        }
        assert_eq!(expected.next(), None, "all are there, in order");
    });
}
