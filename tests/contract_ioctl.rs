//! The inode flags of chattr(1) and the attributes of project quotas, with native permission rules (contract B18).

mod harness;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etcfs::sys::fileattr::{get_flags, get_xattr, set_flags, set_xattr};
use harness::{CONFIG, Env, Etcfs, Lower, Opts, Pair, Root, User, errno, private, run};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

const DEADLINE: Duration = Duration::from_secs(90);

/// `FS_*_FL` of `include/uapi/linux/fs.h`.
const SYNC: u32 = 0x8;
const IMMUTABLE: u32 = 0x10;
const APPEND: u32 = 0x20;
const NODUMP: u32 = 0x40;
const NOATIME: u32 = 0x80;
const DIRSYNC: u32 = 0x1_0000;
/// Contents go through the journal, too.
const JOURNAL_DATA: u32 = 0x4000;
/// What a test sets; the rest is the file system's own.
const OURS: u32 = SYNC | IMMUTABLE | APPEND | NODUMP | NOATIME | DIRSYNC | JOURNAL_DATA;

/// The same file and directory, of root and of uid 1000, on a mount over ext4 and natively.
fn trees(env: &Env) -> (Etcfs, Pair) {
    let opts = Opts {
        lower: Lower::Ext4,
        ..Opts::default()
    };
    let etcfs = Etcfs::start(env, opts);
    for base in [etcfs.local(), etcfs.native()] {
        for (name, uid) in [("roots", 0), ("users", 1000)] {
            let (file, dir) = (base.join(name), base.join(format!("{name}.d")));
            fs::write(&file, "x").expect("write");
            fs::create_dir(&dir).expect("mkdir");
            for path in [file, dir] {
                std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("chown");
            }
        }
    }
    let pair = Pair::of(&etcfs);
    (etcfs, pair)
}

fn open(root: &Root, name: &str) -> rustix::io::Result<File> {
    File::open(root.join(name)).map_err(errno)
}

/// Sets and clears flags of an object, and says which of ours are set then.
fn change(root: &Root, name: &str, on: u32, off: u32) -> rustix::io::Result<u32> {
    let file = open(root, name)?;
    let flags = get_flags(&file)?;
    set_flags(&file, (flags | on) & !off)?;
    get_flags(&file).map(|flags| flags & OURS)
}

#[test]
fn flags_change_as_natively_for_everyone_b18() {
    private(DEADLINE, |env| {
        let (etcfs, mut pair) = trees(env);
        let users = [
            User::plain(0),
            User::plain(1000),
            User::plain(1001),
            User::plain(1001).with(CapabilitySet::FOWNER),
            User::plain(1001).with(CapabilitySet::FOWNER | CapabilitySet::LINUX_IMMUTABLE),
            User::root_without(CapabilitySet::LINUX_IMMUTABLE),
            User::root_without(CapabilitySet::FOWNER),
        ];
        let mut answers = Vec::new();
        for user in &users {
            for name in ["roots", "users", "roots.d", "users.d"] {
                for flag in [SYNC, NODUMP, NOATIME, IMMUTABLE, APPEND] {
                    let on = pair.same_as(user, &format!("{name} +{flag:x}"), |root| {
                        change(root, name, flag, 0)
                    });
                    let off = pair.same_as(user, &format!("{name} -{flag:x}"), |root| {
                        change(root, name, 0, flag)
                    });
                    answers.push((on.is_ok(), off.is_ok()));
                }
            }
        }
        // Allowed and refused cases are both among them.
        assert!(answers.contains(&(true, true)) && answers.contains(&(false, false)));
        pair.finish();
        assert!(etcfs.mount().is_some());
    });
}

/// ext4's own rule, which the kernel does not check above a FUSE mount.
#[test]
fn data_journalling_takes_a_privileged_user() {
    private(DEADLINE, |env| {
        let (_etcfs, mut pair) = trees(env);
        let mut journal = |user: &User| {
            pair.same_as(user, "journal", |root| {
                change(root, "users", JOURNAL_DATA, 0)
            })
        };
        assert_eq!(journal(&User::plain(1000)), Err(Errno::PERM));
        // Root succeeds where it holds CAP_SYS_RESOURCE, which containers are often started without.
        let _ = journal(&User::plain(0));
        pair.finish();
    });
}

#[test]
fn an_immutable_file_resists_as_natively() {
    private(DEADLINE, |env| {
        let (_etcfs, mut pair) = trees(env);
        for (flag, name) in [(IMMUTABLE, "users"), (APPEND, "roots")] {
            pair.same("set", |root| change(root, name, flag, 0))
                .expect("root may");
            let call =
                |pair: &mut Pair, what: &str, call: &dyn Fn(&Path) -> std::io::Result<()>| {
                    let answer = pair.same(&format!("{what} {flag:x}"), |root| {
                        call(&root.join(name)).map_err(errno)
                    });
                    answer.is_err()
                };
            assert!(call(&mut pair, "write", &|p| fs::write(p, "y")));
            assert!(call(&mut pair, "remove", &|p| fs::remove_file(p)));
            assert!(call(&mut pair, "rename", &|p| fs::rename(
                p,
                p.with_extension("new")
            )));
            assert!(call(&mut pair, "link", &|p| fs::hard_link(
                p,
                p.with_extension("new")
            )));
            assert!(call(&mut pair, "chown", &|p| std::os::unix::fs::chown(
                p,
                Some(7),
                None
            )));
            call(&mut pair, "append", &|p| {
                use std::io::Write as _;
                fs::OpenOptions::new().append(true).open(p)?.write_all(b"z")
            });
            pair.same("clear", |root| change(root, name, 0, flag))
                .expect("root may");
            assert!(!call(&mut pair, "write", &|p| fs::write(p, "y")));
        }
        pair.same_trees();
        pair.finish();
    });
}

#[test]
fn project_attributes_are_the_lower_files() {
    private(DEADLINE, |env| {
        let (_etcfs, mut pair) = trees(env);
        for name in ["users", "users.d"] {
            for user in [User::plain(0), User::plain(1000), User::plain(1001)] {
                let answer = pair.same_as(&user, &format!("{name} xattr"), |root| {
                    let file = open(root, name)?;
                    let mut attributes = get_xattr(&file)?;
                    // FS_XFLAG_NODUMP
                    attributes[0] |= 0x80;
                    set_xattr(&file, attributes)?;
                    get_xattr(&file)
                });
                assert_eq!(answer.is_ok(), user.uid != 1001, "{answer:?}");
            }
        }
        pair.finish();
    });
}

/// `lsattr` and `chattr` as a user runs them, and what NetworkManager asks of resolv.conf (Bedrock issue 69).
#[test]
fn lsattr_and_chattr_work() {
    private(DEADLINE, |env| {
        let (etcfs, _pair) = trees(env);
        let file = etcfs.mnt().join("roots");
        run(Command::new("chattr").arg("+i").arg(&file)).expect("chattr +i");
        let listed = Command::new("lsattr")
            .arg(&file)
            .output()
            .expect("lsattr(1)");
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(listed.starts_with("----i"), "{listed}");
        assert_eq!(fs::write(&file, "y").map_err(errno), Err(Errno::PERM));
        run(Command::new("chattr").arg("-i").arg(&file)).expect("chattr -i");
        fs::write(&file, "y").expect("write");
        run(Command::new("lsattr").arg("-d").arg(etcfs.mnt())).expect("lsattr of the root");
    });
}

#[test]
fn other_ioctls_are_enotty() {
    private(DEADLINE, |env| {
        let (etcfs, _pair) = trees(env);
        let answer = |path: &Path, command: libc::Ioctl| {
            let file = File::open(path).expect("open");
            let mut data = [0_u64; 64];
            // SAFETY: the commands transfer at most as many bytes as their number says, fewer than `data` has.
            #[allow(unsafe_code)]
            let result = unsafe { libc::ioctl(file.as_raw_fd(), command, data.as_mut_ptr()) };
            let error = std::io::Error::last_os_error();
            (result, Errno::from_io_error(&error))
        };
        let enotty = (-1, Some(Errno::NOTTY));
        // FS_IOC_GETVERSION, FUSE_DEV_IOC_CLONE's number, a made-up one that reads and writes.
        for command in [0x8008_7601, 0x8004_e500, 0xc008_ff01] {
            for name in ["roots", "roots.d"] {
                let path = etcfs.mnt().join(name);
                assert_eq!(answer(&path, command), enotty, "{name} {command:x}");
            }
        }
        let config = File::open(etcfs.mnt().join(CONFIG)).expect("open");
        assert_eq!(get_flags(&config), Err(Errno::NOTTY));
    });
}
