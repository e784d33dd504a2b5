//! Every finding, over made-up states and negotiations.

use super::advice::{self, Failing, InUse, SideFacts};
use crate::cli::{Options, Parsed};
use crate::ctl::answer::init;
use crate::ctl::report::{Finding, Init, PassthroughReport, RequestReport, Severity};
use crate::daemon::wish;
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Offer, negotiate};
use rustix::io::Errno;

/// The levels, and each text with its words.
fn assert_found(found: &[Finding], expected: &[(Severity, &[&str])]) {
    let levels: Vec<Severity> = found.iter().map(|f| f.level).collect();
    let wanted: Vec<Severity> = expected.iter().map(|e| e.0).collect();
    assert_eq!(levels, wanted, "{found:?}");
    for (finding, (_, words)) in found.iter().zip(expected) {
        for word in *words {
            assert!(finding.text.contains(word), "{finding:?} lacks {word:?}");
        }
        assert!(!finding.text.ends_with('.'), "{finding:?}");
    }
}

fn options(args: &[&str]) -> Options {
    match Options::parse(args.iter().copied().chain(["/etc"])) {
        Ok(Parsed::Run(options)) => *options,
        other => panic!("{other:?}"),
    }
}

/// What INIT comes to on a kernel that offers all but `without`.
fn kernel(minor: u32, without: InitFlags, args: &[&str]) -> Init {
    let wish = wish(&options(args));
    let offer = Offer {
        major: 7,
        minor,
        max_readahead: 1 << 17,
        flags: InitFlags::all().difference(without),
    };
    init(&negotiate(&offer, &wish).expect("agreed"), wish.flags)
}

#[test]
fn a_kernel_that_can_do_everything_lacks_nothing() {
    // Linux 6.6 and later: etcfs itself leaves AUTO_INVAL_DATA out, which therefore is not missing.
    for args in [&[][..], &["-o", "passthrough"]] {
        let init = kernel(45, InitFlags::empty(), args);
        assert_eq!(init.missing, [""; 0]);
        assert!(!init.flags.contains(&"AUTO_INVAL_DATA".to_owned()));
        let found = advice::kernel("6.18", &init);
        assert_found(&found, &[(Severity::Ok, &["Linux 6.18", "7.45"])]);
    }
}

#[test]
fn an_older_kernel_lacks_what_it_does_not_offer_and_each_lack_has_a_price() {
    let high = InitFlags::from_bits_retain(!u64::from(u32::MAX));
    let new = high
        | InitFlags::INIT_EXT
        | InitFlags::HANDLE_KILLPRIV_V2
        | InitFlags::SETXATTR_EXT
        | InitFlags::DIRECT_IO_ALLOW_MMAP
        | InitFlags::PASSTHROUGH
        | InitFlags::CREATE_SUPP_GROUP;
    let init = kernel(31, new, &[]);
    assert!(init.flags.contains(&"AUTO_INVAL_DATA".to_owned()));
    let found = advice::kernel("5.4.0", &init);
    let texts: Vec<&str> = found.iter().map(|f| f.text.as_str()).collect();
    for (flag, since) in [
        ("INIT_EXT", "Linux 5.17 has it"),
        ("HANDLE_KILLPRIV_V2", "Linux 5.11 has it"),
        ("SETXATTR_EXT", "Linux 5.12 has it"),
        ("CREATE_SUPP_GROUP", "Linux 6.3 has it"),
        ("DIRECT_IO_ALLOW_MMAP", "Linux 6.6 has it"),
    ] {
        let one = texts.iter().filter(|text| text.contains(flag));
        let one: Vec<_> = one.collect();
        assert_eq!(one.len(), 1, "{flag}: {texts:#?}");
        assert!(one[0].ends_with(since), "{}", one[0]);
    }
    assert!(found.iter().all(|f| f.level != Severity::Problem));
    assert!(!texts.iter().any(|text| text.contains("AUTO_INVAL")));
}

#[test]
fn everything_wished_for_that_a_kernel_may_lack_has_its_text() {
    // What every kernel with FUSE 7.31 (Linux 5.4) offers (include/uapi/linux/fuse.h).
    let old =
        InitFlags::from_bits_retain(u64::from((1_u32 << 27) - 1)) | InitFlags::EXPLICIT_INVAL_DATA;
    let wished = wish(&options(&["-o", "passthrough"])).flags.difference(old);
    for (flag, _) in wished.iter_names() {
        assert!(advice::what_is_missing(flag).is_some(), "{flag}");
    }
}

#[test]
fn passthrough_is_a_problem_only_where_it_was_asked_for() {
    let state = |asked, on, reasons: &[&str]| PassthroughReport {
        asked,
        on,
        reasons: reasons.iter().map(|&r| r.to_owned()).collect(),
    };
    let cost = "through the daemon";
    let not_asked = "it was not asked for";
    for (state, offered, expected) in [
        (
            state(true, true, &[]),
            true,
            &[(Severity::Ok, &["on: ", "2 files are registered"][..])][..],
        ),
        (
            state(true, true, &["procfs is stacked"]),
            true,
            &[
                (Severity::Ok, &["on: "]),
                (
                    Severity::Problem,
                    &["on in part only: procfs is stacked", cost],
                ),
            ],
        ),
        (
            state(true, false, &["no CAP_SYS_ADMIN"]),
            true,
            &[(Severity::Problem, &["off: no CAP_SYS_ADMIN", cost])],
        ),
        (
            state(false, false, &[not_asked]),
            true,
            &[(Severity::Note, &["off: ", not_asked, cost])],
        ),
        (
            state(false, false, &[not_asked]),
            false,
            &[(
                Severity::Note,
                &["off: ", "this kernel cannot do it (Linux 6.9 can)"],
            )],
        ),
    ] {
        assert_found(&advice::passthrough(&state, 2, offered), expected);
    }
}

#[test]
fn requests_and_locks() {
    let request = |age_us| RequestReport {
        op: "FSYNC".to_owned(),
        path: Some("/etc/x".to_owned()),
        pid: 7,
        uid: 1000,
        tid: 9,
        age_us,
    };
    assert_found(
        &advice::requests(&[]),
        &[(Severity::Ok, &["0 being worked on"])],
    );
    assert_found(
        &advice::requests(&[request(10.0)]),
        &[(Severity::Ok, &["1 being worked on, none for long"])],
    );
    assert_found(
        &advice::requests(&[request(10.0), request(3.5e6)]),
        &[(
            Severity::Problem,
            &[
                "FSYNC of /etc/x",
                "pid 7 (uid 1000)",
                "3.5 s",
                "/proc/9/stack",
            ],
        )],
    );
    assert_found(
        &advice::locks(0, 0, &[], 1024),
        &[(Severity::Ok, &["0 owners", "nobody waits"])],
    );
    assert_found(
        &advice::locks(1, 1, &[(1000, 1)], 1024),
        &[(
            Severity::Note,
            &["1 owner of", "1 request waits", "lslocks"],
        )],
    );
    assert_found(
        &advice::locks(1, 600, &[(1000, 590), (1001, 10)], 1024),
        &[(
            Severity::Problem,
            &[
                "590 requests of uid 1000",
                "of 1024",
                "ENOLCK",
                "max_lock_waiters",
            ],
        )],
    );
}

#[test]
fn lower_file_systems() {
    let lower = SideFacts {
        about: "local files",
        path: "/etc",
        kind: "ext4",
        is_fuse: false,
        bytes: (50 << 20, 1 << 30),
        inodes: (0, 0),
        left_over: 0,
    };
    let well = (Severity::Ok, &["/etc on ext4"][..]);
    assert_found(&advice::lower(&lower), &[well]);
    let fuse = SideFacts {
        is_fuse: true,
        ..lower
    };
    assert_found(
        &advice::lower(&fuse),
        &[(Severity::Problem, &["/etc", "two of them", "-o global=DIR"])],
    );
    let full = SideFacts {
        bytes: (10 << 20, 1 << 30),
        inodes: (1, 1000),
        left_over: 2,
        ..lower
    };
    assert_found(
        &advice::lower(&full),
        &[
            well,
            (
                Severity::Problem,
                &["space below /etc", "10 MiB", "ENOSPC", "remove"],
            ),
            (Severity::Problem, &["inodes below /etc", "(1)"]),
            (
                Severity::Note,
                &["2 things", ".etcfs-hidden-", "/etc", "removes them"],
            ),
        ],
    );
}

#[test]
fn overrides_limits_and_rights() {
    assert_found(
        &advice::overrides(&[], 4),
        &[(Severity::Ok, &["none", "4"])],
    );
    let failing = |kind| Failing {
        path: "localtime".to_owned(),
        kind,
        found: "a directory".to_owned(),
        errno: Errno::NOTEMPTY.to_string(),
    };
    assert_found(
        &advice::overrides(&[failing("symlink"), failing("inject")], 4),
        &[
            (
                Severity::Problem,
                &[
                    "/localtime should be a symlink",
                    "a directory is there",
                    "move it away",
                ],
            ),
            (Severity::Problem, &["/localtime should have text injected"]),
        ],
    );
    let calm = InUse {
        files: (10, 1000),
        nr_open: 1000,
        threads: 3,
        all_threads: (100, 1000),
        memory: 2000,
    };
    assert_found(&advice::limits(calm), &[(Severity::Ok, &["10 of 1000"])]);
    let busy = InUse {
        files: (900, 1000),
        all_threads: (990, 1000),
        ..calm
    };
    assert_found(
        &advice::limits(busy),
        &[
            (Severity::Problem, &["900 of 1000", "ENFILE", "ulimit"]),
            (Severity::Problem, &["990 of 1000", "threads-max"]),
        ],
    );
    let low = InUse {
        nr_open: 5000,
        ..calm
    };
    assert_found(
        &advice::limits(low),
        &[
            (
                Severity::Note,
                &["1000", "fs.nr_open allows 5000", "CAP_SYS_RESOURCE"],
            ),
            (Severity::Ok, &["10 of 1000"]),
        ],
    );
    let unknown = InUse {
        all_threads: (100, 0),
        ..calm
    };
    assert_found(&advice::limits(unknown), &[(Severity::Ok, &[])]);
    for (filtered, root, level, words) in [
        (true, true, Severity::Ok, "are filtered"),
        (false, true, Severity::Note, "seccomp"),
        (false, false, Severity::Ok, "its user's rights alone"),
    ] {
        assert_found(
            &[advice::rights(1, filtered, root)],
            &[(level, &["1 capability", words])],
        );
    }
}
