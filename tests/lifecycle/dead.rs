//! A start over a mount whose daemon was killed, with other mounts in it or over it (contract D15, U7).

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::Signal;

use crate::harness::{Bases, Env, Etcfs, Lower, mounts, private};
use crate::{DEADLINE, LONG, background, until};

/// Lower directories whose daemon has been killed while `with` had done something to its mount.
fn killed(env: &Env, with: impl FnOnce(&Etcfs)) -> Bases {
    let bases = Bases::new(env, Lower::Tmpfs);
    fs::write(bases.local().join("file"), "local").expect("write");
    let mut etcfs = Etcfs::serve(env, bases.clone(), crate::Opts::default());
    with(&etcfs);
    etcfs.signal(Signal::KILL);
    etcfs.wait(LONG).expect("it dies");
    // Its mounts stay for the next one.
    etcfs.leave();
    bases
}

fn tmpfs(at: &Path, source: &str) {
    rustix::mount::mount(source, at, "tmpfs", MountFlags::empty(), None).expect("mount a tmpfs");
}

fn types_at(at: &Path) -> Vec<String> {
    let here = mounts().into_iter().filter(|mount| mount.at == at);
    here.map(|mount| mount.fstype).collect()
}

/// Nobody can reach it by a path, so there is nothing to keep for newcomers; who is in it goes on.
#[test]
fn a_dead_mount_is_replaced_with_what_lies_in_it_and_that_is_told() {
    private(DEADLINE, |env| {
        let mut held = None;
        let bases = killed(env, |etcfs| {
            let (inner, deep) = (etcfs.mnt().join("inner"), etcfs.mnt().join("inner/deep"));
            fs::create_dir(&inner).expect("mkdir");
            tmpfs(&inner, "first");
            fs::create_dir(&deep).expect("mkdir");
            tmpfs(&deep, "second");
            fs::write(inner.join("f"), "held").expect("write");
            held = Some(fs::File::open(inner.join("f")).expect("open"));
        });
        let mnt = bases.mnt();
        // A look at it is ENOTCONN, and one within a tick after the death has the kernel unmount it (`d_invalidate`).
        let etcfs = Etcfs::serve(env, bases, background());
        assert_eq!(types_at(&mnt), ["fuse.etcfs"], "contract D12");
        assert_eq!(fs::read(mnt.join("file")).expect("read"), b"local");
        let said = etcfs.stderr();
        for inner in ["inner (tmpfs)", "inner/deep (tmpfs)"] {
            let line = said.lines().find(|line| line.contains(inner));
            let line = line.unwrap_or_else(|| panic!("{inner} in {said:?}"));
            assert!(line.contains("mount it again"), "{line}");
        }
        assert_eq!(said.lines().count(), 2, "{said}");
        let mut held = held.expect("a file of the inner mount");
        let mut text = String::new();
        held.seek(SeekFrom::Start(0)).expect("seek");
        held.read_to_string(&mut text)
            .expect("who is in it goes on");
        assert_eq!(text, "held");
        // What stands there is the new mount's, and can be mounted on again.
        tmpfs(&mnt.join("inner"), "again");
        rustix::mount::unmount(mnt.join("inner"), UnmountFlags::empty()).expect("unmount");
    });
}

#[test]
fn a_living_mount_over_a_dead_one_is_served_and_stays() {
    private(DEADLINE, |env| {
        let bases = killed(env, |etcfs| tmpfs(&etcfs.mnt(), "over"));
        let mnt = bases.mnt();
        fs::write(mnt.join("file"), "over it").expect("write");
        let etcfs = Etcfs::serve(env, bases.clone(), background());
        let stack = ["fuse.etcfs", "tmpfs", "fuse.etcfs"];
        assert_eq!(types_at(&mnt), stack, "nothing of another's is unmounted");
        assert_eq!(fs::read(mnt.join("file")).expect("read"), b"over it");
        let said = etcfs.stderr();
        assert!(said.contains("the tmpfs there covers an etcfs"), "{said}");
        etcfs.signal(Signal::TERM);
        until("it is unmounted", || types_at(&mnt).len() == 2);
        assert_eq!(fs::read(mnt.join("file")).expect("read"), b"over it");
        // The last thread of the served one holds it until it has ended.
        until("the tmpfs is unmounted", || {
            rustix::mount::unmount(&mnt, UnmountFlags::empty()).is_ok()
        });
        until("the served one has ended", || {
            !Path::new(&format!("/proc/{}/root", etcfs.pid())).exists()
        });
        etcfs.leave();
        let _third = Etcfs::serve(env, bases, background());
        assert_eq!(
            types_at(&mnt),
            ["fuse.etcfs"],
            "freed of it, the dead one is replaced"
        );
        assert_eq!(fs::read(mnt.join("file")).expect("read"), b"local");
    });
}

#[test]
fn a_dead_mount_over_a_living_one_over_a_dead_one_goes_and_the_others_stay() {
    private(DEADLINE, |env| {
        let bases = killed(env, |etcfs| tmpfs(&etcfs.mnt(), "over"));
        let mnt = bases.mnt();
        fs::write(mnt.join("file"), "over it").expect("write");
        let mut second = Etcfs::serve(env, bases.clone(), crate::Opts::default());
        second.signal(Signal::KILL);
        second.wait(LONG).expect("it dies");
        second.leave();
        let _etcfs = Etcfs::serve(env, bases, background());
        assert_eq!(types_at(&mnt), ["fuse.etcfs", "tmpfs", "fuse.etcfs"]);
        assert_eq!(fs::read(mnt.join("file")).expect("read"), b"over it");
    });
}
