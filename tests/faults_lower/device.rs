//! A lower file system whose device fails, or which refuses by itself.
//!
//! This machine's kernel may lack the device mapper and every quota format. So the device is a loop device whose file loses
//! its end, which is EIO for every block there; and whatever a file system can answer is answered by one that is an etcfs
//! of its own, whose system calls strace has fail.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;

use rustix::io::{Errno, Result};

use crate::harness::{Bases, Env, Etcfs, Opts, Pair, Root, Trace, errno, private};
use crate::others::Others;
use crate::{DEADLINE, Faulty, WAYS, ext4};

fn everybody(dir: &std::path::Path) {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(dir, mode).expect("chmod");
}

fn read(root: &Root) -> Result<usize> {
    let mut text = Vec::new();
    let mut file = File::open(root.join("large")).map_err(errno)?;
    file.read_to_end(&mut text).map_err(errno)
}

#[test]
fn eio_of_the_device_reaches_the_caller_as_natively_and_ends_with_the_fault() {
    for options in WAYS {
        private(DEADLINE, move |env| {
            let mut image = None;
            let faulty = Faulty::new(env, options, |at| image = Some(ext4(env, at, 32)));
            let image = image.expect("an image");
            let own = faulty.etcfs.mnt().join("own");
            fs::create_dir(&own).expect("mkdir");
            everybody(&own);
            let others = Others::start(&own);
            let mut pair = faulty.pair();
            pair.same("make a file", |root| {
                fs::write(root.join("small"), "text").map_err(errno)?;
                let file = File::create(root.join("large")).map_err(errno)?;
                file.write_all_at(&vec![7; 2 << 20], 0).map_err(errno)?;
                file.sync_all().map_err(errno)
            })
            .expect("the device is sound");
            // The pages that are cached would hide it.
            for file in ["global/g/large", "native/large"] {
                let file = File::open(faulty.at.join(file)).expect("open beneath");
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("fadvise");
            }
            let file = OpenOptions::new().read(true).write(true).open(&image);
            let file = file.expect("open the image");
            let size = file.metadata().expect("stat").len();
            let mut whole = vec![0; usize::try_from(size).expect("a size")];
            file.read_exact_at(&mut whole, 0)
                .expect("keep what it holds");
            file.set_len(4096).expect("lose the end");
            assert_eq!(pair.same("read", read), Err(Errno::IO));
            others.go_on();
            file.write_all_at(&whole, 0).expect("mend the device");
            assert_eq!(pair.same("read again", read), Ok(2 << 20));
            others.go_on();
            pair.finish();
        });
    }
}

/// A mount upon another etcfs, whose calls can be made to fail: its own answers are the native ones.
struct Stacked {
    lower: Etcfs,
    upper: Etcfs,
}

impl Stacked {
    fn new(env: &Env) -> Stacked {
        let lower = Etcfs::start(env, Opts::default());
        for dir in ["global", "global/g", "native"] {
            fs::create_dir(lower.mnt().join(dir)).expect("mkdir");
            everybody(&lower.mnt().join(dir));
        }
        // Its own local side is another file system, which is sound.
        let bases = Bases::beside(env, "upper", &lower.mnt().join("global"));
        let opts = Opts {
            config: vec!["add_global /g".to_owned()],
            ..Opts::default()
        };
        let upper = Etcfs::serve(env, bases, opts);
        Stacked { lower, upper }
    }

    fn pair(&self) -> Pair {
        Pair::new(
            &self.upper.mnt().join("g"),
            &self.lower.mnt().join("native"),
        )
    }
}

/// What changes content and names, one after the other.
fn changes(root: &Root) -> Vec<(String, Result<String>)> {
    let own = |what: &str, answer: std::io::Result<()>| {
        (
            what.to_owned(),
            answer.map(|()| String::new()).map_err(errno),
        )
    };
    vec![
        own("write", {
            let file = OpenOptions::new().write(true).open(root.join("file"));
            file.and_then(|mut file| file.write_all(b"more"))
        }),
        own("mkdir", fs::create_dir(root.join("dir"))),
        own(
            "symlink",
            std::os::unix::fs::symlink("x", root.join("link")),
        ),
        own("link", fs::hard_link(root.join("file"), root.join("hard"))),
        own("rename", fs::rename(root.join("file"), root.join("other"))),
        own("unlink", fs::remove_file(root.join("second"))),
        own("read", fs::read(root.join("file")).map(drop)),
        own(
            "list",
            fs::read_dir(root.join("."))
                .map(|list| list.count())
                .map(drop),
        ),
        own(
            "sync",
            File::open(root.join("file")).and_then(|file| file.sync_all()),
        ),
    ]
}

/// Each of these calls of the lower one fails so.
fn answers_pass(calls: &str, error: &str, errno_: Errno, refused: &[&str]) {
    let inject = format!("--inject={calls}:error={error}");
    let refused: Vec<String> = refused.iter().map(|&what| what.to_owned()).collect();
    private(DEADLINE, move |env| {
        let stacked = Stacked::new(env);
        let own = stacked.upper.mnt().join("own");
        fs::create_dir(&own).expect("mkdir");
        everybody(&own);
        let mut pair = stacked.pair();
        pair.same_as(&crate::user(), "make files", |root| {
            fs::write(root.join("second"), "text").map_err(errno)?;
            fs::write(root.join("file"), "text").map_err(errno)
        })
        .expect("it is sound");
        let others = Others::start(&own);
        let trace = Trace::with(env, &stacked.lower, &[&inject]);
        let answers = pair.each_as(&crate::user(), changes);
        others.go_on();
        trace.end();
        for what in &refused {
            let answer = answers.iter().find(|(name, _)| name == what);
            let (_, answer) = answer.expect("one of the calls");
            assert_eq!(answer, &Err(errno_), "{what}");
        }
        assert_eq!(pair.differences(), [""; 0]);
        // Over: the same calls are carried out.
        let answers = pair.each_as(&crate::user(), changes);
        let write = answers
            .iter()
            .find(|(name, _)| name == "mkdir")
            .expect("it");
        assert_eq!(write.1, Ok(String::new()));
        others.go_on();
        pair.finish();
    });
}

#[test]
fn out_of_quota_the_caller_gets_edquot_as_from_the_file_system_itself() {
    let calls = "pwrite64,pwritev,pwritev2,mkdirat,symlinkat,linkat";
    answers_pass(calls, "EDQUOT", Errno::DQUOT, &["mkdir", "symlink", "link"]);
}

#[test]
fn eio_of_any_call_reaches_the_caller_as_from_the_file_system_itself() {
    let calls =
        "pread64,preadv,preadv2,pwrite64,pwritev,mkdirat,renameat2,unlinkat,fsync,fdatasync";
    answers_pass(calls, "EIO", Errno::IO, &["mkdir", "unlink"]);
}
