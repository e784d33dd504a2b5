//! A change made beneath the mount is seen by the next call that names the path.

use crate::on_each_lower;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

#[test]
fn s3_a_name_that_was_missing_is_found_once_it_is_there() {
    on_each_lower(|_, etcfs| {
        let (mnt, local) = (etcfs.mnt(), etcfs.local());
        for n in 0..200 {
            let name = format!("n{n}");
            assert!(!mnt.join(&name).exists());
            fs::write(local.join(&name), "x").expect("write");
            assert_eq!(fs::read(mnt.join(&name)).expect("read"), b"x", "{name}");
            fs::remove_file(local.join(&name)).expect("remove");
            assert_eq!(
                fs::metadata(mnt.join(&name))
                    .map_err(crate::harness::errno)
                    .map(drop),
                Err(Errno::NOENT)
            );
            // Creating it natively must not be refused because of what the kernel has remembered.
            fs::create_dir(mnt.join(&name)).expect("mkdir");
            fs::remove_dir(mnt.join(&name)).expect("rmdir");
        }
    });
}

#[test]
fn s3_every_kind_of_change_is_seen_by_the_next_call() {
    on_each_lower(|_, etcfs| {
        let (mnt, local) = (etcfs.mnt(), etcfs.local());
        let f = local.join("f");
        for round in 0..50_u32 {
            fs::write(&f, format!("round {round}")).expect("write");
            assert_eq!(
                fs::read_to_string(mnt.join("f")).expect("read"),
                format!("round {round}")
            );
            fs::set_permissions(&f, fs::Permissions::from_mode(0o600 + round % 8)).expect("chmod");
            assert_eq!(
                mnt.join("f").metadata().expect("stat").mode() & 0o777,
                0o600 + round % 8
            );
            std::os::unix::fs::chown(&f, Some(round), None).expect("chown");
            assert_eq!(mnt.join("f").metadata().expect("stat").uid(), round);
            fs::write(&f, vec![0; round as usize * 100]).expect("write");
            assert_eq!(
                mnt.join("f").metadata().expect("stat").len(),
                u64::from(round) * 100
            );
            // Another inode in its place, then another type, then a symlink, then nothing.
            fs::write(local.join("g"), "replaced").expect("write");
            fs::rename(local.join("g"), &f).expect("rename");
            assert_eq!(fs::read(mnt.join("f")).expect("read"), b"replaced");
            fs::remove_file(&f).expect("remove");
            fs::create_dir(&f).expect("mkdir");
            assert!(mnt.join("f").is_dir());
            fs::write(f.join("inner"), "i").expect("write");
            assert_eq!(fs::read(mnt.join("f/inner")).expect("read"), b"i");
            fs::rename(&f, local.join("moved")).expect("rename");
            assert!(!mnt.join("f/inner").exists());
            assert!(mnt.join("moved/inner").exists());
            symlink("moved/inner", &f).expect("symlink");
            assert_eq!(
                fs::read_link(mnt.join("f")).expect("readlink").to_str(),
                Some("moved/inner")
            );
            assert_eq!(fs::read(mnt.join("f")).expect("read"), b"i");
            fs::remove_file(&f).expect("remove");
            symlink("elsewhere", &f).expect("symlink");
            assert_eq!(
                fs::read_link(mnt.join("f")).expect("readlink").to_str(),
                Some("elsewhere")
            );
            fs::remove_file(&f).expect("remove");
            assert_eq!(fs::read_dir(&mnt).expect("list").count(), 2);
            fs::remove_dir_all(local.join("moved")).expect("remove");
            assert_eq!(fs::read_dir(&mnt).expect("list").count(), 1);
        }
    });
}

#[test]
fn operations_meet_names_changed_beneath_without_stale_errors() {
    on_each_lower(|_, etcfs| {
        let (mnt, local) = (etcfs.mnt(), etcfs.local());
        for n in 0..100 {
            // The kernel has seen a file; beneath it becomes another one, and the next call is a change of it.
            let name = mnt.join("x");
            fs::write(&name, "one").expect("write");
            fs::write(local.join("y"), "two").expect("write");
            fs::rename(local.join("y"), local.join("x")).expect("rename");
            match n % 5 {
                0 => fs::set_permissions(&name, fs::Permissions::from_mode(0o640)).expect("chmod"),
                1 => fs::OpenOptions::new()
                    .append(true)
                    .open(&name)
                    .map(drop)
                    .expect("open"),
                2 => fs::rename(&name, mnt.join("w"))
                    .and_then(|()| fs::rename(mnt.join("w"), &name))
                    .expect("rename"),
                3 => fs::hard_link(&name, mnt.join("h"))
                    .and_then(|()| fs::remove_file(mnt.join("h")))
                    .expect("link"),
                _ => fs::write(&name, "three").expect("write"),
            }
            fs::remove_file(&name).expect("remove");
        }
    });
}
