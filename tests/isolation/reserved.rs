//! Blocks that the lower file system keeps for root stay root's, with passthrough too.
//!
//! A daemon that writes with root's rights let uid 1000 take all of them.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::Path;

use rustix::io::Errno;

use crate::DEADLINE;
use crate::harness::{Etcfs, Lower, Opts, User, as_user, counted, errno, private};

/// Makes `path` as large as the file system lets uid 1000 make it; the errno at the end.
fn fill(path: &Path) -> Errno {
    as_user(&User::plain(1000), || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .expect("create");
        // Whole megabytes first, which costs nothing, then what is left by writing.
        let mut at = 0;
        let mut step = 16 << 20;
        while step >= 1 << 20 {
            let mode = rustix::fs::FallocateFlags::empty();
            match rustix::fs::fallocate(&file, mode, at, step) {
                Ok(()) => at += step,
                Err(_) => step /= 2,
            }
        }
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).expect("seek");
        loop {
            if let Err(error) = file.write_all(&[b'x'; 4096]) {
                return errno(error);
            }
        }
    })
}

/// What is free for root and for others, in blocks.
fn free(path: &Path) -> (u64, u64) {
    let stat = rustix::fs::statvfs(path).expect("statvfs");
    (stat.f_bfree, stat.f_bavail)
}

#[test]
fn a_user_gets_no_block_that_is_kept_for_root() {
    for passthrough in [false, true] {
        private(DEADLINE, move |env| {
            let etcfs = Etcfs::start(
                env,
                Opts {
                    lower: Lower::Ext4,
                    options: passthrough
                        .then(|| "passthrough".to_owned())
                        .into_iter()
                        .collect(),
                    ..Opts::default()
                },
            );
            let mut left = Vec::new();
            for base in [etcfs.native(), etcfs.mnt()] {
                let dir = base.join("u");
                fs::create_dir(&dir).expect("mkdir");
                chown(&dir, Some(1000), Some(1000)).expect("chown");
                assert_eq!(fill(&dir.join("f")), Errno::NOSPC);
                let (for_root, for_others) = free(&base);
                assert_eq!(for_others, 0, "{}", base.display());
                left.push(for_root);
                // Root's own write is served from what is kept, but where the kernel writes with nobody's rights.
                let kept = File::create(base.join("kept"))
                    .and_then(|mut file| file.write_all(&[b'k'; 65536]));
                let refused = passthrough && base == etcfs.mnt();
                assert_eq!(
                    kept.map_err(errno).err(),
                    refused.then_some(Errno::NOSPC),
                    "{}",
                    base.display()
                );
                fs::remove_file(dir.join("f")).expect("unlink");
                fs::remove_file(base.join("kept")).expect("unlink");
            }
            assert!(
                left[1] > 1000 && left[1] + 64 >= left[0],
                "free for root, natively and on the mount: {left:?}"
            );
            assert_eq!(counted(&etcfs, "WRITE") == 0, passthrough);
        });
    }
}
