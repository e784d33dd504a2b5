use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use proptest::prelude::*;

use super::list::split;
use super::table::{ROWS, Takes};
use super::*;
use crate::mount::{Atime, Method};
use crate::sys::seccomp::Mode;

fn run(args: &[&str]) -> Options {
    match Options::parse(args) {
        Ok(Parsed::Run(options)) => *options,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn refusal(args: &[&str]) -> String {
    let line = Options::parse(args)
        .expect_err("must be refused")
        .to_string();
    assert!(!line.contains('\n'), "more than one line: {line}");
    line
}

/// The options of `-o list` on an otherwise empty line.
fn with(list: &str) -> Options {
    run(&["-o", list, "/etc"])
}

#[test]
fn mountpoint_alone_gives_the_defaults() {
    let options = run(&["/etc"]);
    let mut expected = Options::default();
    expected.mount.mountpoint = "/etc".into();
    assert_eq!(options, expected);
    assert_eq!(options.mount.source, "etcfs");
    assert_eq!(options.log, LogLevel::Warn);
}

#[test]
fn d1_d3_d5_bedrocks_command_lines_are_understood() {
    // Contract D1, D3, D5.
    let normal = run(&["-o", "allow_other", "/etc"]);
    assert!(normal.mount.allow_other);
    assert!(!normal.foreground);
    let debug = run(&["-d", "-o", "allow_other", "/etc"]);
    assert!(debug.mount.allow_other);
    assert!(debug.foreground);
    assert_eq!(debug.log, LogLevel::Debug);
}

#[test]
fn what_mount_fuse3_runs_is_understood() {
    // `src /mnt fuse.etcfs` in fstab, `etcfs /mnt fuse`, and `etcfs# /mnt fuse`, as libfuse 3.14 passes them on.
    let two = run(&["none", "/mnt", "-o", "rw,global=/g,x-systemd.foo,dev,suid"]);
    assert_eq!(two.mount.source, "none");
    assert_eq!(two.mount.mountpoint, Path::new("/mnt"));
    assert_eq!(two.global.as_deref(), Some(Path::new("/g")));
    // It says dev and suid of its own accord.
    assert!(!two.mount.dev && !two.mount.suid);
    let one = run(&["/mnt", "-o", "ro,noexec,nosuid,nodev"]);
    assert_eq!(one.mount.source, "etcfs");
    assert!(one.mount.read_only && one.mount.noexec);
    let empty = run(&["", "/mnt", "-o", "rw,sync,noatime"]);
    assert_eq!(empty.mount.source, "etcfs");
    assert!(empty.mount.sync);
    assert_eq!(empty.mount.atime, Some(Atime::Noatime));
}

#[test]
fn fsname_goes_before_a_positional_source() {
    assert_eq!(
        run(&["-o", "fsname=etcfs", "none", "/mnt"]).mount.source,
        "etcfs"
    );
    assert_eq!(with("fsname=other").mount.source, "other");
}

#[test]
fn d7_options_may_be_repeated_joined_and_behind_the_mountpoint() {
    let options = run(&["-oro", "/etc", "-o", "noexec,,sync", "-fsothreads=1"]);
    assert!(
        options.mount.read_only && options.mount.noexec && options.mount.sync && options.foreground
    );
    assert_eq!(options.threads.map(NonZeroU16::get), Some(1));
}

#[test]
fn two_dashes_end_the_options() {
    assert_eq!(run(&["--", "-o"]).mount.mountpoint, Path::new("-o"));
}

#[test]
fn help_and_version_need_no_mountpoint() {
    for (arg, parsed) in [
        ("-h", Parsed::Help),
        ("--help", Parsed::Help),
        ("-V", Parsed::Version),
        ("--version", Parsed::Version),
    ] {
        assert_eq!(Options::parse([arg]), Ok(parsed), "{arg}");
    }
    assert_eq!(Options::parse(["-f", "-h", "/etc"]), Ok(Parsed::Help));
}

#[test]
fn debug_implies_the_foreground_however_it_is_written() {
    for args in [
        &["-d", "/etc"][..],
        &["-odebug", "/etc"],
        &["-o", "ro,debug", "/etc"],
        &["--debug", "/etc"],
    ] {
        let options = run(args);
        assert!(options.foreground, "{args:?}");
        assert_eq!(options.log, LogLevel::Debug, "{args:?}");
    }
    assert!(!run(&["-o", "log=debug", "/etc"]).foreground);
}

#[test]
fn the_last_of_two_opposites_holds() {
    assert!(!with("ro,rw").mount.read_only);
    assert!(with("rw,ro").mount.read_only);
    assert!(!with("noexec,exec").mount.noexec);
    assert!(!with("sync,async").mount.sync);
    assert!(!with("nodiratime,diratime").mount.nodiratime);
    assert_eq!(
        with("noatime,strictatime").mount.atime,
        Some(Atime::Strictatime)
    );
    assert_eq!(with("noatime,relatime").mount.atime, Some(Atime::Relatime));
    assert_eq!(
        with("global=/a,global=/b").global.as_deref(),
        Some(Path::new("/b"))
    );
}

#[test]
fn our_own_options_are_taken() {
    let options = with(
        "global=/g,stratum=debian,mount=fusermount3,threads=3,passthrough,max_stack_depth=2,max_lock_waiters=7,max_cross_copy=5000000000,watchdog=3,survive_shutdown,log=info,legacy_global=exact,max_read=65536,dirsync",
    );
    assert_eq!(options.global.as_deref(), Some(Path::new("/g")));
    assert_eq!(options.stratum.as_deref(), Some(OsStr::new("debian")));
    assert_eq!(options.mount.way, Method::Fusermount3);
    assert_eq!(options.threads.map(NonZeroU16::get), Some(3));
    assert!(options.passthrough && options.legacy_global && options.mount.dirsync);
    assert!(options.survive_shutdown);
    assert_eq!(options.max_stack_depth, 2);
    assert_eq!(options.max_lock_waiters, 7);
    assert_eq!(options.max_cross_copy, 5_000_000_000);
    assert_eq!(options.watchdog, 3);
    assert_eq!(options.log, LogLevel::Info);
    assert_eq!(options.mount.max_read, Some(65536));
    assert_eq!(with("mount=direct").mount.way, Method::Direct);
    assert_eq!(with("mount=auto").mount.way, Method::Auto);
    assert_eq!(run(&["-s", "/etc"]).threads.map(NonZeroU16::get), Some(1));
}

#[test]
fn shutdown_is_survived_upon_a_clear_word_of_the_environment_too() {
    for (value, survives) in [
        (Some("1"), true),
        (Some("yes"), true),
        (Some("no"), false),
        (Some(""), false),
        (None, false),
    ] {
        let mut options = run(&["/etc"]);
        options.take_survival(value.map(OsStr::new));
        assert_eq!(options.survive_shutdown, survives, "{value:?}");
    }
}

#[test]
fn dev_and_suid_are_roots_and_mount_fuse3s_count_if_somebody_has_asked() {
    let given = |options: &Options| (options.mount.dev, options.mount.suid);
    assert_eq!(given(&run(&["/etc"])), (false, false));
    assert_eq!(given(&with("dev")), (true, false));
    assert_eq!(given(&with("suid,dev,nodev")), (false, true));
    assert_eq!(given(&run(&["/etc", "-o", "dev,suid"])), (true, true));
    let mut users = with("dev,suid");
    assert_eq!(users.check_user(1000), Ok(()));
    assert_eq!(given(&users), (false, false));
    let line = ["none", "/etc", "-o", "rw,dev,suid"];
    for (dev, suid) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut options = run(&line);
        options.take_appended(|_| Wanted { dev, suid });
        assert_eq!(given(&options), (dev, suid));
    }
}

#[test]
fn options_for_other_readers_change_nothing() {
    let list = "defaults,auto,noauto,nofail,_netdev,user,user=joe,users,nouser,owner,group,comment=a,helper=b,uhelper=c,\
                silent,loud,x-systemd.automount,X-mount.mkdir=0755,x-y=z,suid,dev,nosuid,nodev,nonempty,auto_unmount,\
                clone_fd,max_threads=10,max_idle_threads=2,idle_threads=3,default_permissions,subtype=etcfs";
    assert_eq!(with(list), run(&["/etc"]));
}

#[test]
fn refusals_name_the_option_and_the_remedy() {
    let cases: &[(&[&str], &[&str])] = &[
        (&[], &["no mountpoint given", "--help"]),
        (&[""], &["no mountpoint given"]),
        (&["-f"], &["no mountpoint given"]),
        (&["a", "b", "c"], &["\"c\"", "[SOURCE] MOUNTPOINT"]),
        (&["/etc", "-o"], &["-o", "allow_other"]),
        (&["-x", "/etc"], &["-x", "--help"]),
        (&["--two\nlines", "/etc"], &["two\\nlines"]),
        (&["--frobnicate", "/etc"], &["--frobnicate", "--help"]),
        (&["/dev/fd/7"], &["/dev/fd/7", "drop_privileges"]),
        (
            &["-s", "-o", "threads=2", "/etc"],
            &["-s", "threads=2", "leave out"],
        ),
    ];
    for (args, parts) in cases {
        let line = refusal(args);
        assert!(
            parts.iter().all(|part| line.contains(part)),
            "{args:?}: {line}"
        );
    }
    let options: &[(&str, &[&str])] = &[
        (
            "allow_others",
            &[
                "allow_others",
                "unknown option",
                "did you mean allow_other?",
            ],
        ),
        ("thread=2", &["thread=2", "did you mean threads?"]),
        ("frobnicate", &["frobnicate", "unknown option", "--help"]),
        ("=", &["\"=\"", "unknown option"]),
        ("allow_other=1", &["allow_other=1", "takes no value"]),
        ("global", &["global", "needs a value", "global=DIR"]),
        ("global=", &["global=", "a directory"]),
        ("stratum=", &["stratum=", "a name"]),
        ("stratum=a\nb", &["stratum=", "control"]),
        (
            "mount=magic",
            &["mount=magic", "direct, fusermount3 or auto"],
        ),
        ("threads=0", &["threads=0", "1 to 1024"]),
        ("threads=1025", &["threads=1025", "1 to 1024"]),
        ("threads=-1", &["threads=-1", "1 to 1024"]),
        ("threads=+1", &["threads=+1", "1 to 1024"]),
        ("threads=99999999999999999999", &["1 to 1024"]),
        ("watchdog=soon", &["watchdog=soon", "seconds"]),
        ("max_lock_waiters=0", &["max_lock_waiters=0", "from 1 to"]),
        (
            "max_cross_copy=1M",
            &["max_cross_copy=1M", "number of bytes"],
        ),
        ("max_stack_depth=3", &["max_stack_depth=3", "1 or 2"]),
        ("log=loud", &["log=loud", "error, warn, info or debug"]),
        ("legacy_global=yes", &["legacy_global=yes", "exact"]),
        ("max_read=0", &["max_read=0", "above 0"]),
        ("max_read=1k", &["max_read=1k", "above 0"]),
        ("max_threads=many", &["max_threads=many", "a number"]),
        ("subtype=other", &["subtype=other", "fuse.etcfs"]),
        ("allow_root", &["allow_root", "use allow_other"]),
        ("seccomp=strict", &["seccomp=strict", "log, kill or off"]),
        ("fd=3", &["fd=3", "leave it out"]),
        ("remount", &["remount", "mount -i -o remount"]),
        ("entry_timeout=1", &["entry_timeout=1", "leave it out"]),
    ];
    for (list, parts) in options {
        let line = refusal(&["-o", list, "/etc"]);
        assert!(
            parts.iter().all(|part| line.contains(part)),
            "{list}: {line}"
        );
        assert!(line.starts_with("-o "), "{line}");
    }
}

#[test]
fn d6_allow_other_is_for_uid_0() {
    // Contract D6, with the C program's own words.
    let refused = with("allow_other")
        .check_user(1000)
        .expect_err("must be refused");
    assert_eq!(refused.to_string(), "error: not running as root.");
    assert_eq!(with("allow_other").check_user(0), Ok(()));
    assert_eq!(with("ro").check_user(1000), Ok(()));
}

#[test]
fn passthrough_is_switched_on_by_the_environment_too() {
    // Contract U11.
    for (value, on, odd) in [
        (None, false, false),
        (Some("1"), true, false),
        (Some("yes"), true, false),
        (Some("0"), false, false),
        (Some("no"), false, false),
        (Some(""), false, false),
        (Some("true"), false, true),
        (Some("1 "), false, true),
    ] {
        let mut options = run(&["/etc"]);
        options.take_environment(value.map(OsStr::new));
        assert_eq!(options.passthrough, on, "{value:?}");
        assert_eq!(options.odd_passthrough.is_some(), odd, "{value:?}");
    }
    let mut options = with("passthrough");
    options.take_environment(Some(OsStr::new("no")));
    assert!(options.passthrough);
}

#[test]
fn the_filters_mode_is_an_options_or_the_environments() {
    use Mode::{Kill, Log, Off};
    for (list, value, mode, odd) in [
        ("ro", None, None, false),
        ("ro", Some(""), None, false),
        ("ro", Some("kill"), Some(Kill), false),
        ("ro", Some("log"), Some(Log), false),
        ("ro", Some("maybe"), None, true),
        ("seccomp=off", Some("kill"), Some(Off), false),
        ("seccomp=kill,seccomp=log", Some("maybe"), Some(Log), false),
    ] {
        let mut options = with(list);
        options.take_seccomp(value.map(OsStr::new));
        assert_eq!(options.seccomp, mode, "{list}, {value:?}");
        assert_eq!(options.odd_seccomp.is_some(), odd, "{list}, {value:?}");
    }
}

#[test]
fn global_directory_is_the_mountpoint_in_the_bedrock_stratum_unless_named() {
    let etc = Path::new("/etc");
    assert_eq!(
        run(&["/etc"]).global_dir(etc),
        Path::new("/proc/1/root/bedrock/strata/bedrock/etc")
    );
    assert_eq!(with("global=/g").global_dir(etc), Path::new("/g"));
}

#[test]
fn backslashes_protect_commas_and_spell_bytes() {
    let cases: &[(&str, &[&str])] = &[
        ("a,b", &["a", "b"]),
        ("", &[""]),
        (",", &["", ""]),
        (r"global=/a\,b,ro", &["global=/a,b", "ro"]),
        (r"global=/a\040b", &["global=/a b"]),
        (r"a\\,b", &[r"a\", "b"]),
        (r"a\", &[r"a\"]),
        (r"a\08", &["a08"]),
        (r"a\477", &["a477"]),
    ];
    for (list, expected) in cases {
        assert_eq!(split(OsStr::new(list)), *expected, "{list}");
    }
    assert_eq!(
        with(r"global=/a\,b").global.as_deref(),
        Some(Path::new("/a,b"))
    );
}

#[test]
fn help_names_every_option_that_is_not_refused() {
    let words: Vec<&str> = HELP
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .collect();
    for row in ROWS {
        let refused = matches!(row.takes, Takes::Refused(_));
        assert!(refused || words.contains(&row.name), "{}", row.name);
    }
    assert!(
        HELP.lines().all(|line| line.len() <= 140),
        "a line of the help is too long for a terminal"
    );
}

#[test]
fn every_option_has_one_row() {
    for (at, row) in ROWS.iter().enumerate() {
        assert!(
            !ROWS[at + 1..].iter().any(|other| other.name == row.name),
            "{} twice",
            row.name
        );
    }
}

/// An option's text as it has to be written within a list to be taken literally.
fn escape(text: &[u8]) -> Vec<u8> {
    text.iter()
        .flat_map(|&b| {
            if matches!(b, b',' | b'\\') {
                vec![b'\\', b]
            } else {
                vec![b]
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn an_escaped_list_splits_into_what_was_joined(items in prop::collection::vec(prop::collection::vec(1u8.., 0..12), 1..6)) {
        let list = items.iter().map(|item| escape(item)).collect::<Vec<_>>().join(&b',');
        let cut: Vec<Vec<u8>> = split(OsStr::from_bytes(&list)).into_iter().map(OsString::into_vec).collect();
        prop_assert_eq!(cut, items);
    }

    #[test]
    fn any_command_line_is_parsed_or_refused_in_one_line(args in prop::collection::vec(prop::collection::vec(1u8.., 0..24), 0..6)) {
        if let Err(error) = Options::parse(args.into_iter().map(OsString::from_vec)) {
            let line = error.to_string();
            prop_assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
        }
    }

    #[test]
    fn any_option_list_is_parsed_or_refused_in_one_line(list in "([a-z_]{0,14}=?[a-z0-9/,\\\\]{0,9},?){0,5}", known in 0..ROWS.len(), value in "(=[ -~]{0,8})?") {
        for list in [list, format!("{}{value}", ROWS[known].name)] {
            if let Err(error) = Options::parse(["-o", list.as_str(), "/etc"]) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
