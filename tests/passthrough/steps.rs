//! What is not read or written stays right beside what is: after every step, sizes and times seen through the mount are
//! the lower file's, and every step gives what it gives natively.

use crate::harness::{Lower, counted, errno, private};
use crate::how::Mapping;
use crate::{DEADLINE, passing};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FlockOperation, Gid, SeekFrom, Timespec, Timestamps, Uid,
    XattrFlags, copy_file_range, fallocate, fcntl_lock, flock, seek,
};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file that is open in several ways, and another one.
struct Files {
    path: PathBuf,
    rdwr: File,
    reader: File,
    append: File,
    other: File,
}

type Outcome = Result<String, Errno>;
type Step = (&'static str, fn(&Files) -> Outcome);

impl Files {
    fn in_dir(dir: &Path) -> Files {
        let path = dir.join("f");
        let open = |path: &Path, set: fn(&mut OpenOptions) -> &mut OpenOptions| {
            let file = set(&mut OpenOptions::new()).open(path);
            file.unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
        };
        Files {
            rdwr: open(&path, |o| o.read(true).write(true).create_new(true)),
            reader: open(&path, |o| o.read(true)),
            append: open(&path, |o| o.append(true)),
            other: open(&dir.join("g"), |o| {
                o.read(true).write(true).create_new(true)
            }),
            path,
        }
    }
}

fn nothing<T>(_: T) -> String {
    String::new()
}

fn allocated(files: &Files, flags: FallocateFlags, at: u64, len: u64) -> Outcome {
    fallocate(&files.rdwr, flags, at, len).map(nothing)
}

fn copied(from: &File, from_at: u64, to: &File, to_at: u64, len: usize) -> Outcome {
    let (mut from_at, mut to_at) = (from_at, to_at);
    let copied = copy_file_range(from, Some(&mut from_at), to, Some(&mut to_at), len);
    copied.map(|n| format!("{n} {from_at} {to_at}"))
}

const STEPS: [Step; 34] = [
    ("write", |f| {
        let written = f.rdwr.write_at(&[1; 10_000], 0);
        written.map(|n| n.to_string()).map_err(errno)
    }),
    ("append", |f| {
        let written = (&f.append).write(&[2; 5_000]);
        written.map(|n| n.to_string()).map_err(errno)
    }),
    ("read", |f| {
        let mut buffer = [0; 20_000];
        let read = f.reader.read_at(&mut buffer, 0).map_err(errno)?;
        Ok(format!("{read} {:x}", crate::harness::fnv(&buffer)))
    }),
    ("SEEK_END", |f| {
        seek(&f.reader, SeekFrom::End(0)).map(|at| at.to_string())
    }),
    ("ftruncate", |f| {
        f.rdwr.set_len(5_000).map(nothing).map_err(errno)
    }),
    ("append to the new end", |f| {
        let written = (&f.append).write(b"end");
        written.map(|n| n.to_string()).map_err(errno)
    }),
    ("truncate through another open", |f| {
        let file = OpenOptions::new().write(true).open(&f.path);
        let file = file.map_err(errno)?;
        file.set_len(60_000).map(nothing).map_err(errno)
    }),
    ("read over the new end", |f| {
        let mut buffer = [7; 8192];
        let read = f.reader.read_at(&mut buffer, 58_000).map_err(errno)?;
        Ok(format!("{read} {:x}", crate::harness::fnv(&buffer)))
    }),
    ("SEEK_DATA", |f| {
        seek(&f.reader, SeekFrom::Data(0)).map(|at| at.to_string())
    }),
    ("SEEK_HOLE", |f| {
        seek(&f.reader, SeekFrom::Hole(0)).map(|at| at.to_string())
    }),
    ("SEEK_DATA beyond the data", |f| {
        seek(&f.reader, SeekFrom::Data(50_000)).map(|at| at.to_string())
    }),
    ("fallocate", |f| {
        allocated(f, FallocateFlags::empty(), 0, 1 << 20)
    }),
    ("fallocate beyond the end", |f| {
        allocated(f, FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20)
    }),
    ("write into what is allocated", |f| {
        let written = f.rdwr.write_at(&[3; 9000], 70_000);
        written.map(|n| n.to_string()).map_err(errno)
    }),
    ("punch a hole", |f| {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        allocated(f, flags, 0, 4096)
    }),
    ("SEEK_DATA after the hole", |f| {
        seek(&f.rdwr, SeekFrom::Data(0)).map(|at| at.to_string())
    }),
    ("zero a range", |f| {
        allocated(f, FallocateFlags::ZERO_RANGE, 71_000, 2000)
    }),
    ("copy_file_range within", |f| {
        copied(&f.rdwr, 70_000, &f.rdwr, 2 << 20, 4096)
    }),
    ("copy_file_range to another file", |f| {
        copied(&f.reader, 70_000, &f.other, 0, 9000)
    }),
    ("copy_file_range back", |f| {
        copied(&f.other, 0, &f.rdwr, 100, 500)
    }),
    ("read what was copied", |f| {
        let mut buffer = [0; 500];
        let read = f.reader.read_at(&mut buffer, 100).map_err(errno)?;
        Ok(format!("{read} {:x}", crate::harness::fnv(&buffer)))
    }),
    ("flock", |f| {
        let taken = flock(&f.rdwr, FlockOperation::NonBlockingLockExclusive);
        let again = flock(&f.reader, FlockOperation::NonBlockingLockShared);
        Ok(format!("{taken:?} {again:?}"))
    }),
    ("write under a lock", |f| {
        let written = f.rdwr.write_at(b"locked", 0);
        written.map(|n| n.to_string()).map_err(errno)
    }),
    ("unlock", |f| {
        flock(&f.rdwr, FlockOperation::Unlock).map(nothing)
    }),
    ("lock a record", |f| {
        fcntl_lock(&f.rdwr, FlockOperation::NonBlockingLockExclusive).map(nothing)
    }),
    ("fdatasync", |f| {
        f.rdwr.sync_data().map(nothing).map_err(errno)
    }),
    ("unlock the record", |f| {
        fcntl_lock(&f.rdwr, FlockOperation::Unlock).map(nothing)
    }),
    ("chmod", |f| {
        let mode = fs::Permissions::from_mode(0o640);
        f.rdwr.set_permissions(mode).map(nothing).map_err(errno)
    }),
    ("chown", |f| {
        let (uid, gid) = (Uid::from_raw(1000), Gid::from_raw(1001));
        rustix::fs::fchown(&f.append, Some(uid), Some(gid)).map(nothing)
    }),
    ("setxattr", |f| {
        rustix::fs::fsetxattr(&f.rdwr, "user.mine", b"value", XattrFlags::CREATE).map(nothing)
    }),
    ("utimens", |f| {
        let time = |tv_nsec| Timespec {
            tv_sec: 1_000_000_000,
            tv_nsec,
        };
        let times = Timestamps {
            last_access: time(7),
            last_modification: time(9),
        };
        rustix::fs::utimensat(CWD, &f.path, &times, AtFlags::empty()).map(nothing)
    }),
    ("read of old times", |f| {
        let mut byte = [0; 1];
        let read = f.reader.read_at(&mut byte, 0).map_err(errno)?;
        Ok(format!("{read} {byte:?}"))
    }),
    ("store through a mapping", |f| {
        let old = Mapping::of(&f.rdwr)?.store(9);
        f.rdwr.sync_all().map_err(errno)?;
        Ok(format!("{old}"))
    }),
    ("open with O_TRUNC", |f| {
        let opened = OpenOptions::new().write(true).truncate(true).open(&f.path);
        opened.map(nothing).map_err(errno)
    }),
];

/// What the mount has to show as the lower file has it.
fn shown(meta: &fs::Metadata) -> [i64; 12] {
    [
        i64::try_from(meta.len()).expect("a size"),
        i64::try_from(meta.blocks()).expect("a count"),
        meta.atime(),
        meta.atime_nsec(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.ctime(),
        meta.ctime_nsec(),
        meta.mode().into(),
        meta.uid().into(),
        meta.gid().into(),
        i64::try_from(meta.nlink()).expect("a count"),
    ]
}

fn on(lower: Lower) {
    private(DEADLINE, move |env| {
        let etcfs = passing(env, lower);
        let mount = Files::in_dir(&etcfs.mnt());
        let native = Files::in_dir(&etcfs.native());
        let same = |step: &str| {
            let names = [
                (&mount.path, &mount.rdwr, "f"),
                (&etcfs.mnt().join("g"), &mount.other, "g"),
            ];
            for (upper, open, name) in names {
                let beneath = fs::metadata(etcfs.local().join(name)).expect("stat beneath");
                let seen = fs::metadata(upper).expect("stat");
                assert_eq!(shown(&seen), shown(&beneath), "stat of {name} after {step}");
                let seen = open.metadata().expect("fstat");
                assert_eq!(
                    shown(&seen),
                    shown(&beneath),
                    "fstat of {name} after {step}"
                );
            }
        };
        same("opening");
        for (name, step) in STEPS {
            assert_eq!(step(&mount), step(&native), "{name}: mount, native");
            same(name);
            let bytes = fs::read(etcfs.local().join("f")).expect("read beneath");
            assert!(
                bytes == fs::read(&native.path).expect("read"),
                "{name}: bytes"
            );
        }
        // Attributes of an open file are good for a tick of the kernel's clock.
        let below = OpenOptions::new()
            .append(true)
            .open(etcfs.local().join("f"));
        below
            .and_then(|mut file| file.write_all(b"beneath"))
            .expect("append beneath");
        std::thread::sleep(Duration::from_millis(50));
        same("an append beneath");
        for op in ["READ", "WRITE"] {
            assert_eq!(counted(&etcfs, op), 0, "{op}");
        }
    });
}

#[test]
fn sizes_and_times_equal_the_lower_files_after_every_step_on_ext4() {
    on(Lower::Ext4);
}

#[test]
fn sizes_and_times_equal_the_lower_files_after_every_step_on_tmpfs() {
    on(Lower::Tmpfs);
}
