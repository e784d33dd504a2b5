//! `-o dev` and `-o suid`: what a native mount gives, and nothing that a user could make up.

use super::DEADLINE;
use super::mount_flags::start;
use crate::harness::{Bases, Lower, User, as_user, errno, private};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, makedev, mknodat, openat, statat};
use rustix::io::{Errno, Result};
use rustix::mount::{MountFlags, mount};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program that tells its effective user and group, with this owner and mode.
fn program(at: &Path, (uid, gid): (u32, u32), mode: u32) -> PathBuf {
    fs::copy("/usr/bin/python3", at).expect("copy");
    chown(at, Some(uid), Some(gid)).expect("chown");
    fs::set_permissions(at, fs::Permissions::from_mode(mode)).expect("chmod");
    at.to_owned()
}

/// The effective ids that uid 1000 gets by running it.
fn ids_of(program: &Path) -> Result<String> {
    as_user(&User::plain(1000), || {
        let tell = "import os; print(os.geteuid(), os.getegid())";
        let run = Command::new(program).args(["-I", "-c", tell]).output();
        let said = run.map_err(errno)?.stdout;
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    })
}

fn device(at: &Path) -> PathBuf {
    let mode = Mode::from_raw_mode(0o666);
    mknodat(CWD, at, FileType::CharacterDevice, mode, makedev(1, 5)).expect("mknod");
    fs::set_permissions(at, fs::Permissions::from_mode(0o666)).expect("chmod");
    at.to_owned()
}

/// What a user reads of /dev/zero's second name.
fn zero_of(device: &Path) -> Result<u8> {
    as_user(&User::plain(1000), || {
        let file = openat(CWD, device, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut byte = [7];
        rustix::io::read(&file, &mut byte)?;
        Ok(byte[0])
    })
}

/// The native neighbour, on a mount that has neither flag, as the scratch directory.
fn natively(bases: &Bases) -> PathBuf {
    bases.mnt().parent().expect("above").join("native")
}

#[test]
fn devices_open_and_programs_give_ids_where_root_says_so_and_only_there() {
    for lower in [Lower::Tmpfs, Lower::Ext4] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, lower);
            fs::create_dir(bases.global().join("glo")).expect("mkdir");
            for dir in [bases.mnt(), bases.global().join("glo"), natively(&bases)] {
                device(&dir.join("zero"));
                program(&dir.join("set-user"), (0, 0), 0o4755);
                program(&dir.join("set-group"), (0, 4), 0o2755);
                program(&dir.join("plain"), (0, 0), 0o755);
            }
            let native = natively(&bases);
            assert_eq!(zero_of(&native.join("zero")), Ok(0));
            let names = ["set-user", "set-group", "plain"];
            let expected = names.map(|name| ids_of(&native.join(name)));
            let both = ["0 1000", "1000 4", "1000 1000"].map(|ids| Ok(ids.to_owned()));
            assert_eq!(expected, both);
            let neither = [(); 3].map(|()| Ok("1000 1000".to_owned()));
            for passthrough in [&[][..], &["passthrough"]] {
                for (given, dev, suid) in [
                    (&[][..], false, false),
                    (&["dev"], true, false),
                    (&["suid"], false, true),
                    (&["dev", "suid"], true, true),
                    (&["dev", "suid", "nodev", "nosuid"], false, false),
                    (&["dev", "suid", "mount=fusermount3"], true, true),
                ] {
                    let etcfs = start(env, &bases, &[given, passthrough].concat());
                    let shown = etcfs.mount().expect("mounted").options;
                    assert_eq!(!shown.contains("nodev"), dev, "{given:?}: {shown}");
                    assert_eq!(!shown.contains("nosuid"), suid, "{given:?}: {shown}");
                    for dir in [bases.mnt(), bases.mnt().join("glo")] {
                        let zero = if dev { Ok(0) } else { Err(Errno::ACCESS) };
                        let what = format!("{given:?}, {passthrough:?}, {}", dir.display());
                        assert_eq!(zero_of(&dir.join("zero")), zero, "{what}");
                        let ids = if suid { &expected } else { &neither };
                        let told = names.map(|name| ids_of(&dir.join(name)));
                        assert_eq!(&told, ids, "{what}");
                    }
                }
            }
        });
    }
}

/// A file system within a side may be a user's own, with the files of his choice.
#[test]
fn what_is_mounted_within_a_side_gives_nothing() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let inner = bases.mnt().join("inner");
        fs::create_dir(&inner).expect("mkdir");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount("users", &inner, "tmpfs", flags, c"mode=0755").expect("mount");
        program(&inner.join("set-user"), (0, 0), 0o4755);
        program(&inner.join("set-group"), (0, 4), 0o2755);
        program(&inner.join("capable"), (0, 0), 0o755);
        give_capabilities(&inner.join("capable"));
        device(&inner.join("zero"));
        let names = ["set-user", "set-group", "capable"];
        let native = names.map(|name| ids_of(&inner.join(name)));
        for options in [&["dev", "suid"][..], &["dev", "suid", "passthrough"]] {
            let etcfs = start(env, &bases, options);
            let inner = etcfs.mnt().join("inner");
            assert_eq!(names.map(|name| ids_of(&inner.join(name))), native);
            assert_eq!(
                capabilities_of(&inner.join("capable")),
                Ok("0000000000000000".to_owned())
            );
            zero_of(&inner.join("zero")).expect_err("no device");
            let mode = statat(CWD, inner.join("set-user"), AtFlags::empty())
                .expect("stat")
                .st_mode;
            assert_eq!(mode & 0o7777, 0o755);
        }
    });
}

/// The mark for CAP_NET_RAW, effective and permitted (`struct vfs_cap_data`, version 2).
fn give_capabilities(at: &Path) {
    let mut value = [0_u8; 20];
    value[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    value[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(at, "security.capability", &value, flags).expect("setxattr");
}

/// The effective capabilities that uid 1000 gets by running it.
fn capabilities_of(program: &Path) -> Result<String> {
    as_user(&User::plain(1000), || {
        let tell = "print([l for l in open('/proc/self/status') if l.startswith('CapEff')][0])";
        let run = Command::new(program).args(["-I", "-c", tell]).output();
        let said = String::from_utf8_lossy(&run.map_err(errno)?.stdout).into_owned();
        Ok(said.trim().trim_start_matches("CapEff:").trim().to_owned())
    })
}

/// The kernel would run what somebody writes at this moment with the ids that it was told of a moment before.
#[test]
fn programs_that_others_may_write_are_not_run_with_their_ids() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let dir = bases.mnt();
        for (name, ids, mode) in [
            ("group writes", (0, 1000), 0o4775),
            ("all write", (0, 0), 0o4757),
            ("its owner writes", (1000, 4), 0o2755),
            ("capable", (1000, 1000), 0o755),
        ] {
            program(&dir.join(name), ids, mode);
        }
        program(&dir.join("right"), (0, 0), 0o755);
        program(&dir.join("own"), (1001, 1001), 0o4755);
        for name in ["capable", "right"] {
            give_capabilities(&dir.join(name));
        }
        let etcfs = start(env, &bases, &["suid"]);
        for name in ["group writes", "all write", "its owner writes", "capable"] {
            assert_eq!(
                ids_of(&etcfs.mnt().join(name)),
                Err(Errno::ACCESS),
                "{name}"
            );
        }
        let right = capabilities_of(&etcfs.mnt().join("right"));
        assert_eq!(right, Ok("0000000000002000".to_owned()));
        assert_eq!(ids_of(&etcfs.mnt().join("own")), Ok("1001 1000".to_owned()));
    });
}

/// Ids that a file gave when it was pinned are not those that it gives when it is run through the pin.
#[test]
fn ids_that_were_taken_away_beneath_are_not_given_through_a_pin() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let lower = env.dir("beneath");
        rustix::mount::mount_bind(bases.mnt(), &lower).expect("bind");
        let etcfs = start(env, &bases, &["suid"]);
        for round in 0..20 {
            let name = format!("program{round}");
            program(&lower.join(&name), (0, 0), 0o4755);
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let pin = openat(CWD, etcfs.mnt().join(&name), flags, Mode::empty()).expect("pin");
            let through = PathBuf::from(format!("/proc/self/fd/{}", pin.as_raw_fd()));
            statat(CWD, &through, AtFlags::empty()).expect("stat");
            chown(lower.join(&name), Some(1000), Some(1000)).expect("chown");
            if let Ok(ids) = ids_of(&through) {
                assert_eq!(ids, "1000 1000", "round {round}");
            }
            assert_eq!(ids_of(&etcfs.mnt().join(&name)), Ok("1000 1000".to_owned()));
        }
    });
}
