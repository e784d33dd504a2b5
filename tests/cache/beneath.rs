//! Changes beneath the mount.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use crate::harness::private;
use crate::{DEADLINE, cache, names, replace, served, text, until, warm};

#[test]
fn every_kind_of_change_is_seen() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let (above, below) = (etcfs.mnt().join("d"), etcfs.local().join("d"));
        for turn in 0..40_u32 {
            let name = format!("new{turn}");
            warm(&above.join(&name));
            warm(&above);
            fs::write(below.join(&name), "text").expect("write");
            until("a file made", || above.join(&name).exists());
            until("a file listed", || names(&above).contains(&name));
            warm(&above.join(&name));
            fs::remove_file(below.join(&name)).expect("unlink");
            until("a file removed", || !above.join(&name).exists());
            until("a file no more listed", || !names(&above).contains(&name));

            warm(&above.join("f"));
            replace(&below.join("f"), &format!("{turn}"));
            until("a file replaced", || {
                text(&above.join("f")) == format!("{turn}")
            });
            let ino = fs::metadata(below.join("f")).expect("stat").ino();
            until("a file of another number", || {
                fs::metadata(above.join("f")).is_ok_and(|seen| seen.ino() == ino)
            });

            warm(&above.join("f"));
            fs::write(below.join("f"), "longer than before").expect("write");
            until("a file's size", || {
                fs::metadata(above.join("f")).is_ok_and(|seen| seen.len() == 18)
            });
            warm(&above.join("f"));
            let mode = 0o600 + turn % 8;
            fs::set_permissions(below.join("f"), fs::Permissions::from_mode(mode)).expect("chmod");
            until("a file's mode", || {
                let seen = fs::metadata(above.join("f")).expect("stat");
                seen.permissions().mode() & 0o777 == mode
            });
            std::os::unix::fs::chown(below.join("f"), Some(turn), None).expect("chown");
            until("a file's owner", || {
                fs::metadata(above.join("f")).expect("stat").uid() == turn
            });

            warm(&above.join("l"));
            fs::remove_file(below.join("l")).expect("unlink");
            symlink(format!("to{turn}"), below.join("l")).expect("symlink");
            until("a symlink replaced", || {
                fs::read_link(above.join("l"))
                    .is_ok_and(|to| to.as_os_str() == &*format!("to{turn}"))
            });

            warm(&above.join("sub"));
            let mode = 0o750 + turn % 8;
            fs::set_permissions(below.join("sub"), fs::Permissions::from_mode(mode))
                .expect("chmod");
            until("a directory's mode", || {
                let seen = fs::metadata(above.join("sub")).expect("stat");
                seen.permissions().mode() & 0o777 == mode
            });
            warm(&above.join("sub"));
            fs::create_dir(below.join("sub/within")).expect("mkdir");
            until("a directory's links", || {
                fs::metadata(above.join("sub")).expect("stat").nlink() == 3
            });
            fs::remove_dir(below.join("sub/within")).expect("rmdir");
            until("a directory's links again", || {
                fs::metadata(above.join("sub")).expect("stat").nlink() == 2
            });
        }
        assert!(cache(&etcfs, "dropped_by_event") > 0);
    });
}

#[test]
fn a_directory_removed_and_made_again_is_the_new_one() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let (above, below) = (etcfs.mnt().join("d/sub"), etcfs.local().join("d/sub"));
        for turn in 0..40 {
            fs::write(below.join("in"), "old").expect("write");
            until("the old one", || text(&above.join("in")) == "old");
            warm(&above);
            fs::remove_dir_all(&below).expect("remove");
            fs::create_dir(&below).expect("mkdir");
            fs::write(below.join("other"), "new").expect("write");
            until("the new one", || {
                !above.join("in").exists() && text(&above.join("other")) == "new"
            });
            assert_eq!(names(&above), ["other"], "turn {turn}");
            fs::remove_file(below.join("other")).expect("unlink");
        }
    });
}

#[test]
fn a_directory_moved_is_where_it_is() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let (above, below) = (etcfs.mnt(), etcfs.local());
        for _ in 0..20 {
            warm(&above.join("d/f"));
            warm(&above.join("e/f"));
            fs::rename(below.join("d"), below.join("e")).expect("rename");
            until("moved", || {
                !above.join("d").exists() && above.join("e/f").exists()
            });
            fs::rename(below.join("e"), below.join("d")).expect("rename");
            until("moved back", || {
                !above.join("e").exists() && above.join("d/f").exists()
            });
        }
    });
}

#[test]
fn what_is_mounted_anywhere_makes_all_be_asked_for() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let at = env.dir("elsewhere");
        warm(&etcfs.mnt().join("d/f"));
        assert!(cache(&etcfs, "kept") > 0);
        rustix::mount::mount_bind(&at, &at).expect("mount");
        until("dropped", || cache(&etcfs, "kept") == 0);
        warm(&etcfs.mnt().join("d/f"));
        assert!(cache(&etcfs, "kept") > 0);
        rustix::mount::unmount(&at, rustix::mount::UnmountFlags::empty()).expect("unmount");
        until("dropped", || cache(&etcfs, "kept") == 0);
    });
}

#[test]
fn what_is_mounted_on_a_name_stays_when_the_name_is_dropped() {
    private(DEADLINE, |env| {
        let etcfs = served(env, &[]);
        let (above, below) = (etcfs.mnt().join("d"), etcfs.local().join("d"));
        let over = env.dir("over");
        fs::write(over.join("here"), "over").expect("write");
        rustix::mount::mount_bind(&over, above.join("sub")).expect("mount");
        for turn in 0..20 {
            warm(&above);
            fs::set_permissions(below.join("sub"), fs::Permissions::from_mode(0o700 + turn))
                .expect("chmod");
            fs::write(below.join(format!("n{turn}")), "").expect("write");
            until("the change", || above.join(format!("n{turn}")).exists());
            assert_eq!(text(&above.join("sub/here")), "over", "turn {turn}");
        }
        rustix::mount::unmount(above.join("sub"), rustix::mount::UnmountFlags::empty())
            .expect("unmount");
    });
}
