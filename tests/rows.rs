//! Rows of random requests of root and two users, without a kernel that checks anything first: the guard of identities, the
//! parsers and the bounds together. `RANDOM_SEED` and `RANDOM_MINUTES` run others, and for longer.

mod kernel;

use std::time::{Duration, Instant};

use kernel::rows::Rows;

/// Rows of one run.
const ROWS: u64 = 100;

/// Bytes of a row: some hundred requests.
const LONG: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// splitmix64 (Steele, Lea, Flood 2014).
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn every_row_is_answered_once_and_changes_nothing_that_is_roots() {
    let mut state = number("RANDOM_SEED").unwrap_or(1);
    let until = number("RANDOM_MINUTES").map(|n| Instant::now() + Duration::from_secs(60 * n));
    let mut done = 0;
    let (mut answers, mut good) = (0, 0);
    while until.map_or(done < ROWS, |until| Instant::now() < until) {
        // A session serves some rows, so that later ones meet what earlier ones have left.
        let mut rows = Rows::new();
        for _ in 0..20 {
            let seed = state;
            let len = random(&mut state) % LONG;
            let bytes: Vec<u8> = (0..len)
                .map(|_| random(&mut state).to_le_bytes()[0])
                .collect();
            let outcome =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rows.run(&bytes)));
            if let Err(panic) = outcome {
                eprintln!(
                    "RANDOM_SEED={seed}, a row of {len} bytes in a session that had served others"
                );
                std::panic::resume_unwind(panic);
            }
            done += 1;
        }
        answers += rows.answers.0;
        good += rows.answers.1;
    }
    eprintln!("{done} rows, {answers} answers, {good} of them no errno");
    assert!(
        good > answers / 10,
        "the rows are of use: {good} of {answers}"
    );
}
