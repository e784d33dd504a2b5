//! What `-d` prints: contract B27.

mod harness;

use harness::{Etcfs, Opts, private};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn every_request_is_one_compatible_line_and_the_wire_below_it() {
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
