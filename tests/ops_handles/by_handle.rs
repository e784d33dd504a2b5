//! File handles lead back to an object for as long as it exists, whatever the kernel has forgotten, and nowhere else.

use crate::harness::{
    Env, Etcfs, Lower, Opts, Pair, User, as_user, errno, forget_names, private, stats,
};
use crate::{DEADLINE, contents};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::{Errno, Result};
use std::fs;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `struct file_handle`, with room for any.
#[repr(C, align(8))]
#[derive(Clone)]
struct Handle {
    len: u32,
    kind: i32,
    bytes: [u8; 128],
}

/// The handle of what is at `path`, a symlink itself.
fn handle_of(path: &Path) -> Result<Handle> {
    let path = crate::harness::c_path(path);
    let mut handle = Handle {
        len: 128,
        kind: 0,
        bytes: [0; 128],
    };
    let mut mount = 0;
    // SAFETY: a C string, a handle with room for `len` bytes, and an int.
    #[allow(unsafe_code)]
    let rc = unsafe {
        let handle = (&raw mut handle).cast();
        libc::name_to_handle_at(libc::AT_FDCWD, path.as_ptr(), handle, &raw mut mount, 0)
    };
    match rc {
        0 => Ok(handle),
        _ => Err(errno(std::io::Error::last_os_error())),
    }
}

fn open(mount: &Path, handle: &Handle, flags: OFlags) -> Result<OwnedFd> {
    let at = openat(CWD, mount, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut handle = handle.clone();
    let flags = (flags | OFlags::CLOEXEC).bits() as i32;
    // SAFETY: a whole handle; the descriptor that comes back is nobody else's.
    #[allow(unsafe_code)]
    unsafe {
        let fd = libc::open_by_handle_at(at.as_raw_fd(), (&raw mut handle).cast(), flags);
        match fd {
            -1 => Err(errno(std::io::Error::last_os_error())),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Has the kernel forget what it knows of the mount, as far as it will.
fn forget(etcfs: &Etcfs) {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        forget_names(&etcfs.mnt());
        let known = stats(etcfs)["nodes"].as_u64().expect("a number");
        // The root, and what asks.
        if known <= 2 {
            return;
        }
        assert!(Instant::now() < until, "the kernel keeps {known} nodes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

const FILES: [&str; 5] = [
    "file",
    "deep/er/file",
    "glo/file",
    "glo/deep/file",
    "mixed/file",
];
const OTHERS: [&str; 8] = [
    "deep",
    "deep/er",
    "glo",
    "glo/deep",
    "mixed",
    "mixed/local",
    "link",
    "fifo",
];

fn on_each(body: fn(&Env, &Etcfs)) {
    for (lower, options) in [
        (Lower::Tmpfs, &[][..]),
        (Lower::Ext4, &[]),
        (Lower::Ext4, &["passthrough"]),
    ] {
        private(DEADLINE, move |env| {
            let opts = Opts {
                lower,
                options: options.iter().map(|&o| o.to_owned()).collect(),
                config: vec![
                    "add_global /glo".to_owned(),
                    "add_global /mixed/file".to_owned(),
                ],
                ..Opts::default()
            };
            let etcfs = Etcfs::start(env, opts);
            for tree in [etcfs.mnt(), etcfs.native()] {
                for dir in ["deep/er", "glo/deep", "mixed"] {
                    fs::create_dir_all(tree.join(dir)).expect("mkdir");
                }
                for file in FILES {
                    fs::write(tree.join(file), file).expect("write");
                }
                fs::write(tree.join("mixed/local"), "local").expect("write");
                std::os::unix::fs::symlink("file", tree.join("link")).expect("symlink");
                let mode = Mode::RWXU;
                rustix::fs::mknodat(CWD, tree.join("fifo"), rustix::fs::FileType::Fifo, mode, 0)
                    .expect("mknod");
            }
            body(env, &etcfs);
        });
    }
}

#[test]
fn a_handle_leads_back_to_its_object_after_the_kernel_has_forgotten_it() {
    on_each(|_, etcfs| {
        let mut pair = Pair::of(etcfs);
        let all = || FILES.iter().chain(&OTHERS);
        let take = |tree: &Path| -> Vec<(Handle, u64)> {
            all()
                .map(|name| {
                    let at = tree.join(name);
                    let handle = handle_of(&at).unwrap_or_else(|e| panic!("{name}: {e}"));
                    (handle, fs::symlink_metadata(&at).expect("stat").ino())
                })
                .collect()
        };
        let (on_mount, native) = (take(&etcfs.mnt()), take(&etcfs.native()));
        for round in 0..3 {
            forget(etcfs);
            for (n, name) in all().enumerate() {
                for flags in [
                    OFlags::PATH,
                    OFlags::RDONLY | OFlags::NONBLOCK,
                    OFlags::RDWR,
                ] {
                    let opened = pair.same(&format!("{round}: open {name} {flags:?}"), |root| {
                        let (handle, ino) = match root.path == etcfs.mnt() {
                            true => &on_mount[n],
                            false => &native[n],
                        };
                        let fd = open(&root.path, handle, flags)?;
                        let stat = rustix::fs::fstat(&fd)?;
                        let text = match flags {
                            OFlags::PATH => Vec::new(),
                            _ if stat.st_mode & libc::S_IFMT == libc::S_IFREG => contents(&fd)?,
                            _ => Vec::new(),
                        };
                        Ok((stat.st_mode, stat.st_size > 0, stat.st_ino == *ino, text))
                    });
                    if FILES.contains(name) {
                        let (.., same, text) = opened.expect("a file is opened by its handle");
                        assert!(same && (flags == OFlags::PATH || text == name.as_bytes()));
                    }
                }
            }
        }
        pair.finish();
    });
}

/// Directories are connected to those above again, and never to what lies outside.
#[test]
fn a_directory_opened_by_its_handle_lies_where_it_did() {
    on_each(|_, etcfs| {
        let root = fs::metadata(etcfs.mnt()).expect("stat");
        for (name, depth) in [("deep/er", 2), ("glo/deep", 2), ("mixed", 1)] {
            let handle = handle_of(&etcfs.mnt().join(name)).expect("a handle");
            forget(etcfs);
            let fd = open(&etcfs.mnt(), &handle, OFlags::RDONLY).expect("opened");
            let link = fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            assert_eq!(link.expect("a path"), etcfs.mnt().join(name));
            let up = PathBuf::from("../".repeat(depth));
            let above = statat(&fd, &up, AtFlags::empty()).expect("stat");
            assert_eq!((above.st_dev, above.st_ino), (root.dev(), root.ino()));
            assert!(fs::read_dir(format!("/proc/self/fd/{}", fd.as_raw_fd())).is_ok());
        }
        let config = etcfs.mnt().join(crate::harness::CONFIG);
        let handle = handle_of(&config).expect("a handle");
        forget(etcfs);
        let fd = open(&etcfs.mnt(), &handle, OFlags::RDONLY).expect("opened");
        let text = String::from_utf8(contents(&fd).expect("read")).expect("UTF-8");
        assert_eq!(Ok(text), etcfs.read_config().map_err(errno));
        let handle = handle_of(&etcfs.mnt()).expect("a handle");
        forget(etcfs);
        let fd = open(&etcfs.mnt(), &handle, OFlags::RDONLY).expect("opened");
        let stat = rustix::fs::fstat(&fd).expect("stat");
        assert_eq!((stat.st_dev, stat.st_ino), (root.dev(), root.ino()));
    });
}

#[test]
fn a_handle_follows_a_rename_and_ends_with_its_object() {
    on_each(|_, etcfs| {
        let mut pair = Pair::of(etcfs);
        // By which tree it goes: the mount's, and beneath it.
        for beneath in [false, true] {
            let name = |what: &str| format!("{what}-{beneath}");
            let handles = [etcfs.mnt(), etcfs.native()].map(|tree| {
                for what in ["moved", "gone", "replaced"] {
                    fs::write(tree.join(name(what)), what).expect("write");
                }
                fs::create_dir(tree.join(name("dir"))).expect("mkdir");
                ["moved", "gone", "replaced", "dir"]
                    .map(|what| handle_of(&tree.join(name(what))).expect("a handle"))
            });
            forget(etcfs);
            for (shown, lower) in [
                (etcfs.mnt(), etcfs.local()),
                (etcfs.native(), etcfs.native()),
            ] {
                let at = if beneath { lower } else { shown };
                fs::remove_file(at.join(name("gone"))).expect("unlink");
                fs::remove_dir(at.join(name("dir"))).expect("rmdir");
                fs::remove_file(at.join(name("replaced"))).expect("unlink");
                fs::write(at.join(name("replaced")), "another").expect("write");
                fs::rename(at.join(name("moved")), at.join("deep/moved")).expect("rename");
            }
            forget(etcfs);
            for (n, what) in ["moved", "gone", "replaced", "dir"].iter().enumerate() {
                let opened = pair.same(&format!("{what}, beneath {beneath}"), |root| {
                    let of_mount = root.path == etcfs.mnt();
                    let handle = &handles[usize::from(!of_mount)][n];
                    contents(&open(&root.path, handle, OFlags::RDONLY)?)
                });
                match n {
                    0 => assert_eq!(opened, Ok(b"moved".to_vec())),
                    _ => assert_eq!(opened, Err(Errno::STALE), "{what}"),
                }
            }
        }
        pair.finish();
    });
}

/// What is mounted lies below the FUSE root. No path leads up there, but whoever may open by handle can make one up.
#[test]
fn a_made_up_handle_of_the_fuse_root_leads_to_nothing_but_the_mount() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let mnt = etcfs.mnt();
        fs::create_dir(mnt.join("dir")).expect("mkdir");
        fs::write(mnt.join("dir/file"), "text").expect("write");
        rustix::mount::mount_bind(etcfs.global(), mnt.join("dir")).expect("bind");
        // FILEID_INO64_GEN: the number's halves (FUSE_ROOT_ID is 1), and the generation.
        let mut root = handle_of(&mnt.join("dir/..")).expect("a handle");
        root.kind = 0x81;
        root.len = 12;
        root.bytes[..12].copy_from_slice([0_u32, 1, 0].map(u32::to_ne_bytes).as_flattened());
        let above = open(&mnt, &root, OFlags::PATH).expect("opened");
        let stat = |at: &OwnedFd, name: &str| {
            let found = statat(at, name, AtFlags::empty());
            found.map(|stat| (stat.st_mode & libc::S_IFMT, stat.st_dev, stat.st_ino))
        };
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let served = openat(CWD, &mnt, flags, Mode::empty()).expect("open");
        assert_eq!(
            stat(&above, "etc"),
            stat(&served, "."),
            "the one name in it"
        );
        assert_eq!(stat(&above, "etc/dir/file"), stat(&served, "dir/file"));
        assert_eq!(stat(&above, "file").map(drop), Err(Errno::NOENT));
        let change = |outcome: rustix::io::Result<()>| assert_eq!(outcome, Err(Errno::STALE));
        change(rustix::fs::mkdirat(&above, "new", Mode::RWXU));
        change(rustix::fs::unlinkat(&above, "etc", AtFlags::REMOVEDIR));
        fs::write(mnt.join("file"), "").expect("write");
        change(rustix::fs::renameat(&served, "file", &above, "new"));
        change(rustix::fs::renameat(&above, "etc", &above, "other"));
        change(open(&mnt, &root, OFlags::RDONLY).map(drop));
        // Nobody else has noticed.
        assert_eq!(etcfs.mount().expect("mounted").root, Path::new("/etc"));
        assert_eq!(fs::read_dir(&mnt).expect("list").count(), 3);
        rustix::mount::unmount(mnt.join("dir"), rustix::mount::UnmountFlags::empty())
            .expect("what is mounted in it is still there");
        assert_eq!(fs::read(mnt.join("dir/file")).expect("read"), b"text");
    });
}

#[test]
fn a_handle_of_another_mount_or_a_user_opens_nothing() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, Opts::default());
        let file = etcfs.mnt().join("file");
        fs::write(&file, "x").expect("write");
        let handle = handle_of(&file).expect("a handle");
        let refused = as_user(&User::plain(1000), || {
            open(&etcfs.mnt(), &handle, OFlags::RDONLY)
        });
        assert_eq!(refused.map(drop), Err(Errno::PERM));
        let mut made_up = handle.clone();
        made_up.bytes[..8].copy_from_slice(&1_000_000_u64.to_ne_bytes());
        let opened = open(&etcfs.mnt(), &made_up, OFlags::RDONLY);
        assert_eq!(opened.map(drop), Err(Errno::STALE));
        drop(etcfs);
        for at in ["fs", "below"].map(|name| env.dir(name)) {
            rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
        }
        let etcfs = Etcfs::start(env, Opts::default());
        // The same number: the first file that is looked up.
        let file = etcfs.mnt().join("file");
        fs::write(&file, "another").expect("write");
        fs::metadata(&file).expect("stat");
        let opened = open(&etcfs.mnt(), &handle, OFlags::RDONLY);
        assert_eq!(opened.map(drop), Err(Errno::STALE));
    });
}
