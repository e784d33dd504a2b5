//! What callers get when something beneath or around the daemon fails, beside what they get natively: the rows of the help
//! topic `faults`. Each test shows that others go on meanwhile, and that nothing need be started anew when the fault is over.

#[path = "../harness/mod.rs"]
mod harness;

mod bare;
mod clock;
mod device;
mod gone;
mod others;
mod room;
mod short;
mod stopped;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Bases, Env, Etcfs, Lower, Opts, Pair, User};
use rustix::mount::MountFlags;

const DEADLINE: Duration = Duration::from_secs(150);
const USER: u32 = 1000;

/// Both ways of reading and writing.
const WAYS: [&[&str]; 2] = [&[], &["passthrough"]];

/// A mount whose local side is sound, and whose names below `g` lie on a file system of their own, which is to fail.
struct Faulty {
    etcfs: Etcfs,
    /// Where that file system is mounted; `global/g` is served from it, `native` is beside it.
    at: PathBuf,
}

impl Faulty {
    /// `mount` mounts the file system.
    fn new(env: &Env, options: &[&str], mount: impl FnOnce(&Path)) -> Faulty {
        let bases = Bases::new(env, Lower::Tmpfs);
        let at = env.dir("faulty");
        mount(&at);
        for dir in ["global", "global/g", "native"] {
            fs::create_dir_all(at.join(dir)).expect("mkdir");
            let everybody = fs::Permissions::from_mode(0o777);
            fs::set_permissions(at.join(dir), everybody).expect("chmod");
        }
        let mut list = vec![format!("global={}", at.join("global").display())];
        list.extend(options.iter().map(|&option| option.to_owned()));
        let opts = Opts {
            options: list,
            config: vec!["add_global /g".to_owned()],
            ..Opts::default()
        };
        let etcfs = Etcfs::serve(env, bases, opts);
        Faulty { etcfs, at }
    }

    /// The directory that lies on the file system, on the mount and natively.
    fn pair(&self) -> Pair {
        Pair::new(&self.etcfs.mnt().join("g"), &self.at.join("native"))
    }
}

/// A tmpfs with these options.
fn tmpfs(at: &Path, options: &str) {
    let options = std::ffi::CString::new(options).expect("no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("faulty", at, "tmpfs", flags, options.as_c_str()).expect("mount");
}

/// An ext4 in an image of this size, MiB.
fn ext4(env: &Env, at: &Path, size: u64) -> PathBuf {
    let image = env.scratch().join("faulty.img");
    let file = fs::File::create(&image).expect("create the image");
    file.set_len(size << 20).expect("size the image");
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-F", "-m", "0", "-E", "nodiscard"])
        .arg(&image);
    harness::run(&mut make).unwrap_or_else(|e| panic!("{e}"));
    mount_image(&image, at);
    image
}

fn mount_image(image: &Path, at: &Path) {
    let mut mount = Command::new("mount");
    mount.args(["-o", "loop,nosuid,nodev"]).arg(image).arg(at);
    harness::run(&mut mount).unwrap_or_else(|e| panic!("{e}"));
}

/// An ordinary user.
fn user() -> User {
    User::plain(USER)
}
