//! Reads change the lower access times as the mount's options say, as they do through a native bind mount with these.

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, private};
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, openat, statat, utimensat,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::mount::{MountFlags, mount_bind, mount_remount};
use std::fs;
use std::path::Path;

/// 2001, which `relatime` brings up to date, and an hour from now, which only `strictatime` does.
fn states() -> [i64; 2] {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    [978_307_200, now + 3600]
}

fn set_access_time(lower: &Path, sec: i64) {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: sec,
            tv_nsec: 0,
        },
        last_modification: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
    };
    utimensat(CWD, lower, &times, AtFlags::empty()).expect("set the access time");
}

/// One way to read `shown`.
type Read = (&'static str, fn(&Path));

const OF_FILES: [Read; 4] = [
    ("read", |at| drop(fs::read(at).expect("read"))),
    ("read and write handle", |at| {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let file = openat(CWD, at, flags, Mode::empty()).expect("open");
        rustix::io::read(&file, &mut [0; 4]).expect("read");
    }),
    ("a pinned file opened again", |at| {
        let pinned = openat(CWD, at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("pin");
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pinned));
        drop(fs::read(name).expect("read"));
    }),
    ("a mapping", |at| {
        let file = fs::File::open(at).expect("open");
        // SAFETY: a new mapping of one page, which is read once and unmapped.
        #[allow(unsafe_code)]
        unsafe {
            let flags = MapFlags::PRIVATE;
            let page = mmap(std::ptr::null_mut(), 4096, ProtFlags::READ, flags, &file, 0);
            let page = page.expect("map");
            assert_eq!(std::ptr::read_volatile(page.cast::<u8>()), b'x');
            munmap(page, 4096).expect("unmap");
        }
    }),
];

const OF_DIRECTORIES: [Read; 1] = [("a listing", |at| {
    assert!(fs::read_dir(at).expect("open").count() > 0);
})];

/// Which reads change the access time of `lower`, which is `shown` where it is read.
fn changes(what: &str, shown: &Path, lower: &Path, reads: &[Read], user: &User) -> Vec<String> {
    let mut said = Vec::new();
    for (how, read) in reads {
        for (state, sec) in ["old", "new"].iter().zip(states()) {
            set_access_time(lower, sec);
            as_user(user, || read(shown));
            let after = statat(CWD, lower, AtFlags::empty()).expect("stat").st_atime;
            said.push(format!("{what}, {how}, {state}: {}", after != sec));
        }
    }
    said
}

/// Fills a directory that both trees have.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("inner")).expect("mkdir");
    for name in ["file", "inner/file"] {
        fs::write(dir.join(name), vec![b'x'; 4096]).expect("write");
    }
    for name in ["", "inner", "file", "inner/file"] {
        std::os::unix::fs::chown(dir.join(name), Some(1000), Some(1000)).expect("chown");
    }
}

/// The `-o` option, and the flags of the native bind mount that stand for it.
fn options() -> [(&'static str, MountFlags); 7] {
    [
        ("noatime", MountFlags::NOATIME),
        ("ro", MountFlags::RDONLY),
        ("relatime", MountFlags::RELATIME),
        ("strictatime", MountFlags::STRICTATIME),
        ("nodiratime", MountFlags::NODIRATIME | MountFlags::RELATIME),
        (
            "strictatime,nodiratime",
            MountFlags::STRICTATIME | MountFlags::NODIRATIME,
        ),
        ("rw", MountFlags::empty()),
    ]
}

/// Before these options reached the mounts beneath, `noatime` and `ro` changed every time.
#[test]
fn access_times_change_as_the_options_say() {
    for lower in [Lower::Tmpfs, Lower::Ext4] {
        private(DEADLINE, move |env| {
            let bases = Bases::new(env, lower);
            let inner = bases.mnt().join("inner");
            fs::create_dir(&inner).expect("mkdir");
            mount_bind(env.dir("elsewhere"), &inner).expect("mount within the side");
            for dir in [bases.mnt(), bases.native(), bases.global().join("glo")] {
                fs::create_dir_all(&dir).expect("mkdir");
                fill(&dir);
            }
            let beneath = env.dir("beneath");
            mount_bind(bases.mnt(), &beneath).expect("bind");
            let natively = env.dir("natively");
            for (option, flags) in options() {
                mount_bind(bases.native(), &natively).expect("bind");
                mount_remount(&natively, MountFlags::BIND | flags, c"").expect("remount");
                for passthrough in [false, true] {
                    // A listing that is kept reads no directory.
                    let mut options = vec![option.to_owned(), "cache=strict".to_owned()];
                    options.extend(passthrough.then(|| "passthrough".to_owned()));
                    let opts = Opts {
                        options,
                        ..Opts::default()
                    };
                    let etcfs = Etcfs::serve(env, bases.clone(), opts);
                    if option != "ro" {
                        etcfs.write_config(&["add_global /glo"]).expect("configure");
                    }
                    for user in [User::plain(0), User::plain(1000)] {
                        // What is written needs a mount that can be written.
                        let of_files = match option {
                            "ro" => &OF_FILES[..1],
                            _ => &OF_FILES[..],
                        };
                        let look = |shown: &Path, lower: &Path| {
                            let file = |root: &Path| root.join("file");
                            let mut said =
                                changes("file", &file(shown), &file(lower), of_files, &user);
                            let of_directories = &OF_DIRECTORIES;
                            said.extend(changes("dir", shown, lower, of_directories, &user));
                            said
                        };
                        let (mnt, native) = (bases.mnt(), bases.native());
                        let expected = look(&natively, &native);
                        let mut places = vec![
                            (mnt.clone(), beneath.clone()),
                            (mnt.join("inner"), env.dir("elsewhere")),
                        ];
                        if option != "ro" {
                            places.push((mnt.join("glo"), bases.global().join("glo")));
                        }
                        for (shown, lower) in places {
                            let what = format!(
                                "-o {option}, passthrough {passthrough}, {}, {user:?}",
                                shown.display()
                            );
                            assert_eq!(look(&shown, &lower), expected, "{what}");
                        }
                    }
                }
                rustix::mount::unmount(&natively, rustix::mount::UnmountFlags::DETACH)
                    .expect("unmount");
            }
        });
    }
}
