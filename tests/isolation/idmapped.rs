//! Id-mapped mounts. The kernel makes none of the mount itself: it would tell the daemon callers' ids only where something is
//! made (`FUSE_ALLOW_IDMAP`, fs/fuse/dev.c), and never by which map, so the second gate could not know whom to ask for. What
//! works instead is a mount of its own over sides that are id-mapped, in which everything is as on a native one.

use super::DEADLINE;
use crate::harness::{Env, Etcfs, Lower, Pair, Root, User, errno, private};
use rustix::fs::{AtFlags, CWD, FlockOperation, Gid, Mode, OFlags, Uid, chmodat, chownat, statat};
use rustix::io::{Errno, Result};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a map adds to an id of the file system.
const SHIFT: u32 = 100_000;

/// A user namespace in which 0 to 65,535 are [`SHIFT`] and more outside.
fn map() -> File {
    let mut holder = Command::new("unshare")
        .args(["--user", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start unshare");
    let proc = format!("/proc/{}", holder.id());
    // It answers once it is in the namespace.
    let mut input = holder.stdin.take().expect("stdin");
    std::io::Write::write_all(&mut input, b"x").expect("write");
    let mut output = holder.stdout.take().expect("stdout");
    let mut byte = [0];
    std::io::Read::read_exact(&mut output, &mut byte).expect("read");
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("{proc}/{map}"), format!("0 {SHIFT} 65536")).expect("map");
    }
    let namespace = File::open(format!("{proc}/ns/user")).expect("open");
    drop(input);
    holder.wait().expect("wait");
    namespace
}

/// Puts an id-mapped copy of what is at `from` at `to`.
fn map_mount(from: &Path, to: &Path, map: &File) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = open_tree(CWD, from, flags)?;
    // struct mount_attr: set MOUNT_ATTR_IDMAP, clear nothing, no propagation, the namespace.
    let attr: [u64; 4] = [
        0x0010_0000,
        0,
        0,
        map.as_raw_fd().try_into().expect("a number"),
    ];
    // SAFETY: a C string and a struct of the size that is told, which live until the call returns.
    #[allow(unsafe_code)]
    let rc = unsafe {
        let (fd, path, flags) = (copy.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH);
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            path,
            flags,
            attr.as_ptr(),
            size_of_val(&attr),
        )
    };
    if rc != 0 {
        return Err(errno(std::io::Error::last_os_error()));
    }
    move_mount(&copy, "", CWD, to, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

#[test]
fn the_mount_itself_cannot_be_id_mapped() {
    private(DEADLINE, |env| {
        let map = map();
        for passthrough in [&[][..], &["passthrough"]] {
            let etcfs = start(env, Lower::Tmpfs, passthrough);
            let to = env.dir("mapped");
            assert_eq!(map_mount(&etcfs.mnt(), &to, &map), Err(Errno::INVAL));
            assert_eq!(map_mount(&etcfs.native(), &to, &map), Ok(()), "natively");
            rustix::mount::unmount(&to, rustix::mount::UnmountFlags::DETACH).expect("unmount");
            drop(etcfs);
            unmount(env);
        }
    });
}

fn start(env: &Env, lower: Lower, options: &[&str]) -> Etcfs {
    let opts = crate::harness::Opts {
        lower,
        options: options.iter().map(|&o| o.to_owned()).collect(),
        ..crate::harness::Opts::default()
    };
    Etcfs::start(env, opts)
}

fn unmount(env: &Env) {
    for at in ["fs", "below"].map(|name| env.dir(name)) {
        rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
}

/// An outcome as text. Of the refusals of an id that the map does not know, FUSE meets another one first than a native file
/// system.
fn text<T: std::fmt::Debug>(result: Result<T>) -> Result<String> {
    let result = result.map_err(|errno| match errno {
        Errno::OVERFLOW | Errno::ACCESS => Errno::PERM,
        other => other,
    });
    result.map(|value| format!("{value:?}"))
}

/// What one user does and is told in the directory `place`.
fn acts(root: &Root, place: &str, who: u32) -> Vec<(String, Result<String>)> {
    let at = |name: &str| root.join(place).join(name);
    let mine = format!("by-{who}");
    let look = |name: &str| {
        let stat = statat(CWD, at(name), AtFlags::SYMLINK_NOFOLLOW);
        text(stat.map(|s| (s.st_uid, s.st_gid, s.st_mode, s.st_size)))
    };
    let chown = |name: &str, uid: u32| {
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
        text(chownat(
            CWD,
            at(name),
            Some(uid),
            Some(gid),
            AtFlags::empty(),
        ))
    };
    let chmod = |name: &str, mode| {
        text(chmodat(
            CWD,
            at(name),
            Mode::from_raw_mode(mode),
            AtFlags::empty(),
        ))
    };
    let lock = |name: &str| {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let lock = |fd| rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive);
        text(rustix::fs::open(at(name), flags, Mode::empty()).and_then(lock))
    };
    let others = ["root", "user", "other"];
    let mut all = vec![
        (
            "create".to_owned(),
            text(fs::write(at(&mine), "text").map_err(errno)),
        ),
        ("look".to_owned(), look(&mine)),
        ("chmod".to_owned(), chmod(&mine, 0o640)),
        ("chown to root".to_owned(), chown(&mine, SHIFT)),
        ("chown to another".to_owned(), chown(&mine, SHIFT + 1001)),
        ("chown to nobody's".to_owned(), chown(&mine, 7)),
        ("lock".to_owned(), lock(&mine)),
        (
            "mkdir".to_owned(),
            text(fs::create_dir(at("dir")).map_err(errno)),
        ),
        ("look".to_owned(), look("dir")),
        (
            "rmdir".to_owned(),
            text(fs::remove_dir(at("dir")).map_err(errno)),
        ),
    ];
    for name in others {
        let name = format!("{name}-{who}");
        all.extend([
            (format!("look {name}"), look(&name)),
            (
                format!("read {name}"),
                text(fs::read(at(&name)).map_err(errno)),
            ),
            (format!("lock {name}"), lock(&name)),
            (format!("chmod {name}"), chmod(&name, 0o644)),
            (format!("chown {name}"), chown(&name, who)),
            (
                format!("unlink {name}"),
                text(fs::remove_file(at(&name)).map_err(errno)),
            ),
        ]);
    }
    all.push(("look".to_owned(), look(&mine)));
    all.push((
        "unlink".to_owned(),
        text(fs::remove_file(at(&mine)).map_err(errno)),
    ));
    all
}

/// The tree that both have, as the file system keeps it.
fn fill(dir: &Path, users: &[User]) {
    for (name, owner, mode) in [
        ("open", 0, 0o1777),
        ("users", 1000, 0o755),
        ("roots", 0, 0o755),
    ] {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).expect("mkdir");
        for user in users {
            for (name, uid, mode) in [
                ("root", 0, 0o600),
                ("user", 1000, 0o640),
                ("other", 1001, 0o666),
            ] {
                let file = dir.join(format!("{name}-{}", user.uid));
                fs::write(&file, "x").expect("write");
                own(&file, uid, mode);
            }
        }
        own(&dir, owner, mode);
    }
}

fn own(path: &Path, uid: u32, mode: u32) {
    std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("chown");
    chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty()).expect("chmod");
}

#[test]
fn sides_may_be_id_mapped_and_all_is_as_on_an_id_mapped_native_file_system() {
    for lower in [Lower::Tmpfs, Lower::Ext4] {
        private(DEADLINE, move |env| {
            let map = map();
            let users = [0, SHIFT, SHIFT + 1000, SHIFT + 1001, 1000].map(User::plain);
            for passthrough in [&[][..], &["passthrough"]] {
                let plain = env.dir("plain");
                lower.mount(env, &plain).expect("mount");
                for dir in ["etc", "global/glo", "native", "native/glo"] {
                    fs::create_dir_all(plain.join(dir)).expect("mkdir");
                    fill(&plain.join(dir), &users);
                }
                let mapped = env.dir("mapped");
                map_mount(&plain, &mapped, &map).expect("map");
                let mnt = mapped.join("etc");
                let list = [&["allow_other", "stratum=here"], passthrough]
                    .concat()
                    .join(",");
                let list = format!("{list},global={}", mapped.join("global").display());
                let mut daemon = Command::new(env!("CARGO_BIN_EXE_etcfs"));
                let started = daemon
                    .args(["-o", &list])
                    .arg(&mnt)
                    .status()
                    .expect("start");
                assert!(started.success());
                let config = mnt.join(crate::harness::CONFIG);
                fs::write(&config, "add_global /glo\n").expect("configure");
                let mut pair = Pair::new(&mnt, &mapped.join("native"));
                for user in &users {
                    for place in [
                        "open",
                        "users",
                        "roots",
                        "glo/open",
                        "glo/users",
                        "glo/roots",
                    ] {
                        let native = pair.each_as(user, |root| acts(root, place, user.uid));
                        if (user.uid, place) == (SHIFT + 1000, "users") {
                            assert_eq!(native[0].1, Ok("()".to_owned()), "its own directory");
                            assert!(native[1].1.as_ref().is_ok_and(|ids| ids.contains("101000")));
                        }
                    }
                }
                pair.finish();
                for at in [&mnt, &mapped, &plain] {
                    let flags = rustix::mount::UnmountFlags::DETACH;
                    rustix::mount::unmount(at, flags).expect("unmount");
                }
            }
        });
    }
}
