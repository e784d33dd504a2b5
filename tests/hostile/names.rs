//! Odd names.

use super::harness::{CONFIG, Etcfs, Opts, Pair, Root, errno, private};
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(120);

/// A call to make in both trees.
type Call<'a> = &'a dyn Fn(&Root) -> Result<(), Errno>;

/// Names that are allowed, however odd.
fn odd_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> = vec![
        b"new\nline".to_vec(),
        b"\n".to_vec(),
        b" ".to_vec(),
        b"tab\there".to_vec(),
        b"back\\slash".to_vec(),
        b"\xff\xfe not UTF-8 \x80".to_vec(),
        b"\x01\x02\x1b[31m".to_vec(),
        b"-rf".to_vec(),
        b"...".to_vec(),
        b"..x".to_vec(),
        b"#hash '\"$(reboot)`".to_vec(),
        vec![b'a'; 255],
        vec![0xff; 255],
        "\u{e9}".repeat(127).into_bytes(),
    ];
    // Every byte that a name may hold.
    let all: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
    names.extend(all.chunks(100).map(<[u8]>::to_vec));
    names
        .iter()
        .map(|n| OsStr::from_bytes(n).to_owned())
        .collect()
}

fn opts() -> Opts {
    Opts {
        config: vec!["add_global /global".into(), "add_global /gdir".into()],
        ..Opts::default()
    }
}

fn listed(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<OsString> = fs::read_dir(dir)
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name != CONFIG)
        .collect();
    names.sort();
    names
}

#[test]
fn odd_names_are_names_like_others() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mut pair = Pair::of(&etcfs);
        for root in [etcfs.mnt(), etcfs.native()] {
            for dir in ["local", "gdir", "links"] {
                fs::create_dir(root.join(dir)).expect("mkdir");
            }
        }
        // The listing of the root counts the links of the lower root, where the global directory is not.
        fs::create_dir(etcfs.local().join("gdir")).expect("mkdir");
        for name in odd_names() {
            let shown = name.to_string_lossy().into_owned();
            let at = |root: &Root, dir: &str| root.path.join(dir).join(&name);
            let same = pair.same(
                &format!("{shown:?}: create, link, move to the other side"),
                |root| {
                    let local = at(root, "local");
                    fs::write(&local, name.as_bytes()).map_err(errno)?;
                    fs::create_dir(root.path.join(&name)).map_err(errno)?;
                    std::os::unix::fs::symlink(&name, at(root, "links")).map_err(errno)?;
                    fs::rename(&local, at(root, "gdir")).map_err(errno)?;
                    let target = fs::read_link(at(root, "links")).map_err(errno)?;
                    Ok((fs::read(at(root, "gdir")).map_err(errno)?, target))
                },
            );
            assert_eq!(same, Ok((name.as_bytes().to_vec(), PathBuf::from(&name))));
            let mut value = vec![0; 4096];
            let path = etcfs.mnt().join("gdir").join(&name);
            let len = rustix::fs::lgetxattr(&path, "user.bedrock.localpath", &mut value)
                .unwrap_or_else(|e| panic!("{shown:?}: {e}"));
            assert_eq!(&value[..len], path.as_os_str().as_bytes());
        }
        for dir in ["gdir", "links"] {
            let mut expected = odd_names();
            expected.sort();
            expected.dedup();
            assert_eq!(listed(&etcfs.mnt().join(dir)), expected);
        }
        pair.same_trees();
        pair.finish();
    });
}

#[test]
fn names_that_are_too_long_are_refused_as_natively() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mut pair = Pair::of(&etcfs);
        for root in [etcfs.mnt(), etcfs.native()] {
            fs::write(root.join("file"), "x").expect("write");
        }
        for len in [256, 257, 1023, 1024, 1025, 4000] {
            let name = "n".repeat(len);
            let at = |root: &Root| root.path.join(&name);
            let calls: [(&str, Call<'_>); 6] = [
                ("stat", &|root| {
                    fs::metadata(at(root)).map(drop).map_err(errno)
                }),
                ("create", &|root| fs::write(at(root), "").map_err(errno)),
                ("mkdir", &|root| fs::create_dir(at(root)).map_err(errno)),
                ("symlink", &|root| {
                    std::os::unix::fs::symlink("x", at(root)).map_err(errno)
                }),
                ("link", &|root| {
                    fs::hard_link(root.join("file"), at(root)).map_err(errno)
                }),
                ("rename", &|root| {
                    fs::rename(root.join("file"), at(root)).map_err(errno)
                }),
            ];
            for (what, call) in calls {
                let native = pair.same(&format!("{what} with {len} bytes"), call);
                assert_eq!(native, Err(Errno::NAMETOOLONG), "{what} with {len} bytes");
            }
        }
        pair.finish();
    });
}

#[test]
fn dots_lead_nowhere_else() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mut pair = Pair::of(&etcfs);
        for root in [etcfs.mnt(), etcfs.native()] {
            fs::create_dir_all(root.join("a/b")).expect("mkdir");
            fs::write(root.join("file"), "x").expect("write");
        }
        for (what, path) in [
            ("up and down", "a/../file"),
            ("up twice", "a/b/../../file"),
            ("here", "./././file"),
            ("missing above", "missing/../file"),
            ("a file above", "file/../file"),
        ] {
            let _ = pair.same(what, |root| fs::read(root.join(path)).map_err(errno));
        }
        for name in ["..", ".", "a/..", "a/b/.."] {
            let _ = pair.same(&format!("rmdir {name}"), |root| {
                rustix::fs::unlinkat(&root.dir, name, AtFlags::REMOVEDIR)
            });
            let _ = pair.same(&format!("mkdir {name}"), |root| {
                rustix::fs::mkdirat(&root.dir, name, Mode::RWXU)
            });
            let _ = pair.same(&format!("rename {name}"), |root| {
                renameat_with(&root.dir, name, &root.dir, "other", RenameFlags::empty())
            });
        }
        // The way up from the root is the directory above the mount point.
        let above = fs::metadata(etcfs.mnt().join("..")).expect("stat");
        let parent = fs::metadata(etcfs.mnt().parent().expect("a parent")).expect("stat");
        use std::os::unix::fs::MetadataExt;
        assert_eq!((above.dev(), above.ino()), (parent.dev(), parent.ino()));
        pair.finish();
    });
}

#[test]
fn d23_the_configuration_files_name_is_ordinary_below_the_root() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        let mnt = etcfs.mnt();
        for dir in ["local", "gdir"] {
            fs::create_dir(mnt.join(dir)).expect("mkdir");
            let path = mnt.join(dir).join(CONFIG);
            fs::write(&path, "mine").expect("write");
            assert_eq!(fs::read_to_string(&path).expect("read"), "mine");
            fs::rename(&path, mnt.join(dir).join("other")).expect("rename");
            fs::rename(mnt.join(dir).join("other"), &path).expect("rename back");
            fs::hard_link(&path, mnt.join(dir).join("link")).expect("link");
            fs::remove_file(&path).expect("remove");
            fs::create_dir(&path).expect("mkdir");
            fs::write(path.join(CONFIG), "deeper").expect("write");
        }
        // At the root it is nobody's to change, and what lies there beneath the mount is not shown.
        fs::write(etcfs.local().join(CONFIG), "beneath").expect("write");
        let config = mnt.join(CONFIG);
        assert_eq!(
            fs::read_to_string(&config).expect("read"),
            "global /global\nglobal /gdir\n"
        );
        assert_eq!(fs::remove_file(&config).map_err(errno), Err(Errno::PERM));
        let flags = RenameFlags::empty();
        assert_eq!(
            renameat_with(CWD, &config, CWD, mnt.join("gone"), flags),
            Err(Errno::PERM)
        );
        assert_eq!(
            renameat_with(CWD, mnt.join("gdir/link"), CWD, &config, flags),
            Err(Errno::PERM)
        );
        assert_eq!(
            fs::hard_link(&config, mnt.join("gone")).map_err(errno),
            Err(Errno::PERM)
        );
        let names = fs::read_dir(&mnt)
            .expect("list")
            .filter(|e| e.as_ref().expect("an entry").file_name() == CONFIG)
            .count();
        assert_eq!(names, 1);
    });
}

#[test]
fn u9_a_tree_deeper_than_any_path_is_walked() {
    private(DEADLINE, |env| {
        let etcfs = Etcfs::start(env, opts());
        // 600 levels of 16 bytes: a path of 10 kB, which only relative calls can reach (contract B31).
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let name = "deep-deep-deep-d";
        let mut at = rustix::fs::open(etcfs.mnt(), flags, Mode::empty()).expect("open");
        for level in 0..600 {
            rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap_or_else(|e| panic!("{level}: {e}"));
            at = rustix::fs::openat(&at, name, flags, Mode::empty())
                .unwrap_or_else(|e| panic!("{level}: {e}"));
        }
        let create = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
        let file = rustix::fs::openat(&at, "bottom", create, Mode::RWXU).expect("create");
        rustix::io::write(&file, b"deep").expect("write");
        assert_eq!(rustix::fs::fstat(&file).expect("fstat").st_size, 4);
        assert!(rustix::fs::statat(&at, "bottom", AtFlags::empty()).is_ok());
        assert!(etcfs.read_config().is_ok(), "the daemon lives");
    });
}
