//! The configuration file: what it shows and what it takes (D23 to D33, D35, D45).

use crate::harness::{CONFIG, User, as_user, errno};
use crate::{config, names, open, served, text, write};
use rustix::fs::{AtFlags, CWD, OFlags, statat};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[test]
fn d23_the_file_is_listed_once_at_the_root_and_is_ordinary_elsewhere() {
    served(|_, etcfs| {
        fs::write(etcfs.local().join(CONFIG), "hidden").expect("write");
        fs::create_dir(etcfs.mnt().join("sub")).expect("mkdir");
        fs::write(etcfs.mnt().join("sub").join(CONFIG), "ordinary").expect("write");
        for (dir, count) in [(etcfs.mnt(), 1), (etcfs.mnt().join("sub"), 1)] {
            let output = Command::new("ls")
                .arg("-a")
                .arg(&dir)
                .output()
                .expect("run ls");
            let listed = String::from_utf8(output.stdout).expect("UTF-8");
            assert_eq!(
                listed.lines().filter(|l| *l == CONFIG).count(),
                count,
                "{dir:?}: {listed}"
            );
        }
        assert_eq!(
            fs::read(etcfs.mnt().join("sub").join(CONFIG)).expect("read"),
            b"ordinary"
        );
        assert_eq!(text(etcfs), "");
        assert_eq!(
            fs::read(etcfs.local().join(CONFIG)).expect("read"),
            b"hidden"
        );
        fs::remove_file(etcfs.mnt().join("sub").join(CONFIG)).expect("remove");
    });
}

#[test]
fn d24_its_attributes_are_fixed_and_its_size_is_what_a_read_returns() {
    served(|_, etcfs| {
        etcfs
            .write_config(&[
                "add_global /passwd",
                "add_override symlink /localtime ../usr/share/x",
            ])
            .expect("write");
        let expected = "global /passwd\noverride symlink /localtime ../usr/share/x\n";
        assert_eq!(text(etcfs), expected);
        for user in [User::plain(0), User::plain(1000)] {
            let stat = as_user(&user, || {
                statat(CWD, config(etcfs), AtFlags::SYMLINK_NOFOLLOW)
            })
            .expect("stat");
            assert_eq!(
                (stat.st_mode, stat.st_uid, stat.st_gid, stat.st_nlink),
                (0o100_600, 0, 0, 1)
            );
            assert_eq!(stat.st_size as usize, expected.len());
            assert_ne!(stat.st_ino, 0);
        }
        let at = config(etcfs);
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        let refused = [
            fs::set_permissions(&at, permissions),
            std::os::unix::fs::chown(&at, Some(1), None),
            fs::File::open(&at).and_then(|f| f.set_modified(std::time::SystemTime::UNIX_EPOCH)),
            fs::remove_file(&at),
            fs::rename(&at, etcfs.mnt().join("x")),
            fs::hard_link(&at, etcfs.mnt().join("x")),
            fs::write(etcfs.mnt().join("y"), "")
                .and_then(|()| fs::rename(etcfs.mnt().join("y"), &at)),
        ];
        for (n, result) in refused.into_iter().enumerate() {
            assert_eq!(result.map_err(errno), Err(Errno::PERM), "change {n}");
        }
        for result in [fs::create_dir(&at), std::os::unix::fs::symlink("x", &at)] {
            assert_eq!(result.map_err(errno), Err(Errno::EXIST));
        }
        assert_eq!(text(etcfs), expected);
    });
}

#[test]
fn d24_only_uid_0_opens_it_whatever_the_capabilities() {
    served(|_, etcfs| {
        let all = CapabilitySet::all();
        for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
            assert!(open(etcfs, flags).is_ok());
            for user in [User::plain(1000), User::plain(1000).with(all)] {
                let result = as_user(&user, || open(etcfs, flags).map(drop));
                assert_eq!(result, Err(Errno::ACCESS), "{flags:?} as {user:?}");
            }
        }
    });
}

#[test]
fn d26_every_way_of_opening_appends_and_truncate_alone_is_refused() {
    served(|_, etcfs| {
        let mut expected = String::new();
        for (n, flags) in [
            OFlags::WRONLY,
            OFlags::WRONLY | OFlags::APPEND,
            OFlags::WRONLY | OFlags::TRUNC,
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC,
            OFlags::RDWR | OFlags::APPEND | OFlags::SYNC,
        ]
        .into_iter()
        .enumerate()
        {
            let line = format!("add_global /file{n}\n");
            let fd = open(etcfs, flags).expect("open");
            assert_eq!(rustix::io::write(&fd, line.as_bytes()), Ok(line.len()));
            rustix::fs::fsync(&fd).expect("fsync");
            expected += &format!("global /file{n}\n");
            assert_eq!(text(etcfs), expected);
        }
        let fd = open(etcfs, OFlags::RDWR).expect("open");
        assert_eq!(
            rustix::io::pwrite(&fd, b"add_global /far\n", 1 << 40),
            Ok(16),
            "at any offset"
        );
        assert_eq!(rustix::fs::ftruncate(&fd, 0), Err(Errno::INVAL));
        let done = Command::new("truncate")
            .args(["-s", "0"])
            .arg(config(etcfs))
            .stderr(Stdio::null())
            .status();
        assert!(!done.expect("run truncate").success());
        for command in [
            "echo add_global /shell > \"$0\"",
            "printf 'rm_global /far\\n' >> \"$0\"",
        ] {
            let done = Command::new("sh")
                .args(["-c", command])
                .arg(config(etcfs))
                .status();
            assert!(done.expect("run sh").success(), "{command}");
        }
        assert_eq!(text(etcfs), expected + "global /shell\n");
    });
}

#[test]
fn d25_d45_reading_ends_and_pieces_of_any_size_make_up_the_whole() {
    served(|_, etcfs| {
        let lines: Vec<_> = (0..300)
            .map(|n| format!("add_global /some/directory/file-number-{n}"))
            .collect();
        etcfs.write_config(&lines).expect("write");
        let whole = text(etcfs);
        assert_eq!(whole.lines().count(), 300);
        let cat = Command::new("cat")
            .arg(config(etcfs))
            .output()
            .expect("run cat");
        assert_eq!(String::from_utf8(cat.stdout).expect("UTF-8"), whole);
        for size in [1, 7, 4096, 65536] {
            let fd = open(etcfs, OFlags::RDONLY).expect("open");
            let mut got = Vec::new();
            let mut piece = vec![0; size];
            while let Ok(n @ 1..) = rustix::io::read(&fd, &mut piece[..]) {
                got.extend_from_slice(&piece[..n]);
                if size == 1 && got.len() > 2000 {
                    break;
                }
            }
            assert!(
                whole.as_bytes().starts_with(&got) && (size == 1 || got.len() == whole.len()),
                "in pieces of {size}"
            );
            assert_eq!(
                rustix::io::pread(&fd, &mut piece[..], whole.len() as u64),
                Ok(0)
            );
            assert_eq!(rustix::io::pread(&fd, &mut piece[..], 1 << 50), Ok(0));
        }
        for awk in ["gawk", "mawk", "busybox awk"] {
            let program =
                "BEGIN { while ((getline line < ARGV[1]) > 0) n++; close(ARGV[1]); print n }";
            let mut words = awk.split(' ');
            let output = Command::new(words.next().expect("a word"))
                .args(words)
                .arg(program)
                .arg(config(etcfs))
                .output();
            let output = output
                .unwrap_or_else(|e| panic!("run {awk} (apt packages gawk, mawk, busybox): {e}"));
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim(),
                "300",
                "{awk}"
            );
        }
    });
}

#[test]
fn d27_d28_d33_commands_answer_their_whole_length_and_do_nothing_twice() {
    served(|env, etcfs| {
        let source = env.scratch().join("source");
        fs::write(&source, "# injected\n").expect("write");
        let inject = format!("/profile {}", source.display());
        let inject_line = format!("add_override inject {inject}\n");
        let rows: &[(&str, &str)] = &[
            ("add_global /passwd\n", "global /passwd\n"),
            ("add_global /passwd\n", "global /passwd\n"),
            ("rm_global /absent\n", "global /passwd\n"),
            (
                "add_override directory /zsh x\n",
                "global /passwd\noverride directory /zsh x\n",
            ),
            (
                "add_override directory /zsh x\n",
                "global /passwd\noverride directory /zsh x\n",
            ),
            (
                "rm_override /absent\n",
                "global /passwd\noverride directory /zsh x\n",
            ),
            ("rm_override /zsh\n", "global /passwd\n"),
            ("rm_global /passwd\n", ""),
        ];
        for (line, after) in rows {
            assert_eq!(write(etcfs, line.as_bytes()), Ok(line.len()), "{line:?}");
            assert_eq!(text(etcfs), *after, "after {line:?}");
        }
        for _ in 0..3 {
            assert_eq!(write(etcfs, inject_line.as_bytes()), Ok(inject_line.len()));
            assert_eq!(text(etcfs), format!("override inject {inject}\n"));
        }
        // Its text was read when the command came: nothing depends on the source any more.
        fs::remove_file(&source).expect("remove");
        assert_eq!(text(etcfs), format!("override inject {inject}\n"));
        assert_eq!(write(etcfs, b"rm_override /profile\n"), Ok(21));
        assert_eq!(write(etcfs, inject_line.as_bytes()), Err(Errno::NOENT));
    });
}

#[test]
fn d29_d31_bad_lines_are_einval_every_time_and_change_nothing() {
    served(|env, etcfs| {
        etcfs.write_config(&["add_global /kept"]).expect("write");
        let long = format!("add_global /{}\n", "n".repeat(70_000));
        let bad: &[&[u8]] = &[
            b"rm_global \n",
            b"rm_global\n",
            b"add_global\n",
            b"add_global /\n",
            b"add_global no-slash\n",
            b"rm_global no-slash\n",
            b"add_override symlink no-slash /x\n",
            b"rm_override no-slash\n",
            b"add_global /a b\n",
            b"add_global  /two-spaces\n",
            b" add_global /space\n",
            b"ADD_GLOBAL /x\n",
            b"add_globals /x\n",
            b"add_override /x\n",
            b"add_override symlink /x\n",
            b"add_override symlink /x \n",
            b"add_override hardlink /x y\n",
            b"rm_override symlink /x\n",
            b"add_global /nul\0byte\n",
            b"nonsense\n",
            b"\n",
            b"\xff\xfe\n",
            long.as_bytes(),
        ];
        for _ in 0..3 {
            for line in bad {
                let shown = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                assert_eq!(write(etcfs, line), Err(Errno::INVAL), "{shown:?}");
                assert_eq!(text(etcfs), "global /kept\n", "after {shown:?}");
            }
        }
        for (source, errno) in [("missing", Errno::NOENT), ("", Errno::ISDIR)] {
            let line = format!(
                "add_override inject /x {}/{source}\n",
                env.scratch().display()
            );
            for _ in 0..3 {
                assert_eq!(write(etcfs, line.as_bytes()), Err(errno), "{line}");
            }
        }
        // Each with the file, what is wrong, the remedy and the writer, once.
        let said = etcfs.stderr();
        let own = format!("[{}], uid 0)", rustix::thread::gettid());
        let file = format!("etcfs: {}/{CONFIG}: line \"", etcfs.mnt().display());
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() > 60, "{said}");
        for line in lines {
            assert!(line.starts_with(&file), "{line}");
            assert_eq!(line.matches(": line \"").count(), 1, "{line}");
            assert!(line.contains(" refused: ") && line.contains("; "), "{line}");
            assert!(
                line.ends_with(&own) && !line.contains("(os error"),
                "{line}"
            );
        }
    });
}

#[test]
fn d30_several_lines_in_one_write_are_all_in_force_or_none() {
    served(|_, etcfs| {
        assert_eq!(
            write(etcfs, b"add_global /a\nadd_global /b\nadd_global /c\n"),
            Ok(42)
        );
        assert_eq!(text(etcfs), "global /a\nglobal /b\nglobal /c\n");
        assert_eq!(
            write(etcfs, b"rm_global /a\nnonsense\nadd_global /d\n"),
            Err(Errno::INVAL)
        );
        assert_eq!(text(etcfs), "global /a\nglobal /b\nglobal /c\n");
        // Split anywhere, the line counts when its newline comes.
        let line = b"add_override symlink /localtime ../usr/share/zoneinfo/UTC\n";
        for at in 1..line.len() {
            let fd = open(etcfs, OFlags::WRONLY | OFlags::APPEND).expect("open");
            assert_eq!(rustix::io::write(&fd, &line[..at]), Ok(at));
            assert_eq!(
                text(etcfs),
                "global /a\nglobal /b\nglobal /c\n",
                "begun at {at}"
            );
            assert_eq!(rustix::io::write(&fd, &line[at..]), Ok(line.len() - at));
            assert!(
                text(etcfs).ends_with("override symlink /localtime ../usr/share/zoneinfo/UTC\n")
            );
            drop(fd);
            etcfs
                .write_config(&["rm_override /localtime"])
                .expect("remove it again");
        }
        // Two handles do not mix, and what is left over at close is logged.
        let (one, two) = (open(etcfs, OFlags::WRONLY), open(etcfs, OFlags::WRONLY));
        let (one, two) = (one.expect("open"), two.expect("open"));
        assert_eq!(rustix::io::write(&one, b"add_global /o"), Ok(13));
        assert_eq!(rustix::io::write(&two, b"add_global /two\n"), Ok(16));
        assert_eq!(rustix::io::write(&one, b"ne\n"), Ok(3));
        assert_eq!(rustix::io::write(&two, b"add_global /unfinished"), Ok(22));
        drop((one, two));
        assert!(text(etcfs).ends_with("global /two\nglobal /one\n"));
        for _ in 0..200 {
            if etcfs.stderr().contains("/unfinished") {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the unfinished line is logged: {}", etcfs.stderr());
    });
}

#[test]
fn d35_every_request_sees_the_old_or_the_new_configuration() {
    served(|_, etcfs| {
        for (dir, what) in [(etcfs.local(), "local"), (etcfs.global(), "global")] {
            for name in ["a", "b"] {
                fs::write(dir.join(name), what).expect("write");
            }
        }
        etcfs.write_config(&["add_global /a"]).expect("configure");
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for _ in 0..150 {
                    assert_eq!(write(etcfs, b"rm_global /a\nadd_global /b\n"), Ok(27));
                    assert_eq!(write(etcfs, b"rm_global /b\nadd_global /a\n"), Ok(27));
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) && !writer.is_finished() {
                let all = text(etcfs);
                assert!(all == "global /a\n" || all == "global /b\n", "{all:?}");
                seen.insert(all);
                for name in ["a", "b"] {
                    let got = fs::read_to_string(etcfs.mnt().join(name)).expect("read");
                    assert!(got == "local" || got == "global", "{got:?}");
                }
                let listed = names(&etcfs.mnt());
                assert_eq!(listed.len(), 3, "{listed:?}");
            }
            assert!(!seen.is_empty());
        });
        assert_eq!(text(etcfs), "global /a\n");
    });
}
