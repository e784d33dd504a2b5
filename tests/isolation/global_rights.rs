//! A global name in a local directory: the kernel asks for the rights on the local directory, and those on the global
//! directories are asked as well. Whatever the local one allows, the answer is that of the same call on the global path.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::DEADLINE;
use crate::harness::{Bases, Etcfs, Lower, Opts, User, as_user, errno, private, run};

/// The names that are global, below `deep/app`.
const NAMES: [&str; 7] = ["secret", "open", "mine", "new", "dir", "fifo", "other"];

/// A state of the global directories `deep` and `deep/app`.
#[derive(Clone, Copy)]
struct Case {
    what: &'static str,
    deep: (u32, u32, u32),
    app: (u32, u32, u32),
    /// What setfacl(1) adds to `deep`.
    acl: Option<&'static str>,
}

const PLAIN: Case = Case {
    what: "root's",
    deep: (0, 0, 0o755),
    app: (0, 0, 0o755),
    acl: None,
};

const CASES: [Case; 8] = [
    PLAIN,
    Case {
        what: "root's, not to be searched",
        app: (0, 0, 0o700),
        ..PLAIN
    },
    Case {
        what: "below one not to be searched",
        deep: (0, 0, 0o700),
        ..PLAIN
    },
    Case {
        what: "own",
        app: (1000, 1000, 0o755),
        ..PLAIN
    },
    Case {
        what: "own, below one for a group",
        deep: (0, 500, 0o710),
        app: (1000, 1000, 0o700),
        ..PLAIN
    },
    Case {
        what: "own, below one with an ACL",
        deep: (0, 0, 0o700),
        app: (1000, 1000, 0o755),
        acl: Some("u:1000:x"),
    },
    Case {
        what: "sticky",
        app: (0, 0, 0o1777),
        ..PLAIN
    },
    Case {
        what: "a group's",
        app: (0, 500, 0o2770),
        ..PLAIN
    },
];

fn users() -> Vec<User> {
    let reads = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    vec![
        User::plain(1000),
        User::plain(1000).in_groups(&[7, 500]),
        User::plain(1000).with(CapabilitySet::DAC_READ_SEARCH),
        User::plain(2000),
        User::plain(0),
        User::root_without(reads),
    ]
}

fn dress(path: &Path, (uid, gid, mode): (u32, u32, u32)) {
    chown(path, Some(uid), Some(gid)).expect("chown");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
}

/// Makes `deep/app` anew below `root`, as `case` says.
fn make(root: &Path, case: Case) {
    let app = root.join("deep/app");
    if app.exists() {
        fs::remove_dir_all(&app).expect("remove");
    }
    fs::create_dir_all(&app).expect("mkdir");
    for (name, owner, mode) in [
        ("secret", 0, 0o600),
        ("open", 0, 0o644),
        ("mine", 1000, 0o640),
    ] {
        fs::write(app.join(name), name).expect("write");
        dress(&app.join(name), (owner, owner, mode));
    }
    dress(&app, case.app);
    let deep = root.join("deep");
    run(Command::new("setfacl").arg("-b").arg(&deep)).expect("setfacl");
    dress(&deep, case.deep);
    if let Some(acl) = case.acl {
        run(Command::new("setfacl").args(["-m", acl]).arg(&deep)).expect("setfacl");
    }
}

/// What a call comes to, so that it can be compared.
type Answer = Result<String, Errno>;

/// A call on the directory `deep/app`.
type Act = (&'static str, fn(&Path) -> std::io::Result<String>);

const LOOKS: [Act; 5] = [
    ("stat", |app| stat(app.join("secret"))),
    ("stat of a missing name", |app| stat(app.join("new"))),
    ("read a secret", |app| {
        fs::read_to_string(app.join("secret"))
    }),
    ("read", |app| fs::read_to_string(app.join("open"))),
    ("append", |app| {
        let file = fs::OpenOptions::new().append(true).open(app.join("mine"));
        file.map(|_| String::new())
    }),
];

const CHANGES: [Act; 10] = [
    ("unlink", |app| done(fs::remove_file(app.join("secret")))),
    ("unlink one's own", |app| {
        done(fs::remove_file(app.join("mine")))
    }),
    ("create", |app| {
        let mut open = fs::OpenOptions::new();
        let open = open.write(true).create_new(true).mode(0o640);
        open.open(app.join("new"))?;
        stat(app.join("new"))
    }),
    ("mkdir", |app| {
        fs::DirBuilder::new().mode(0o750).create(app.join("dir"))?;
        stat(app.join("dir"))
    }),
    ("mkfifo", |app| {
        let kind = rustix::fs::FileType::Fifo;
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, app.join("fifo"), kind, mode, 0)?;
        stat(app.join("fifo"))
    }),
    ("symlink", |app| {
        done(std::os::unix::fs::symlink("to", app.join("other")))
    }),
    ("link", |app| {
        done(fs::hard_link(app.join("mine"), app.join("other")))
    }),
    ("replace", |app| {
        done(fs::rename(app.join("mine"), app.join("secret")))
    }),
    ("rename away", |app| {
        done(fs::rename(app.join("secret"), app.join("other")))
    }),
    ("exchange", |app| {
        let cwd = rustix::fs::CWD;
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let (a, b) = (app.join("mine"), app.join("open"));
        rustix::fs::renameat_with(cwd, a, cwd, b, flags)?;
        Ok(String::new())
    }),
];

fn done(result: std::io::Result<()>) -> std::io::Result<String> {
    result.map(|()| String::new())
}

fn stat(path: PathBuf) -> std::io::Result<String> {
    let stat = fs::symlink_metadata(path)?;
    let (uid, gid, mode) = (stat.uid(), stat.gid(), stat.mode());
    Ok(format!("{uid}:{gid} {mode:o}"))
}

fn ask(user: &User, root: &Path, act: Act) -> Answer {
    as_user(user, || (act.1)(&root.join("deep/app")).map_err(errno))
}

/// A mount whose local directories allow everything to everybody.
fn served(env: &crate::harness::Env, options: &[&str]) -> Etcfs {
    let bases = Bases::new(env, Lower::Tmpfs);
    let app = bases.local().join("deep/app");
    fs::create_dir_all(&app).expect("mkdir");
    dress(&app, (1000, 1000, 0o777));
    let opts = Opts {
        options: options.iter().map(|&option| option.to_owned()).collect(),
        config: NAMES
            .iter()
            .map(|name| format!("add_global /deep/app/{name}"))
            .collect(),
        ..Opts::default()
    };
    Etcfs::serve(env, bases, opts)
}

#[test]
fn the_rights_on_the_global_directories_are_asked_as_on_the_global_path() {
    for options in [&[][..], &["passthrough"]] {
        private(DEADLINE, move |env| {
            let etcfs = served(env, options);
            let (mnt, global, native) = (etcfs.mnt(), etcfs.global(), etcfs.native());
            let mut wrong = Vec::new();
            let mut compare = |case: Case, user: &User, act: Act| {
                let (mount, natively) = (ask(user, &mnt, act), ask(user, &native, act));
                if mount != natively {
                    let what = format!("{} {}, {user:?}", case.what, act.0);
                    wrong.push(format!("{what}: mount {mount:?}, native {natively:?}"));
                }
            };
            for case in CASES {
                for user in users() {
                    make(&global, case);
                    make(&native, case);
                    LOOKS.iter().for_each(|act| compare(case, &user, *act));
                    for act in CHANGES {
                        compare(case, &user, act);
                        make(&global, case);
                        make(&native, case);
                    }
                }
            }
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        });
    }
}

/// A name is listed where its directory may be read, but what is in a directory that may not be searched is told to nobody
/// who could not find out there.
#[test]
fn a_listing_tells_of_global_names_only_those_who_could_look_them_up() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let listed = |user: &User| {
            let app = etcfs.mnt().join("deep/app");
            as_user(user, || {
                let entries = fs::read_dir(app).expect("list").flatten();
                let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
                names.sort();
                names
            })
        };
        for (case, users) in [
            (CASES[0], vec![User::plain(1000), User::plain(0)]),
            (CASES[4], vec![User::plain(1000).in_groups(&[500])]),
            (CASES[5], vec![User::plain(1000)]),
        ] {
            make(&etcfs.global(), case);
            for user in users {
                assert_eq!(listed(&user), ["mine", "open", "secret"], "{}", case.what);
            }
        }
        for (case, users) in [
            (CASES[1], vec![User::plain(1000)]),
            (CASES[2], vec![User::plain(1000), User::plain(2000)]),
            (CASES[4], vec![User::plain(1000)]),
            (CASES[5], vec![User::plain(2000)]),
        ] {
            make(&etcfs.global(), case);
            for user in users {
                assert!(listed(&user).is_empty(), "{}: {user:?}", case.what);
            }
        }
    });
}

/// The search permission of the global side's own directory counts as well, and what is missing there is made by whoever
/// may.
#[test]
fn the_global_sides_own_directory_is_asked_too() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        fs::write(bases.global().join("hosts"), "hosts").expect("write");
        let app = bases.local().join("app");
        fs::create_dir(&app).expect("mkdir");
        dress(&app, (1000, 1000, 0o777));
        let opts = Opts {
            config: vec!["add_global /hosts".into(), "add_global /app/file".into()],
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts);
        let mnt = etcfs.mnt();
        let read = |uid| {
            as_user(&User::plain(uid), || {
                fs::read_to_string(mnt.join("hosts")).map_err(errno)
            })
        };
        assert_eq!(read(1000).as_deref(), Ok("hosts"));
        let create = |uid| {
            as_user(&User::plain(uid), || {
                fs::write(mnt.join("app/file"), "").map_err(errno)
            })
        };
        // Whoever could not make the file there does not get the directory made.
        assert_eq!(create(1000), Err(Errno::ACCESS));
        assert!(!etcfs.global().join("app").exists());
        dress(&etcfs.global(), (0, 0, 0o700));
        assert_eq!(read(1000), Err(Errno::ACCESS));
        assert_eq!(read(0).as_deref(), Ok("hosts"));
        dress(&etcfs.global(), (0, 0, 0o755));
        assert_eq!(read(1000).as_deref(), Ok("hosts"));
        assert_eq!(create(0), Ok(()));
        assert!(etcfs.global().join("app/file").exists());
    });
}
