//! Panics, wherever a request is served, and answers that are refused.

use super::*;
use crate::session::debt::error;
use crate::session::fake::FakeKernel;
use crate::session::meter::now;
use crate::session::{Observer, Times};
use etcfs_proto::abi::{GetattrIn, InHeader, InterruptIn, OutHeader};
use etcfs_proto::{Frame, Opcode};
use rustix::io::Errno;
use std::sync::atomic::{AtomicUsize, Ordering};
use zerocopy::IntoBytes as _;

const WORKER: Opcode = Opcode(7);
const ASIDE: Opcode = Opcode(19);

/// Panics at every request, or at every answer.
struct Clumsy {
    at_request: bool,
    seen: AtomicUsize,
}

impl Observer for Clumsy {
    fn request(&self, _: &Frame<'_>) {
        self.seen.fetch_add(1, Ordering::Relaxed);
        assert!(!self.at_request, "an observer, on purpose");
    }

    fn answer(&self, _: &Frame<'_>, _: &[u8], _: Times) {
        panic!("an observer, on purpose");
    }
}

#[test]
fn an_observer_that_panics_is_taken_off_and_every_request_is_answered() {
    for at_request in [true, false] {
        for opcode in [WORKER, ASIDE] {
            let clumsy = Arc::new(Clumsy {
                at_request,
                seen: AtomicUsize::new(0),
            });
            let mut kernel = FakeKernel::watched("clumsy", Some(clumsy.clone()));
            for _ in 0..3 {
                let unique = kernel.send(opcode, 1, &0_u64.to_ne_bytes());
                assert_eq!(kernel.answer(), (unique, Ok(vec![])));
            }
            assert_eq!(clumsy.seen.load(Ordering::Relaxed), 1, "it sees no more");
        }
    }
}

#[test]
fn a_handler_that_panics_is_answered_eio_in_every_thread_and_none_of_them_ends() {
    let mut kernel = FakeKernel::new("handler");
    for opcode in [WORKER, ASIDE].repeat(20) {
        let unique = kernel.send(opcode, 1, &u64::MAX.to_ne_bytes());
        assert_eq!(kernel.answer(), (unique, Err(Errno::IO)));
        let unique = kernel.send(opcode, 1, &0_u64.to_ne_bytes());
        assert_eq!(kernel.answer(), (unique, Ok(vec![])));
    }
    assert_eq!(kernel.answer_within(20), None, "no second answers");
}

#[test]
fn a_debt_that_is_dropped_by_a_panic_is_paid_with_eio_once() {
    let kernel = FakeKernel::new("debt");
    let own = kernel.session.clone();
    let head = InHeader {
        len: 56,
        opcode: Opcode::GETATTR.0,
        unique: 10,
        ..InHeader::default()
    };
    let thread = std::thread::spawn(move || {
        let _debt = Debt::of(&own, head.as_bytes());
        panics::catch(|| ()).expect("nothing happened");
        panic!("with a debt, on purpose");
    });
    assert!(thread.join().is_err());
    assert_eq!(kernel.answer(), (10, Err(Errno::IO)));
    // The kernel waits for no answer to these.
    for opcode in [Opcode::FORGET, Opcode::INTERRUPT] {
        let head = InHeader {
            opcode: opcode.0,
            ..head
        };
        drop(Debt::of(&kernel.session, head.as_bytes()));
    }
    let paid = Debt::of(&kernel.session, head.as_bytes());
    paid.pay(error(10, Errno::NOENT).as_bytes());
    assert_eq!(kernel.answer(), (10, Err(Errno::NOENT)));
    assert_eq!(kernel.answer_within(20), None);
}

/// A device that refuses what is too long, as the kernel does what it cannot make sense of.
#[test]
fn a_refused_answer_is_answered_eio() {
    let kernel = FakeKernel::new("refused");
    let too_long = vec![0_u8; 64 << 20];
    let head = OutHeader {
        len: too_long.len() as u32,
        error: 0,
        unique: 12,
    };
    let getattr = InHeader {
        opcode: Opcode::GETATTR.0,
        unique: 12,
        ..InHeader::default()
    };
    let debt = Debt::of(&kernel.session, getattr.as_bytes());
    debt.pay(&[head.as_bytes(), &too_long[16..]].concat());
    assert_eq!(kernel.answer(), (12, Err(Errno::IO)));
}

#[test]
fn what_is_aside_ends_when_its_client_is_gone() {
    let kernel = FakeKernel::new("gone");
    for n in 0..40 {
        // More than begin at once, so that some of them are interrupted while they wait for their turn. Nobody is
        // thread 0.
        kernel.send_as(1000 + 2 * n, ASIDE, 1, &60_000_u64.to_ne_bytes());
    }
    let began = now();
    let mut answered: Vec<u64> = (0..40)
        .map(|n| {
            let unique = 1000 + 2 * n;
            let interrupt = InterruptIn { unique };
            kernel.send_as(unique | 1, Opcode::INTERRUPT, 1, interrupt.as_bytes());
            let (unique, result) = kernel.answer();
            assert_eq!(result, Err(Errno::INTR));
            unique
        })
        .collect();
    answered.sort_unstable();
    assert!(answered.iter().copied().eq((0..40).map(|n| 1000 + 2 * n)));
    assert!(now() - began < 20_000_000_000);
    kernel.send_as(2000, Opcode::GETATTR, 1, GetattrIn::default().as_bytes());
    assert!(matches!(kernel.answer(), (2000, Ok(_))));
}
