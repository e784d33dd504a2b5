//! What a killed daemon has left under hidden names goes with the next work in the directory, once it is old enough to be
//! nobody's (contract B9).

mod harness;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use harness::{Bases, Etcfs, Lower, Opts, private, run};

const DEADLINE: Duration = Duration::from_secs(90);

const OLD: [&str; 3] = [
    ".etcfs-hidden-0000000000000001",
    ".etcfs-hidden-0000000000000002",
    ".etcfs-hidden-0000000000000003",
];
const YOUNG: &str = ".etcfs-hidden-0000000000000004";

/// Directories in which different work is done.
const DIRS: [&str; 4] = ["symlink", "directory", "from", "to"];

/// An ext4 image with leftovers in every directory, of 2001 as far as their change times say: no system call sets
/// those, but debugfs(8) does.
fn image_of_2001(image: &Path, at: &Path) {
    File::create(image)
        .and_then(|file| file.set_len(16 << 20))
        .expect("make the image");
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image)).expect("mkfs.ext4");
    let mount = || {
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(image)
            .arg(at))
        .expect("mount");
    };
    mount();
    for dir in DIRS {
        let dir = at.join(dir);
        fs::create_dir(&dir).expect("mkdir");
        fs::write(dir.join(OLD[0]), "left").expect("write");
        std::os::unix::fs::symlink("left", dir.join(OLD[1])).expect("symlink");
        fs::create_dir(dir.join(OLD[2])).expect("mkdir");
    }
    rustix::mount::unmount(at, rustix::mount::UnmountFlags::empty()).expect("unmount");
    for dir in DIRS {
        for name in OLD {
            let set = format!("set_inode_field /{dir}/{name} ctime 20010203040506");
            run(Command::new("debugfs").args(["-w", "-R", &set]).arg(image)).expect("debugfs(8)");
        }
    }
    mount();
    for dir in DIRS {
        fs::write(at.join(dir).join(YOUNG), "in use").expect("write");
    }
}

fn listed(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("list").flatten();
    let mut names: Vec<String> = names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn b9_leftovers_go_with_the_next_work_in_their_directory() {
    private(DEADLINE, |env| {
        let bases = Bases::new(env, Lower::Tmpfs);
        let disk: PathBuf = bases.mnt().join("disk");
        fs::create_dir(&disk).expect("mkdir");
        image_of_2001(&env.scratch().join("image"), &disk);
        let view = env.dir("view");
        rustix::mount::mount_bind(&disk, &view).expect("bind");
        let etcfs = Etcfs::serve(
            env,
            bases,
            Opts {
                config: vec![
                    "add_global /global".into(),
                    "add_override symlink /disk/symlink/made right".into(),
                    "add_override directory /disk/directory/made x".into(),
                ],
                ..Opts::default()
            },
        );
        let all: Vec<&str> = [&OLD[..], &[YOUNG]].concat();
        let disk = etcfs.mnt().join("disk");
        for dir in DIRS {
            assert_eq!(listed(&view.join(dir)), all, "{dir}");
            // An override is listed before it is made.
            let promised = usize::from(matches!(dir, "symlink" | "directory"));
            assert_eq!(listed(&disk.join(dir)).len(), promised, "{dir}");
        }
        fs::symlink_metadata(disk.join("symlink/made")).expect("enforced");
        fs::symlink_metadata(disk.join("directory/made")).expect("enforced");
        fs::write(etcfs.global().join("global"), "x").expect("write");
        fs::rename(etcfs.mnt().join("global"), disk.join("to/made")).expect("rename");
        fs::write(disk.join("from/file"), "x").expect("write");
        fs::rename(disk.join("from/file"), etcfs.mnt().join("global")).expect("rename");
        for (dir, expected) in [
            ("symlink", &[YOUNG, "made"][..]),
            ("directory", &[YOUNG, "made"]),
            ("to", &[YOUNG, "made"]),
            ("from", &[YOUNG]),
        ] {
            assert_eq!(listed(&view.join(dir)), expected, "{dir}");
        }
    });
}
