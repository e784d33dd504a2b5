//! What is wrong with a conversation.

use super::{Message, Record, RecordKind};
use crate::abi::{
    BatchForgetIn, Dirent, EntryOut, ForgetIn, GetxattrIn, OutHeader, ReadIn, UNIQUE_RESEND,
};
use crate::op::Body;
use crate::reply::cut_answer;
use crate::{Frame, Opcode, WireError, abi};
use std::collections::HashMap;
use std::fmt;
use zerocopy::FromBytes as _;

/// One fault of a conversation, or what looks like one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A message cannot be taken apart, or its length is not what it says or what its opcode has.
    Malformed(WireError),
    /// A request that the kernel waits for was never answered.
    Unanswered {
        /// The request.
        opcode: Opcode,
        /// Its number.
        unique: u64,
        /// When it came.
        time: u64,
    },
    /// An answer to a request that was answered before.
    AnsweredTwice {
        /// The request.
        opcode: Opcode,
        /// Its number.
        unique: u64,
    },
    /// An answer to no request of the recording; it may have come before.
    AnswerToNothing {
        /// The request, as the record says.
        opcode: Opcode,
        /// Its number.
        unique: u64,
    },
    /// An answer longer than what was asked for, in bytes.
    TooMuch {
        /// The request.
        opcode: Opcode,
        /// Its number.
        unique: u64,
        /// What was asked for.
        asked: u32,
        /// What came.
        have: usize,
    },
    /// More lookups of a node were taken back than were given.
    ForgottenTooOften {
        /// The node.
        nodeid: u64,
        /// How many more.
        excess: u64,
    },
    /// Lookups of a node that were not taken back by the end. A mount that goes on has these; one that has ended has too,
    /// since the kernel then forgets silently.
    NotForgotten {
        /// The node.
        nodeid: u64,
        /// How many.
        lookups: u64,
    },
    /// Records are missing, so that the rest of the findings may be wrong.
    Lost {
        /// How many.
        records: u32,
    },
}

impl Fault {
    /// Whether this is a fault for certain.
    pub fn is_fault(&self) -> bool {
        !matches!(
            self,
            Fault::NotForgotten { .. } | Fault::Lost { .. } | Fault::AnswerToNothing { .. }
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Fault::Malformed(error) => write!(f, "malformed: {error}"),
            Fault::Unanswered {
                opcode,
                unique,
                time,
            } => write!(
                f,
                "{opcode} unique={unique}, which came after {:.6} s, was never answered",
                time as f64 / 1e9
            ),
            Fault::AnsweredTwice { opcode, unique } => {
                write!(f, "{opcode} unique={unique} was answered twice")
            }
            Fault::AnswerToNothing { opcode, unique } => write!(
                f,
                "{opcode} unique={unique} was answered, but not asked since the recording began"
            ),
            Fault::TooMuch {
                opcode,
                unique,
                asked,
                have,
            } => write!(
                f,
                "{opcode} unique={unique} asked for at most {asked} bytes and was answered with {have}"
            ),
            Fault::ForgottenTooOften { nodeid, excess } => write!(
                f,
                "node {nodeid}: {excess} more lookups were forgotten than given since the recording began"
            ),
            Fault::NotForgotten { nodeid, lookups } => {
                write!(f, "node {nodeid}: {lookups} lookups were not forgotten")
            }
            Fault::Lost { records } => write!(
                f,
                "{records} records are missing, so other findings may be wrong"
            ),
        }
    }
}

/// What is known of a request.
struct Awaited {
    time: u64,
    opcode: Opcode,
    /// The most bytes that it asked for.
    most: Option<u32>,
    answered: bool,
    /// The server was replaced since it came, and its successor may do it again.
    restarted: bool,
    /// It was done again: a further answer is no fault, and counts for nothing.
    again: bool,
}

/// Follows a conversation and tells its faults.
#[derive(Default)]
pub struct Conversation {
    asked: HashMap<u64, Awaited>,
    lookups: HashMap<u64, u64>,
    message: Message,
}

impl Conversation {
    /// Takes the next record and tells `find` what is wrong with it.
    pub fn record(&mut self, record: &Record<'_>, find: &mut dyn FnMut(Fault)) {
        let mut message = std::mem::take(&mut self.message);
        let bytes = message.load(record);
        let result = match record.kind {
            RecordKind::Init | RecordKind::Rules => Ok(()),
            RecordKind::Restart => {
                self.asked
                    .values_mut()
                    .for_each(|asked| asked.restarted = true);
                Ok(())
            }
            RecordKind::Request => self.request(record, bytes, find),
            RecordKind::Answer => self.answer(record, bytes, find),
            RecordKind::Done => Ok(()),
            RecordKind::Lost => {
                find(Fault::Lost {
                    records: record.len,
                });
                Ok(())
            }
        };
        if let Err(error) = result {
            find(Fault::Malformed(error));
        }
        self.message = message;
    }

    /// Tells what the end of the recording leaves open, in a stable order.
    pub fn end(&mut self, find: &mut dyn FnMut(Fault)) {
        let mut open: Vec<_> = self.asked.iter().filter(|(_, a)| !a.answered).collect();
        open.sort_by_key(|(unique, asked)| (asked.time, **unique));
        for (&unique, asked) in open {
            find(Fault::Unanswered {
                opcode: asked.opcode,
                unique,
                time: asked.time,
            });
        }
        let mut nodes: Vec<_> = self.lookups.iter().filter(|(_, n)| **n > 0).collect();
        nodes.sort_unstable();
        for (&nodeid, &lookups) in nodes {
            find(Fault::NotForgotten { nodeid, lookups });
        }
    }

    fn request(
        &mut self,
        record: &Record<'_>,
        message: &[u8],
        find: &mut dyn FnMut(Fault),
    ) -> Result<(), WireError> {
        let frame = Frame::cut(message)?;
        let opcode = frame.opcode();
        let unique = frame.head.unique & !UNIQUE_RESEND;
        let known = self.asked.get_mut(&unique);
        if let Some(asked) = known.filter(|asked| asked.restarted && asked.opcode == opcode) {
            asked.restarted = false;
            asked.again = asked.answered;
            return Ok(());
        }
        match opcode {
            Opcode::FORGET => {
                let count = frame.args::<ForgetIn>()?.nlookup;
                self.forget(frame.head.nodeid, count, find);
            }
            Opcode::BATCH_FORGET => {
                frame.args::<BatchForgetIn>()?;
                for one in frame.forgets()? {
                    self.forget(one.nodeid, one.nlookup, find);
                }
            }
            _ => {}
        }
        let most = match opcode {
            Opcode::READ | Opcode::READDIR | Opcode::READDIRPLUS => {
                Some(frame.args::<ReadIn>()?.size)
            }
            Opcode::GETXATTR | Opcode::LISTXATTR => {
                Some(frame.args::<GetxattrIn>()?.size).filter(|size| *size > 0)
            }
            _ => None,
        };
        let asked = Awaited {
            time: record.time,
            opcode,
            most,
            answered: !opcode.wants_answer() || opcode == Opcode::INTERRUPT,
            restarted: false,
            again: false,
        };
        self.asked.insert(unique, asked);
        Ok(())
    }

    fn answer(
        &mut self,
        record: &Record<'_>,
        message: &[u8],
        find: &mut dyn FnMut(Fault),
    ) -> Result<(), WireError> {
        let opcode = record.opcode;
        let (head, body) = cut_answer(opcode, message)?;
        let unique = head.unique & !UNIQUE_RESEND;
        let Some(asked) = self.asked.get_mut(&unique) else {
            find(Fault::AnswerToNothing { opcode, unique });
            return Ok(());
        };
        if std::mem::take(&mut asked.again) {
            return Ok(());
        }
        if std::mem::replace(&mut asked.answered, true) {
            find(Fault::AnsweredTwice { opcode, unique });
            return Ok(());
        }
        let most = asked.most;
        if head.error != 0 {
            return expect(opcode, 0, body.len());
        }
        if let Some(asked) = most.filter(|most| body.len() > *most as usize) {
            find(Fault::TooMuch {
                opcode,
                unique,
                asked,
                have: body.len(),
            });
        }
        match opcode.shape().map_or(Body::Unknown, |shape| shape.body) {
            Body::Entry | Body::Create => self.look_up(body),
            Body::Direntplus => self.look_up_all(body),
            _ => {}
        }
        match length(opcode) {
            Some(need) => expect(opcode, need, body.len()),
            None => Ok(()),
        }
    }

    fn look_up(&mut self, entry: &[u8]) {
        match EntryOut::read_from_prefix(entry) {
            Ok((entry, _)) if entry.nodeid != 0 => {
                *self.lookups.entry(entry.nodeid).or_default() += 1;
            }
            _ => {}
        }
    }

    fn look_up_all(&mut self, mut rest: &[u8]) {
        const HEAD: usize = size_of::<EntryOut>() + size_of::<Dirent>();
        while let Some(Ok((dirent, _))) = rest
            .get(size_of::<EntryOut>()..)
            .map(Dirent::read_from_prefix)
        {
            self.look_up(rest);
            let next = (HEAD + dirent.namelen as usize).next_multiple_of(8);
            rest = rest.get(next..).unwrap_or_default();
        }
    }

    fn forget(&mut self, nodeid: u64, count: u64, find: &mut dyn FnMut(Fault)) {
        let known = self.lookups.entry(nodeid).or_default();
        if count > *known {
            find(Fault::ForgottenTooOften {
                nodeid,
                excess: count - *known,
            });
        }
        *known = known.saturating_sub(count);
        if *known == 0 {
            self.lookups.remove(&nodeid);
        }
    }
}

/// The length of a successful answer's body where its opcode has one, in bytes.
fn length(opcode: Opcode) -> Option<usize> {
    let length = match opcode.shape()?.body {
        Body::NoAnswer | Body::Empty => 0,
        Body::Entry => size_of::<EntryOut>(),
        Body::Attr => size_of::<abi::AttrOut>(),
        Body::Statx => size_of::<abi::StatxOut>(),
        Body::Open => size_of::<abi::OpenOut>(),
        Body::Create => size_of::<EntryOut>() + size_of::<abi::OpenOut>(),
        Body::Write => size_of::<abi::WriteOut>(),
        Body::Statfs => size_of::<abi::StatfsOut>(),
        Body::Lk => size_of::<abi::LkOut>(),
        Body::Bmap => size_of::<abi::BmapOut>(),
        Body::Poll => size_of::<abi::PollOut>(),
        Body::Lseek => size_of::<abi::LseekOut>(),
        Body::Copied => size_of::<abi::CopyFileRangeOut>(),
        _ => return None,
    };
    Some(length)
}

fn expect(opcode: Opcode, need: usize, have: usize) -> Result<(), WireError> {
    if need == have {
        return Ok(());
    }
    Err(WireError::WrongBody { opcode, need, have })
}

const _: () = assert!(
    size_of::<OutHeader>() == 16,
    "the answer's header of the wire"
);
