//! What a real kernel sends too rarely to test on a mount.

use crate::session::fake::FakeKernel;
use etcfs_proto::Opcode;
use etcfs_proto::abi::{FileLock, InterruptIn, LkIn};
use etcfs_proto::flags::LkFlags;
use rustix::io::Errno;
use std::fs::File;
use zerocopy::IntoBytes;

/// `flock(2)` of the whole file, exclusive, waiting.
fn exclusive(fh: u64) -> LkIn {
    LkIn {
        fh,
        owner: fh,
        lk: FileLock {
            end: i64::MAX as u64,
            r#type: libc::F_WRLCK as u32,
            ..FileLock::default()
        },
        lk_flags: LkFlags::FLOCK.bits(),
        ..LkIn::default()
    }
}

/// Two workers read one device, so the interrupt of a request may be handled before the request itself.
#[test]
fn an_interrupt_that_overtakes_its_request_is_not_lost() {
    let mut kernel = FakeKernel::new("overtaken");
    let (node, fh) = kernel.open();
    let native = File::open(kernel.dir.join("f")).unwrap();
    rustix::fs::flock(&native, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for unique in (1000..1200).step_by(2) {
        let interrupt = InterruptIn { unique };
        kernel.send_as(unique | 1, Opcode::INTERRUPT, node, interrupt.as_bytes());
    }
    // A round trip later the interrupts have been read, and after this one they have been handled.
    for _ in 0..10 {
        kernel.open_again(node);
    }
    for unique in (1000..1200).step_by(2) {
        kernel.send_as(unique, Opcode::SETLKW, node, exclusive(fh).as_bytes());
        assert_eq!(kernel.answer(), (unique, Err(Errno::INTR)));
    }
    assert_eq!(kernel.session.waiters.len(), 0);
}

#[test]
fn interrupted_waiters_answer_eintr_once_and_leave() {
    let mut kernel = FakeKernel::new("interrupted");
    let (node, _) = kernel.open();
    let native = File::open(kernel.dir.join("f")).unwrap();
    rustix::fs::flock(&native, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let handles: Vec<u64> = (0..32).map(|_| kernel.open_again(node)).collect();
    for round in 0..20 {
        let first = 10_000 + round * 1000;
        for (&fh, unique) in handles.iter().zip((first..).step_by(2)) {
            kernel.send_as(unique, Opcode::SETLKW, node, exclusive(fh).as_bytes());
            let interrupt = InterruptIn { unique };
            kernel.send_as(unique | 1, Opcode::INTERRUPT, node, interrupt.as_bytes());
        }
        let mut answered: Vec<u64> = handles
            .iter()
            .map(|_| {
                let (unique, result) = kernel.answer();
                assert_eq!(result, Err(Errno::INTR));
                unique
            })
            .collect();
        answered.sort_unstable();
        answered.dedup();
        assert_eq!(answered.len(), handles.len());
    }
    assert_eq!(kernel.session.waiters.len(), 0);
    let fds = kernel.session.fs.locks.len();
    assert_eq!(fds, 0, "descriptions left");
}

#[test]
fn waiters_are_bounded_by_user_and_in_all_and_root_has_its_own() {
    const MOST: usize = 3;
    let mut kernel = FakeKernel::new("bounded");
    kernel.session.waiters.set_most(MOST);
    let (node, _) = kernel.open();
    let native = File::open(kernel.dir.join("f")).unwrap();
    rustix::fs::flock(&native, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut unique = 10_000;
    // How many of five requests of each of these users wait; the others are refused at once.
    let mut waits = |uids: std::ops::Range<u32>| {
        let mut waiting = 0;
        for uid in uids {
            for _ in 0..5 {
                let fh = kernel.open_again(node);
                unique += 2;
                let before = kernel.session.waiters.len();
                kernel.send_of(uid, unique, Opcode::SETLKW, node, exclusive(fh).as_bytes());
                loop {
                    if let Some(answer) = kernel.answer_within(1) {
                        assert_eq!(answer, (unique, Err(Errno::NOLCK)));
                        break;
                    }
                    if kernel.session.waiters.len() > before {
                        waiting += 1;
                        break;
                    }
                }
            }
        }
        waiting
    };
    // Ten subordinate uids of one user.
    assert_eq!(waits(100_000..100_010), MOST);
    assert_eq!(waits(1000..1001), MOST);
    assert_eq!(waits(1001..1010), MOST, "all users but root together");
    assert_eq!(waits(0..1), MOST);
    drop(native);
    // One gets the lock, and gives it up with its handle only.
    assert!(matches!(kernel.answer(), (_, Ok(body)) if body.is_empty()));
    assert_eq!(kernel.answer_within(20), None);
    assert_eq!(kernel.session.waiters.len(), 4 * MOST - 1);
}
