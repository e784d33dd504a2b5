//! A recording in words: every message as `-d` shows it, and what is wrong with the conversation.

use super::errno_of;
use crate::printable::{printable, tame, tame_json};
use etcfs_proto::abi::UNIQUE_RESEND;
use etcfs_proto::capture::{
    CaptureError, CaptureFlags, Conversation, Fault, Message, Reader, Record, RecordKind,
};
use etcfs_proto::{Frame, show};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{self, Write};

/// The most nodes whose lookups were not forgotten that are listed; a mount that goes on has many.
const NODES: usize = 10;

/// One message, for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MessageLine {
    /// Nanoseconds since the recording began.
    pub(crate) time_ns: u64,
    /// `init`, `rules`, `request`, `answer`, `done`, `lost` or `restart`.
    pub(crate) kind: &'static str,
    /// The thread that handled it.
    pub(crate) thread: u32,
    /// The processor that handled it.
    pub(crate) cpu: u16,
    /// The request's name.
    pub(crate) opcode: String,
    /// The error number of an answer.
    pub(crate) errno: Option<i32>,
    /// From request to answer.
    pub(crate) latency_ns: Option<u64>,
    /// Bytes that were left out of the recording.
    pub(crate) left_out: u64,
    /// The message as `-d` shows it.
    pub(crate) text: String,
}

/// What was found at the end, for programs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Conclusion {
    /// In words.
    pub finding: String,
    /// It is a fault for certain.
    pub fault: bool,
}

/// What a recording has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records read.
    pub(crate) records: u64,
    /// Faults of the conversation.
    pub faults: u64,
}

/// Tells the recording in `bytes`: each message, then what is wrong; in JSON one value a line.
///
/// # Errors
/// When `out` cannot be written, or `bytes` are no recording; a damaged end is told as a finding.
pub fn decode(bytes: &[u8], json: bool, out: &mut dyn Write) -> anyhow::Result<Summary> {
    let mut reader = Reader::new(bytes)?;
    let mut teller = Teller {
        out,
        json,
        asked: HashMap::new(),
        message: Message::default(),
        findings: Vec::new(),
        summary: Summary::default(),
    };
    teller.begin(&reader)?;
    let mut conversation = Conversation::default();
    let damage = loop {
        match reader.next() {
            None => break None,
            Some(Ok(record)) => {
                teller.record(&record)?;
                let findings = &mut teller.findings;
                conversation.record(&record, &mut |finding| {
                    findings.push((Some(record.time), finding));
                });
            }
            Some(Err(error)) => break Some(error),
        }
    };
    let findings = &mut teller.findings;
    conversation.end(&mut |finding| findings.push((None, finding)));
    teller.end(damage)?;
    Ok(teller.summary)
}

struct Teller<'a> {
    out: &'a mut dyn Write,
    json: bool,
    /// When each unanswered request came.
    asked: HashMap<u64, u64>,
    message: Message,
    findings: Vec<(Option<u64>, Fault)>,
    summary: Summary,
}

impl Teller<'_> {
    fn begin(&mut self, reader: &Reader<'_>) -> io::Result<()> {
        if self.json {
            return Ok(());
        }
        let header = reader.header();
        let contents = match header.flags.contains(CaptureFlags::DATA) {
            true => "with contents",
            false => "without contents",
        };
        let names = match header.flags.contains(CaptureFlags::REDACTED) {
            true => "names hidden",
            false => "names as they were",
        };
        let (seconds, ns) = (header.began / 1_000_000_000, header.began % 1_000_000_000);
        writeln!(
            self.out,
            "recording begun at {seconds}.{ns:09} s since 1970, {contents}, {names}"
        )
    }

    fn record(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.summary.records += 1;
        let line = self.line(record);
        if self.json {
            return writeln!(self.out, "{}", tame_json(&serde_json::to_string(&line)?));
        }
        let arrow = match record.kind {
            RecordKind::Request => '>',
            RecordKind::Init | RecordKind::Answer | RecordKind::Done => '<',
            RecordKind::Lost => '!',
            RecordKind::Rules | RecordKind::Restart => '=',
        };
        write!(
            self.out,
            "{:>14.6} {:>7} {:>3} {arrow} {}",
            record.time as f64 / 1e9,
            record.thread,
            record.cpu,
            tame(&line.text)
        )?;
        if line.left_out > 0 {
            write!(self.out, " ({} bytes left out)", line.left_out)?;
        }
        if let Some(ns) = line.latency_ns {
            write!(self.out, " <{:.1} us>", ns as f64 / 1e3)?;
        }
        writeln!(self.out)
    }

    fn line(&mut self, record: &Record<'_>) -> MessageLine {
        let bytes = self.message.load(record);
        let mut latency_ns = None;
        let mut errno = None;
        let (kind, text) = match record.kind {
            RecordKind::Request => match Frame::cut(bytes) {
                Ok(frame) => {
                    let unique = frame.head.unique & !UNIQUE_RESEND;
                    self.asked.entry(unique).or_insert(record.time);
                    ("request", show::request(&frame).to_string())
                }
                Err(error) => ("request", format!("{} bad({error})", record.opcode)),
            },
            RecordKind::Init | RecordKind::Answer => {
                let unique = bytes.get(8..16).and_then(|unique| unique.try_into().ok());
                let unique = unique.map(|unique| u64::from_ne_bytes(unique) & !UNIQUE_RESEND);
                let asked = unique.and_then(|unique| self.asked.remove(&unique));
                latency_ns = asked.map(|asked| record.time.saturating_sub(asked));
                errno = Some(errno_of(bytes));
                let kind = match record.kind {
                    RecordKind::Init => "init",
                    _ => "answer",
                };
                (kind, show_answer(record, bytes))
            }
            RecordKind::Done => ("done", format!("{} is not answered", record.opcode)),
            RecordKind::Rules => ("rules", format!("rules: {}", lines(record.kept))),
            RecordKind::Restart => (
                "restart",
                "another server goes on here; what the one before it had begun may come again"
                    .to_owned(),
            ),
            RecordKind::Lost => ("lost", format!("{} records are missing here", record.len)),
        };
        MessageLine {
            time_ns: record.time,
            kind,
            thread: record.thread,
            cpu: record.cpu,
            opcode: record.opcode.to_string(),
            errno,
            latency_ns,
            left_out: match record.kind {
                RecordKind::Lost => 0,
                _ => u64::from(record.len) - record.kept.len() as u64,
            },
            text,
        }
    }

    fn end(&mut self, damage: Option<CaptureError>) -> io::Result<()> {
        let findings = std::mem::take(&mut self.findings);
        let mut nodes = 0;
        for (time, finding) in &findings {
            if let Fault::NotForgotten { .. } = finding {
                nodes += 1;
                if nodes > NODES {
                    continue;
                }
            }
            let when = time.map_or(String::new(), |ns| {
                format!(" (at {:.6} s)", ns as f64 / 1e9)
            });
            self.found(format!("{finding}{when}"), finding.is_fault())?;
        }
        if nodes > NODES {
            let more = nodes - NODES;
            self.found(
                format!("and {more} more nodes with lookups not forgotten"),
                false,
            )?;
        }
        if let Some(error) = damage {
            self.found(error.to_string(), false)?;
        }
        if !self.json {
            let Summary { records, faults } = self.summary;
            writeln!(self.out, "{records} records, {faults} faults")?;
        }
        Ok(())
    }

    fn found(&mut self, finding: String, fault: bool) -> io::Result<()> {
        self.summary.faults += u64::from(fault);
        if self.json {
            let found = serde_json::to_string(&Conclusion { finding, fault })?;
            return writeln!(self.out, "{}", tame_json(&found));
        }
        let word = if fault { "FAULT" } else { "note" };
        writeln!(self.out, "{word}: {}", tame(&finding))
    }
}

/// Lines in one.
fn lines(text: &[u8]) -> String {
    let lines = text.split(|&byte| byte == b'\n');
    let shown: Vec<String> = lines
        .filter(|line| !line.is_empty())
        .map(printable)
        .collect();
    match shown.is_empty() {
        true => "none".to_owned(),
        false => shown.join("; "),
    }
}

/// An answer as text. What was left out is zeros here, and must not be shown as if it had been an answer's contents.
fn show_answer(record: &Record<'_>, message: &[u8]) -> String {
    if record.kind == RecordKind::Init {
        // No kernel uses 0, which marks a notice.
        let mut copy = message.to_vec();
        if let Some(unique) = copy.get_mut(8..16) {
            unique.copy_from_slice(&1_u64.to_ne_bytes());
        }
        return format!("agreed: {}", show::answer(record.opcode, &copy));
    }
    show::answer(record.opcode, message).to_string()
}
