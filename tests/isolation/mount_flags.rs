//! The flags of the lower mounts hold through the mount: what cannot be executed or written natively cannot be through it.

use super::DEADLINE;
use crate::harness::{Bases, Env, Etcfs, Lower, Opts, Pair, Root, User, as_user, errno, private};
use rustix::fs::{AtFlags, CWD, Mode, chmodat, fallocate, utimensat};
use rustix::io::{Errno, Result};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use rustix::mount::{MountFlags, mount_remount};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program in `dir` that uid 1000 owns.
fn program(dir: &Path) -> PathBuf {
    let at = dir.join("program");
    fs::copy("/bin/true", &at).expect("copy");
    fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).expect("chmod");
    std::os::unix::fs::chown(&at, Some(1000), Some(1000)).expect("chown");
    at
}

/// What uid 1000 gets for running a program, and for mapping it as code.
fn run_and_map(program: &Path) -> [Result<()>; 2] {
    as_user(&User::plain(1000), || {
        let ran = Command::new(program).status().map(drop).map_err(errno);
        let file = fs::File::open(program).expect("open");
        let (protection, flags) = (ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE);
        // SAFETY: a new mapping that nobody uses.
        #[allow(unsafe_code)]
        let mapped = unsafe { mmap(std::ptr::null_mut(), 4096, protection, flags, &file, 0) };
        [ran, mapped.map(drop)]
    })
}

fn remount(at: &Path, flags: MountFlags) {
    let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | flags;
    mount_remount(at, flags, c"").expect("remount");
}

/// The mounts that the local and the global directory lie on.
fn lower_mounts(bases: &Bases) -> [PathBuf; 2] {
    [bases.mnt(), bases.global()].map(|dir| dir.parent().expect("a directory above").to_owned())
}

/// A daemon with these options and a global name, `glo`.
pub fn start(env: &Env, bases: &Bases, options: &[&str]) -> Etcfs {
    let opts = Opts {
        options: options.iter().map(|&o| o.to_owned()).collect(),
        config: vec!["add_global /glo".to_owned()],
        ..Opts::default()
    };
    Etcfs::serve(env, bases.clone(), opts)
}

#[test]
fn nothing_on_a_noexec_side_runs_through_the_mount() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::create_dir(bases.global().join("glo")).expect("mkdir");
        let places = [bases.mnt(), bases.global().join("glo")].map(|dir| program(&dir));
        let shown = [bases.mnt().join("program"), bases.mnt().join("glo/program")];
        for (side, lower) in lower_mounts(&bases).iter().enumerate() {
            remount(lower, MountFlags::NOEXEC);
            assert_eq!(
                run_and_map(&places[side]),
                [Err(Errno::ACCESS), Err(Errno::PERM)],
                "natively"
            );
            // Whatever the options say, and by whichever way it is mounted.
            for options in [&[][..], &["passthrough"], &["exec"], &["mount=fusermount3"]] {
                let etcfs = start(env, &bases, options);
                let mounted = etcfs.mount().expect("mounted").options;
                assert!(mounted.contains("noexec"), "{options:?}: {mounted}");
                for program in &shown {
                    let told = run_and_map(program);
                    let what = format!("{options:?}, {}", program.display());
                    assert_eq!(told, [Err(Errno::ACCESS), Err(Errno::PERM)], "{what}");
                }
            }
            remount(lower, MountFlags::empty());
        }
        let etcfs = start(env, &bases, &[]);
        assert!(!etcfs.mount().expect("mounted").options.contains("noexec"));
        for program in &shown {
            assert_eq!(run_and_map(program), [Ok(()), Ok(())]);
        }
    });
}

#[test]
fn noexec_beneath_another_etcfs_is_found_too() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        program(&bases.mnt());
        remount(&lower_mounts(&bases)[0], MountFlags::NOEXEC);
        let _beneath = start(env, &bases, &[]);
        let etcfs = start(env, &bases, &[]);
        let told = run_and_map(&etcfs.mnt().join("program"));
        assert_eq!(told, [Err(Errno::ACCESS), Err(Errno::PERM)]);
    });
}

/// A mount within a base directory, and one that gets its flags later, cannot make the whole mount noexec; execve(2) is
/// refused all the same, by the daemon.
#[test]
fn nothing_is_run_from_a_noexec_mount_within_a_side() {
    private(DEADLINE, |env| {
        for options in [&[][..], &["passthrough"]] {
            let bases = Bases::new(env, Lower::Tmpfs);
            let inner = bases.mnt().join("inner");
            fs::create_dir(&inner).expect("mkdir");
            rustix::mount::mount("t", &inner, "tmpfs", MountFlags::NOEXEC, c"mode=0755")
                .expect("mount");
            let [in_it, beside] = [program(&inner), program(&bases.mnt())];
            assert_eq!(run_and_map(&in_it)[0], Err(Errno::ACCESS), "natively");
            let etcfs = start(env, &bases, options);
            assert_eq!(run_and_map(&in_it)[0], Err(Errno::ACCESS), "{options:?}");
            assert_eq!(run_and_map(&beside), [Ok(()), Ok(())], "{options:?}");
            let [local, _] = lower_mounts(&bases);
            remount(&local, MountFlags::NOEXEC);
            assert_eq!(run_and_map(&beside)[0], Err(Errno::ACCESS), "{options:?}");
            remount(&local, MountFlags::empty());
            assert_eq!(run_and_map(&beside), [Ok(()), Ok(())], "{options:?}");
            drop(etcfs);
            for at in lower_mounts(&bases) {
                rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
            }
        }
    });
}

/// Everything that changes something below a root, with what came of it.
fn changes(root: &Root) -> Vec<(String, Result<String>)> {
    let path = |name: &str| root.join(name);
    let write = |name: &str| {
        let file = fs::OpenOptions::new().write(true).open(path(name));
        file.map(drop).map_err(errno)
    };
    let file = path("file");
    let calls: Vec<(&str, Result<()>)> = vec![
        ("open to write", write("file")),
        ("create", fs::write(path("new"), "x").map_err(errno)),
        ("mkdir", fs::create_dir(path("newdir")).map_err(errno)),
        ("unlink", fs::remove_file(&file).map_err(errno)),
        ("rmdir", fs::remove_dir(path("dir")).map_err(errno)),
        ("rename", fs::rename(&file, path("x")).map_err(errno)),
        ("link", fs::hard_link(&file, path("y")).map_err(errno)),
        (
            "symlink",
            std::os::unix::fs::symlink("a", path("z")).map_err(errno),
        ),
        ("chmod", chmodat(CWD, &file, Mode::RUSR, AtFlags::empty())),
        (
            "chown",
            std::os::unix::fs::chown(&file, Some(1), Some(1)).map_err(errno),
        ),
        (
            "utimes",
            utimensat(
                CWD,
                &file,
                &rustix::fs::Timestamps {
                    last_access: rustix::fs::Timespec {
                        tv_sec: 1,
                        tv_nsec: 1,
                    },
                    last_modification: rustix::fs::Timespec {
                        tv_sec: 1,
                        tv_nsec: 1,
                    },
                },
                AtFlags::empty(),
            ),
        ),
        (
            "setxattr",
            rustix::fs::setxattr(&file, "user.a", b"1", rustix::fs::XattrFlags::empty()),
        ),
        (
            "fallocate",
            fs::File::open(&file)
                .map_err(errno)
                .and_then(|file| fallocate(file, rustix::fs::FallocateFlags::empty(), 0, 10)),
        ),
        (
            "truncate",
            rustix::fs::open(
                &file,
                rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::TRUNC,
                Mode::empty(),
            )
            .map(drop),
        ),
    ];
    calls
        .into_iter()
        .map(|(what, came)| (what.to_owned(), came.map(|()| String::new())))
        .collect()
}

/// A read-only side refuses each change by itself, at that moment: the mount as a whole is not read-only, or the other side
/// and the configuration could not be written, and a root that is remounted for writing later would not come back.
#[test]
fn a_read_only_side_refuses_what_it_refuses_natively_and_the_other_side_is_written() {
    private(DEADLINE, |env| {
        for options in [&[][..], &["passthrough"]] {
            let bases = Bases::new(env, Lower::Tmpfs);
            fs::create_dir(bases.global().join("glo")).expect("mkdir");
            for dir in [bases.mnt(), bases.global().join("glo")] {
                fs::write(dir.join("file"), "x").expect("write");
                fs::create_dir(dir.join("dir")).expect("mkdir");
            }
            let [local, global] = lower_mounts(&bases);
            let etcfs = {
                remount(&global, MountFlags::RDONLY);
                start(env, &bases, options)
            };
            let [mount, native] = [bases.mnt(), bases.global()].map(|dir| dir.join("glo"));
            let mut pair = Pair::new(&mount, &native);
            for (what, native) in pair.each_as(&User::plain(0), changes) {
                let expected = if what == "fallocate" {
                    Errno::BADF
                } else {
                    Errno::ROFS
                };
                assert_eq!(native, Err(expected), "{what}");
            }
            // The mount's own check comes first here, so the reason may be another one.
            let root = Root::open(&mount);
            for (what, came) in as_user(&User::plain(1000), || changes(&root)) {
                came.expect_err(&what);
            }
            pair.finish();
            let mnt = bases.mnt();
            fs::write(mnt.join("made"), "x").expect("the local side can be written");
            etcfs
                .write_config(&["add_global /more"])
                .expect("so can the configuration");
            let across = fs::rename(mnt.join("made"), mnt.join("glo/made")).map_err(errno);
            assert_eq!(across, Err(Errno::ROFS));
            drop(etcfs);

            remount(&local, MountFlags::RDONLY);
            let etcfs = start(env, &bases, options);
            assert_eq!(
                fs::write(mnt.join("made"), "y").map_err(errno),
                Err(Errno::ROFS)
            );
            remount(&local, MountFlags::empty());
            fs::write(mnt.join("made"), "y").expect("remounted for writing");
            drop(etcfs);
            remount(&global, MountFlags::empty());
            for at in [&local, &global] {
                rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
            }
        }
    });
}
