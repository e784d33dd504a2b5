//! Recordings: made of a running session ([`recorder`]), read again ([`Recording`]), told in words ([`decode`], [`pcapng`]), and
//! carried out once more without a kernel ([`run`]).

pub(crate) mod compare;
pub mod decode;
pub(crate) mod ids;
pub(crate) mod listing;
pub mod pcapng;
pub mod recorder;
pub(crate) mod rules;
pub mod run;
pub mod sides;
pub mod tally;
pub mod tape;
pub mod tree;

use etcfs_proto::Opcode;
use etcfs_proto::abi::{InHeader, InitOut, OutHeader, UNIQUE_RESEND};
use etcfs_proto::capture::{CaptureError, Reader, Record, RecordKind};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Agreed, Offer, Refusal, Wish, negotiate};
use rules::Recorded;
use std::collections::HashMap;
use zerocopy::FromBytes as _;

/// A request and what became of it.
#[derive(Debug, Clone, Copy)]
pub struct Exchange<'a> {
    /// The request.
    pub(crate) request: Record<'a>,
    /// Its first answer; none where the kernel waits for none, or where the recording ended before.
    pub(crate) answer: Option<Record<'a>>,
}

impl Exchange<'_> {
    /// Whether the client gave up before there was an answer, or the recording ended.
    fn was_given_up(&self) -> bool {
        let errno = self.answer.map(|answer| errno_of(answer.kept));
        errno.is_none_or(|errno| errno == rustix::io::Errno::INTR.raw_os_error())
    }
}

/// A recording, read as a whole.
pub struct Recording<'a> {
    /// What INIT had agreed on.
    pub(crate) init: Record<'a>,
    /// Requests in the order in which they were begun.
    pub exchanges: Vec<Exchange<'a>>,
    /// Rules, each with the number of requests before them; none in recordings of version 1.
    pub(crate) rules: Vec<(usize, Recorded)>,
    /// Records that are missing.
    pub lost: u64,
    /// Why the rest of the file could not be read: a recording that was interrupted ends within a record.
    pub cut: Option<CaptureError>,
}

impl<'a> Recording<'a> {
    /// Reads `bytes`. Damage after the first record is no error: what comes before it is used.
    ///
    /// # Errors
    /// When it is no recording, or nothing of it can be read.
    pub fn read(bytes: &'a [u8]) -> Result<Recording<'a>, CaptureError> {
        let mut reader = Reader::new(bytes)?;
        let init = reader.next().ok_or(CaptureError::NoInit)??;
        let mut recording = Recording {
            init,
            exchanges: Vec::new(),
            rules: Vec::new(),
            lost: 0,
            cut: None,
        };
        let mut known = HashMap::new();
        for record in reader {
            match record {
                Ok(record) => recording.add(record, &mut known),
                Err(error) => recording.cut = Some(error),
            }
        }
        Ok(recording)
    }

    /// `known` knows the requests by their number, and whether the server was replaced since they came.
    fn add(&mut self, record: Record<'a>, known: &mut HashMap<u64, (usize, bool)>) {
        match record.kind {
            RecordKind::Request => {
                if let Ok((head, _)) = InHeader::read_from_prefix(record.kept) {
                    let unique = head.unique & !UNIQUE_RESEND;
                    // A successor has gone on with it: it is carried out once.
                    if let Some((_, restarted @ true)) = known.get_mut(&unique) {
                        *restarted = false;
                        return;
                    }
                    known.insert(unique, (self.exchanges.len(), false));
                }
                self.exchanges.push(Exchange {
                    request: record,
                    answer: None,
                });
            }
            RecordKind::Answer => {
                let asked = OutHeader::read_from_prefix(record.kept)
                    .ok()
                    .and_then(|(head, _)| known.get(&(head.unique & !UNIQUE_RESEND)))
                    .and_then(|&(at, _)| self.exchanges.get_mut(at));
                if let Some(exchange) = asked {
                    exchange.answer.get_or_insert(record);
                }
            }
            RecordKind::Lost => self.lost += u64::from(record.len),
            RecordKind::Rules => {
                let rules = Recorded::read(record.kept);
                self.rules.push((self.exchanges.len(), rules));
            }
            RecordKind::Restart => known.values_mut().for_each(|known| known.1 = true),
            RecordKind::Init | RecordKind::Done => {}
        }
    }

    /// The rules in force when the recording began; none in recordings of version 1.
    pub fn first_rules(&self) -> Recorded {
        let first = self.rules.first().filter(|(before, _)| *before == 0);
        first.map(|(_, rules)| rules.clone()).unwrap_or_default()
    }

    /// What INIT had agreed on, without passthrough: there is no kernel to pass anything through.
    ///
    /// # Errors
    /// When the recording agreed on what this version does not speak.
    pub(crate) fn agreed(&self) -> Result<Agreed, Refusal> {
        let body = self.init.kept.get(size_of::<OutHeader>()..);
        let out = body.and_then(|body| InitOut::read_from_prefix(body).ok());
        let (out, _) = out.unwrap_or_default();
        let flags = InitFlags::join(out.flags, out.flags2) - InitFlags::PASSTHROUGH;
        let offer = Offer {
            major: out.major,
            minor: out.minor,
            max_readahead: out.max_readahead,
            flags,
        };
        let wish = Wish {
            flags,
            max_write: out.max_write,
            max_pages: out.max_pages,
            default_permissions: true,
            ..Wish::default()
        };
        negotiate(&offer, &wish)
    }
}

/// The number of an error answer as a positive errno, 0 for a good one.
fn errno_of(answer: &[u8]) -> i32 {
    OutHeader::read_from_prefix(answer).map_or(0, |(head, _)| head.error.wrapping_neg())
}

/// Requests that are not carried out again: those about the connection, and those that wait for others.
fn is_left_out(opcode: Opcode) -> Option<&'static str> {
    match opcode {
        Opcode::INIT | Opcode::DESTROY | Opcode::CUSE_INIT => Some("about the connection itself"),
        Opcode::INTERRUPT => Some("interrupts of requests"),
        Opcode::READDIRPLUS => Some("READDIRPLUS, which etcfs does not agree on"),
        _ => None,
    }
}
