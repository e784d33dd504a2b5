//! Golden messages and what they show as.
//!
//! `golden/requests` and `golden/answers` hold one message per `.hex` file and the line it shows as in the `.txt` file
//! beside it. They are those of a little-endian machine with the generic `O_*` numbers.
//! `BLESS=1 cargo test -p etcfs-proto --test frames` writes them anew from `samples`.

use crate::entry::Aligned;
use crate::samples::{self, Sample};
use etcfs_proto::{Frame, Opcode, show};
use std::fs;
use std::path::Path;

fn show_request(message: &[u8]) -> String {
    match Frame::cut(Aligned::new(message).bytes()) {
        Ok(frame) => show::request(&frame).to_string(),
        Err(error) => error.to_string(),
    }
}

/// The golden file's text: one comment per part, 16 bytes per line.
fn to_hex(sample: &Sample) -> String {
    let mut text = format!(
        "# {}, little-endian\nopcode: {}\n",
        sample.opcode, sample.opcode.0
    );
    for (what, bytes) in &sample.parts {
        text.push_str(&format!("# {what}\n"));
        for line in bytes.chunks(16) {
            let line: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
            text.push_str(&format!("{}\n", line.join(" ")));
        }
    }
    text
}

/// Reads a golden file back.
fn from_hex(text: &str) -> (Opcode, Vec<u8>) {
    let mut opcode = None;
    let mut bytes = Vec::new();
    for line in text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
    {
        match line.strip_prefix("opcode:") {
            Some(number) => {
                opcode = Some(Opcode(number.trim().parse().expect("opcode is a number")))
            }
            None => bytes.extend(
                line.split_whitespace()
                    .map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits")),
            ),
        }
    }
    (opcode.expect("every golden file names its opcode"), bytes)
}

/// Compares a golden directory with the samples and the texts with what is shown.
fn check(kind: &str, samples: &[Sample], show: impl Fn(Opcode, &[u8]) -> String) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(kind);
    let mut files = Vec::new();
    for sample in samples {
        let (hex, txt) = (
            dir.join(format!("{}.hex", sample.file)),
            dir.join(format!("{}.txt", sample.file)),
        );
        if std::env::var_os("BLESS").is_some() {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&hex, to_hex(sample)).unwrap();
            fs::write(
                &txt,
                format!("{}\n", show(sample.opcode, &sample.message())),
            )
            .unwrap();
        }
        let text = fs::read_to_string(&hex).unwrap();
        assert_eq!(text, to_hex(sample), "{}", hex.display());
        let (opcode, message) = from_hex(&text);
        assert_eq!((opcode, &message), (sample.opcode, &sample.message()));
        assert_eq!(
            fs::read_to_string(&txt).unwrap(),
            format!("{}\n", show(opcode, &message))
        );
        files.extend([hex, txt]);
    }
    let mut found: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    found.sort();
    assert_eq!(
        found, files,
        "a golden file without a sample, or a sample twice"
    );
}

#[test]
fn golden_requests_show_as_their_texts() {
    check("requests", &samples::requests(), |_, message| {
        show_request(message)
    });
}

#[test]
fn golden_answers_and_notices_show_as_their_texts() {
    let mut all = samples::answers();
    all.extend(samples::notices());
    check("answers", &all, |opcode, message| {
        show::answer(opcode, message).to_string()
    });
}
