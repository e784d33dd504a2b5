//! Golden messages cut off at every byte and with bytes replaced: typed errors, never a panic.

use crate::entry::{self, Aligned, examine, with_length};
use crate::samples::{self, requests};
use etcfs_proto::{Frame, Opcode, WireError, show};

#[test]
fn request_cut_off_by_the_device_is_a_wrong_length() {
    for sample in requests() {
        let (file, message) = (&sample.file, sample.message());
        for len in 0..message.len() {
            let error = Frame::cut(Aligned::new(&message[..len]).bytes()).unwrap_err();
            match len {
                0..40 => assert_eq!(error, WireError::ShortHead { have: len }, "{file}"),
                _ => assert!(
                    matches!(error, WireError::WrongLength { have, .. } if have == len),
                    "{file}"
                ),
            }
        }
    }
}

#[test]
fn request_that_ends_too_early_is_a_typed_error_at_every_byte() {
    for sample in requests() {
        let (file, message) = (&sample.file, sample.message());
        for len in 40..message.len() {
            let short = Aligned::new(&with_length(&message[..len]));
            let result = Frame::cut(short.bytes()).and_then(|frame| {
                assert!(!show::request(&frame).to_string().is_empty());
                examine(&frame)
            });
            let whole = match file.as_str() {
                // Of an unknown opcode nothing is known to be missing.
                "unknown_opcode" => true,
                // An INIT of 16 bytes or more is an old kernel's.
                "init" => len >= 56,
                // Cut off here, the second half of the arguments reads as a name and 5 bytes of value.
                "setxattr" => len == 40 + 8 + 2 + 5,
                _ => false,
            };
            if whole {
                assert_eq!(result, Ok(()), "{file} of {len}");
                continue;
            }
            let error = result.expect_err(&format!("{file} of {len} bytes lacks something"));
            let opcode = Opcode(u32::from_ne_bytes(message[4..8].try_into().unwrap()));
            assert!(
                error.to_string().contains(opcode.name().unwrap()),
                "{error}"
            );
        }
    }
}

/// A small generator, so that a failure comes back with the same seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

#[test]
fn damaged_requests_and_answers_never_panic() {
    let mut random = Random(0x5eed);
    let mut all = samples::requests();
    all.extend(samples::answers());
    all.extend(samples::notices());
    for sample in all {
        let message = sample.message();
        for _ in 0..500 {
            let mut damaged = message.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len());
                damaged[at] = random.below(256) as u8;
            }
            entry::parse(&damaged);
            entry::show(&damaged);
            assert!(!show::answer(sample.opcode, &damaged).to_string().is_empty());
            assert!(
                !show::answer(sample.opcode, &with_length(&damaged))
                    .to_string()
                    .is_empty()
            );
        }
    }
}

#[test]
fn answers_cut_off_at_every_byte_are_shown() {
    for sample in samples::answers().into_iter().chain(samples::notices()) {
        let message = sample.message();
        for len in 0..message.len() {
            let text = show::answer(sample.opcode, &message[..len]).to_string();
            assert!(text.contains("bad("), "{}: {text}", sample.file);
            assert!(
                !show::answer(sample.opcode, &with_length(&message[..len]))
                    .to_string()
                    .is_empty()
            );
        }
    }
}
