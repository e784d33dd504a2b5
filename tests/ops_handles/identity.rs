//! Numbers and attributes are the lower object's (B13, B14, B19, B28, S2).

use crate::harness::{Bases, Etcfs, Opts, private};
use crate::{DEADLINE, contents, on_each_lower};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, mknodat, statat, statx};
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// One of each kind, in `dir`.
fn one_of_each(dir: &Path) {
    fs::write(dir.join("file"), vec![1; 100_000]).expect("write");
    fs::write(dir.join("empty"), "").expect("write");
    fs::hard_link(dir.join("file"), dir.join("hard")).expect("link");
    fs::create_dir_all(dir.join("dir/sub")).expect("mkdir");
    std::os::unix::fs::symlink("a target", dir.join("symlink")).expect("symlink");
    for (name, kind, dev) in [
        ("fifo", FileType::Fifo, 0),
        ("sock", FileType::Socket, 0),
        (
            "chr",
            FileType::CharacterDevice,
            rustix::fs::makedev(259, 70_000),
        ),
        ("blk", FileType::BlockDevice, rustix::fs::makedev(8, 1)),
    ] {
        mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o640), dev).expect("mknod");
    }
    let sparse = fs::File::create(dir.join("sparse")).expect("create");
    sparse.set_len(10 << 20).expect("size");
}

const NAMES: [&str; 11] = [
    ".", "file", "empty", "hard", "dir", "symlink", "fifo", "sock", "chr", "blk", "sparse",
];

#[test]
fn s2_stat_is_the_lower_objects() {
    on_each_lower(|_, etcfs| {
        one_of_each(&etcfs.local());
        for name in NAMES {
            let stat = |base: &Path| {
                let s = statat(CWD, base.join(name), AtFlags::SYMLINK_NOFOLLOW).expect("stat");
                (
                    (
                        s.st_ino, s.st_mode, s.st_nlink, s.st_uid, s.st_gid, s.st_rdev,
                    ),
                    (s.st_size, s.st_blocks, s.st_blksize),
                    (
                        s.st_atime,
                        s.st_atime_nsec,
                        s.st_mtime,
                        s.st_mtime_nsec,
                        s.st_ctime,
                        s.st_ctime_nsec,
                    ),
                )
            };
            assert_eq!(stat(&etcfs.mnt()), stat(&etcfs.local()), "{name}");
            let birth = |base: &Path| {
                let flags = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
                let s =
                    statx(CWD, base.join(name), AtFlags::SYMLINK_NOFOLLOW, flags).expect("statx");
                let has = s.stx_mask & StatxFlags::BTIME.bits() != 0;
                (has, s.stx_btime.tv_sec, s.stx_btime.tv_nsec)
            };
            assert_eq!(
                birth(&etcfs.mnt()),
                birth(&etcfs.local()),
                "birth of {name}"
            );
            assert!(birth(&etcfs.mnt()).0);
        }
    });
}

/// Name, inode number and type of every entry, straight from getdents64.
fn entries(dir: &Path) -> BTreeMap<Vec<u8>, (u64, FileType)> {
    let fd = rustix::fs::open(
        dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .expect("open");
    let mut buffer = Vec::with_capacity(4096);
    let mut list = rustix::fs::RawDir::new(fd, buffer.spare_capacity_mut());
    let mut all = BTreeMap::new();
    while let Some(entry) = list.next() {
        let entry = entry.expect("an entry");
        let old = all.insert(
            entry.file_name().to_bytes().to_vec(),
            (entry.ino(), entry.file_type()),
        );
        assert!(old.is_none(), "{:?} twice", entry.file_name());
    }
    all
}

#[test]
fn b13_listings_tell_the_same_number_and_type_as_stat() {
    on_each_lower(|_, etcfs| {
        one_of_each(&etcfs.local());
        one_of_each(&etcfs.local().join("dir"));
        fs::write(etcfs.global().join("shared"), "x").expect("write");
        etcfs
            .write_config(&["add_global /shared"])
            .expect("configure");
        for dir in [etcfs.mnt(), etcfs.mnt().join("dir")] {
            let listed = entries(&dir);
            assert!(listed.contains_key(&b"."[..]) && listed.contains_key(&b".."[..]));
            for (name, (ino, kind)) in listed.iter().filter(|(name, _)| *name != b"..") {
                let path = dir.join(std::ffi::OsStr::from_bytes(name));
                let stat = statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).expect("stat");
                assert_eq!(
                    (*ino, *kind),
                    (stat.st_ino, FileType::from_raw_mode(stat.st_mode)),
                    "{path:?}"
                );
            }
        }
        assert!(entries(&etcfs.mnt()).contains_key(&b"shared"[..]));
    });
}

#[test]
fn b14_two_lower_file_systems_never_show_the_same_number() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, crate::Lower::Tmpfs);
        rustix::mount::mount(
            "second",
            bases.global(),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None,
        )
        .expect("mount a second lower file system");
        let global = bases.global();
        fs::create_dir(global.join("shared")).expect("mkdir");
        for n in 0..50 {
            fs::write(global.join(format!("shared/g{n}")), "global").expect("write");
            fs::write(bases.local().join(format!("l{n}")), "local").expect("write");
        }
        let below = |dir: &Path| -> HashSet<u64> {
            fs::read_dir(dir)
                .expect("list")
                .map(|e| std::os::unix::fs::DirEntryExt::ino(&e.expect("entry")))
                .collect()
        };
        assert!(
            !below(&global.join("shared")).is_disjoint(&below(&bases.local())),
            "the lower numbers do collide"
        );
        let etcfs = Etcfs::serve(env, bases, Opts::default());
        etcfs
            .write_config(&["add_global /shared"])
            .expect("configure");
        let mut seen = HashSet::new();
        for dir in [etcfs.mnt(), etcfs.mnt().join("shared")] {
            for (name, (ino, _)) in entries(&dir)
                .into_iter()
                .filter(|(name, _)| !name.starts_with(b"."))
            {
                assert!(seen.insert(ino), "{name:?} has a number of another object");
                let path = dir.join(std::ffi::OsStr::from_bytes(&name));
                assert_eq!(
                    statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
                        .expect("stat")
                        .st_ino,
                    ino
                );
            }
        }
        assert_eq!(seen.len(), 101);
        let same = std::process::Command::new("cmp")
            .arg("-s")
            .arg(etcfs.mnt().join("l1"))
            .arg(etcfs.mnt().join("shared/g1"))
            .status()
            .expect("run cmp");
        assert_eq!(
            same.code(),
            Some(1),
            "cmp compares the contents and finds them different"
        );
    });
}

#[test]
fn b28_hard_links_are_one_object_with_one_set_of_pages() {
    on_each_lower(|_, etcfs| {
        let (one, two) = (etcfs.mnt().join("one"), etcfs.mnt().join("two"));
        fs::write(&one, "0123456789").expect("write");
        fs::hard_link(&one, &two).expect("link");
        let number = |path: &Path| {
            let s = statat(CWD, path, AtFlags::empty()).expect("stat");
            (s.st_ino, s.st_nlink)
        };
        assert_eq!(number(&one), number(&two));
        assert_eq!(number(&one).1, 2);
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let first = rustix::fs::open(&one, flags, Mode::empty()).expect("open");
        let second = rustix::fs::open(&two, flags, Mode::empty()).expect("open");
        rustix::io::pwrite(&first, b"A", 0).expect("write");
        assert_eq!(contents(&second).expect("read"), b"A123456789");
        let left = crate::mapped::Mapping::shared(&first, 10);
        let right = crate::mapped::Mapping::shared(&second, 10);
        left.set(1, b'B');
        assert_eq!(right.get(1), b'B', "one set of pages");
        right.set(2, b'C');
        assert_eq!(left.get(2), b'C');
        left.sync();
        assert_eq!(
            fs::read(etcfs.local().join("one")).expect("read"),
            b"ABC3456789"
        );
        // A link made beneath joins the same object.
        fs::hard_link(etcfs.local().join("one"), etcfs.local().join("three")).expect("link");
        assert_eq!(number(&etcfs.mnt().join("three")), (number(&one).0, 3));
        fs::remove_file(&one).expect("remove");
        assert_eq!(number(&two).1, 2);
        assert_eq!(contents(&first).expect("read"), b"ABC3456789");
    });
}
