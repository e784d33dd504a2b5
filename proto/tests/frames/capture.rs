//! Recordings: what is written is read, what is damaged is told, names can be hidden.

use crate::samples;
use etcfs_proto::abi::*;
use etcfs_proto::capture::{
    CaptureError, CaptureFlags, Conversation, Fault, HEADER, Header, MESSAGE_MAX, Message, RECORD,
    Reader, Record, RecordKind, Redactor, VERSION, strip, write_record,
};
use etcfs_proto::{Frame, Opcode, Reply};
use zerocopy::IntoBytes;

const ALL: [RecordKind; 6] = [
    RecordKind::Init,
    RecordKind::Request,
    RecordKind::Answer,
    RecordKind::Done,
    RecordKind::Lost,
    RecordKind::Restart,
];

fn record(kind: RecordKind, opcode: Opcode, message: &[u8]) -> Record<'_> {
    Record {
        kind,
        cpu: 1,
        thread: 77,
        time: 1_500,
        opcode,
        len: message.len() as u32,
        kept: message,
    }
}

fn header() -> Vec<u8> {
    let header = Header {
        flags: CaptureFlags::native(),
        began: 1_700_000_000_000_000_000,
    };
    header.to_bytes().to_vec()
}

/// A recording that begins with an empty agreement, of messages by number of their kind.
pub fn recording(messages: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = header();
    write_record(&mut bytes, &record(RecordKind::Init, Opcode::INIT, &[]));
    for (kind, message) in messages {
        let kind = ALL[usize::from(*kind) - 1];
        let opcode = message.get(4).copied().unwrap_or(0);
        let kept = if kind == RecordKind::Lost {
            &[]
        } else {
            &message[..]
        };
        let mut record = record(kind, Opcode(opcode.into()), kept);
        record.len = message.len() as u32;
        write_record(&mut bytes, &record);
    }
    bytes
}

pub(crate) fn name_request(unique: u64, opcode: Opcode, name: &[u8]) -> Vec<u8> {
    let head = InHeader {
        len: (40 + name.len()) as u32,
        opcode: opcode.0,
        unique,
        nodeid: 1,
        ..InHeader::default()
    };
    [head.as_bytes(), name].concat()
}

pub(crate) fn entry(unique: u64, nodeid: u64) -> Vec<u8> {
    let mut reply = Reply::default();
    reply.put(&EntryOut {
        nodeid,
        ..EntryOut::default()
    });
    reply.finish(unique).to_vec()
}

pub(crate) fn findings(records: &[(RecordKind, Opcode, Vec<u8>)]) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut conversation = Conversation::default();
    for (kind, opcode, message) in records {
        conversation.record(&record(*kind, *opcode, message), &mut |finding| {
            found.push(finding);
        });
    }
    conversation.end(&mut |finding| found.push(finding));
    found
}

#[test]
fn what_is_written_is_read() {
    let message = name_request(2, Opcode::LOOKUP, b"passwd\0");
    let lost = Record {
        len: 3,
        ..record(RecordKind::Lost, Opcode(0), &[])
    };
    let cut = Record {
        len: 1 << 20,
        ..record(RecordKind::Answer, Opcode::READ, b"0123456789abcdef")
    };
    let records = [
        record(RecordKind::Init, Opcode::INIT, b"init"),
        record(RecordKind::Request, Opcode::LOOKUP, &message),
        cut,
        lost,
    ];
    let mut bytes = header();
    for record in &records {
        write_record(&mut bytes, record);
    }
    let reader = Reader::new(&bytes).expect("a good header");
    assert_eq!(reader.header().began, 1_700_000_000_000_000_000);
    assert_eq!(reader.header().flags, CaptureFlags::native());
    let read: Result<Vec<_>, _> = reader.collect();
    assert_eq!(read.as_deref(), Ok(&records[..]));
    assert!(cut.is_cut() && !lost.is_cut());

    let mut buffer = Message::default();
    let whole = buffer.load(&cut);
    assert_eq!(whole.len(), 1 << 20);
    assert_eq!(&whole[..18], b"0123456789abcdef\0\0");
    assert!(buffer.load(&lost).is_empty());
    assert!(Frame::cut(buffer.load(&records[1])).is_ok());
}

#[test]
fn a_recording_cut_anywhere_gives_all_whole_records_and_tells_where_it_ends() {
    let whole = recording(&[
        (2, name_request(2, Opcode::LOOKUP, b"a\0")),
        (3, entry(2, 5)),
    ]);
    let second = HEADER + RECORD;
    let third = second + RECORD + 42;
    for len in 0..whole.len() {
        let read = Reader::new(&whole[..len]);
        if len < HEADER {
            let error = read.expect_err("no header");
            let expected = if len < 8 {
                CaptureError::NotARecording
            } else {
                CaptureError::Truncated {
                    at: 0,
                    need: HEADER,
                    have: len,
                }
            };
            assert_eq!(error, expected, "{len} bytes");
            continue;
        }
        let records: Vec<_> = read.expect("a header").collect();
        let ends = [HEADER, second, third];
        let at = *ends.iter().rfind(|end| **end <= len).expect("a header");
        let good = ends.iter().filter(|end| **end <= len).count() - 1;
        assert_eq!(
            records.iter().filter(|r| r.is_ok()).count(),
            good,
            "{len} bytes"
        );
        match records.last() {
            _ if at == len => assert_eq!(records.len(), good),
            Some(Err(CaptureError::Truncated { at: told, have, .. })) => {
                assert_eq!((*told, *have), (at, len - at));
            }
            other => panic!("{len} bytes: {other:?}"),
        }
    }
}

#[test]
fn rules_are_hidden_by_the_tokens_of_their_names() {
    let mut redactor = Redactor::new([3; 16]);
    let mut name = *b"hosts";
    let lookup = name_request(7, Opcode::LOOKUP, &name);
    let mut kept = lookup.clone();
    redactor.message(
        &record(RecordKind::Request, Opcode::LOOKUP, &lookup),
        &mut kept,
    );
    let at = kept.len() - name.len();
    name.copy_from_slice(&kept[at..at + 5]);
    let token = std::str::from_utf8(&name).expect("letters");
    assert_ne!(token, "hosts");
    let rules = b"legacy_global exact\nadd_global /hosts\nsource 12 /a/hosts\nadd_override inject /hosts /a/hosts\n";
    let mut hidden = rules.to_vec();
    redactor.message(&record(RecordKind::Rules, Opcode::INIT, rules), &mut hidden);
    let hidden = String::from_utf8(hidden).expect("letters");
    let lines: Vec<&str> = hidden.lines().collect();
    assert_eq!(lines[0], "legacy_global exact");
    assert_eq!(lines[1], format!("add_global /{token}"));
    let source = lines[2].strip_prefix("source 12 ").expect("a source");
    assert!(
        source.ends_with(token) && !source.starts_with("/a/"),
        "{source}"
    );
    assert_eq!(lines[3], format!("add_override inject /{token} {source}"));
}

#[test]
fn what_is_no_recording_is_refused_by_name() {
    let good = recording(&[]);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let begins = |bytes: &[u8]| Reader::new(bytes).map(drop).expect_err("refused");
    let first = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes).expect("a header");
        let error = reader.next().expect("a record").expect_err("a bad one");
        assert!(reader.next().is_none(), "nothing more after an error");
        error
    };
    assert_eq!(begins(&with(0, b'x')), CaptureError::NotARecording);
    assert_eq!(begins(&with(8, 9)), CaptureError::Version { found: 9 });
    assert_eq!(begins(&with(8, 0)), CaptureError::Version { found: 0 });
    assert_eq!(VERSION, 3);
    assert!(Reader::new(&with(8, 1)).is_ok(), "older recordings");
    let other = CaptureFlags::native().bits() as u8 ^ 4;
    assert_eq!(begins(&with(10, other)), CaptureError::ByteOrder);
    let at = HEADER;
    assert_eq!(first(&with(at, 2)), CaptureError::NoInit);
    assert_eq!(first(&with(at, 9)), CaptureError::Kind { at, kind: 9 });
    let len = MESSAGE_MAX | 1 << 24;
    let mut long = with(at, 2);
    long[at + 20..at + 24].copy_from_slice(&len.to_le_bytes());
    assert_eq!(first(&long), CaptureError::TooLong { at, len });
    let (len, kept) = (0, 1);
    assert_eq!(
        first(&with(at + 24, 1)),
        CaptureError::TooMuchKept { at, len, kept }
    );
}

#[test]
fn contents_come_last_and_are_left_out() {
    for sample in samples::requests() {
        let bytes = sample.message();
        let message = crate::entry::Aligned::new(&bytes);
        let frame = Frame::cut(message.bytes()).expect("a golden request");
        let kept = strip::request(&frame);
        let left_out = match sample.opcode {
            Opcode::WRITE | Opcode::NOTIFY_REPLY => frame.tail.len(),
            Opcode::SETXATTR => {
                let ext = sample.file == "setxattr";
                frame.setxattr(ext).expect("golden").value.len()
            }
            _ => 0,
        };
        assert_eq!(kept + left_out, bytes.len(), "{}", sample.file);
    }
    let mut reply = Reply::default();
    reply.put_bytes(b"secret");
    let answer = reply.finish(2).to_vec();
    for (opcode, size, kept) in [
        (Opcode::READ, None, 16),
        (Opcode::GETXATTR, Some(100), 16),
        (Opcode::GETXATTR, Some(0), 22),
        (Opcode::READLINK, None, 22),
    ] {
        let mut request = name_request(2, opcode, b"");
        match size {
            Some(size) => request.extend(GetxattrIn { size, padding: 0 }.as_bytes()),
            None if opcode == Opcode::READ => request.extend([0; 40]),
            None => {}
        }
        if opcode == Opcode::GETXATTR {
            request.extend(b"user.x\0");
        }
        let message = crate::entry::Aligned::new(&crate::entry::with_length(&request));
        let frame = Frame::cut(message.bytes()).expect("a request");
        assert_eq!(strip::answer(&frame, &answer), kept, "{opcode} {size:?}");
    }
}

#[test]
fn hidden_names_keep_length_extension_and_identity() {
    let mut redactor = Redactor::new([1; 16]);
    let mut hide = |name: &[u8]| {
        let message = name_request(2, Opcode::LOOKUP, &[name, b"\0"].concat());
        let mut kept = message.clone();
        redactor.message(
            &record(RecordKind::Request, Opcode::LOOKUP, &message),
            &mut kept,
        );
        assert_eq!(kept[..40], message[..40], "the header stays");
        assert_eq!(kept.pop(), Some(0));
        assert_eq!(kept.len(), 40 + name.len());
        kept.split_off(40)
    };
    let unit = hide(b"getty@tty1.service");
    assert_ne!(unit, b"getty@tty1.service");
    assert!(unit.ends_with(b".service"), "{}", unit.escape_ascii());
    assert_eq!(hide(b"getty@tty1.service"), unit);
    assert_ne!(hide(b"getty@tty2.service"), unit);
    assert_eq!(hide(b".."), b"..");
    assert_eq!(
        hide(b".bedrock-config-filesystem"),
        b".bedrock-config-filesystem"
    );
    assert_ne!(hide(b".hidden"), b".hidden");
    // As many names of one letter as there are letters stay apart.
    let short: std::collections::HashSet<_> = (b'A'..=b'z').map(|c| hide(&[c])).collect();
    assert_eq!(short.len(), usize::from(b'z' - b'A') + 1);
    let mut other = Redactor::new([2; 16]);
    let mut bytes = name_request(2, Opcode::LOOKUP, b"getty@tty1.service\0");
    let copy = bytes.clone();
    other.message(
        &record(RecordKind::Request, Opcode::LOOKUP, &copy),
        &mut bytes,
    );
    assert_ne!(&bytes[40..58], &unit[..], "another key, another token");
}

#[test]
fn no_golden_message_keeps_a_name_that_was_to_be_hidden() {
    let mut redactor = Redactor::new([3; 16]);
    let secret: [&[u8]; 8] = [
        b"passwd",
        b"shadow",
        b"hosts",
        b"group",
        b"resolv",
        b"usr/share",
        b"localtime",
        b"motd",
    ];
    let mut had = 0;
    let mut all: Vec<_> = samples::requests()
        .into_iter()
        .map(|sample| (RecordKind::Request, sample))
        .collect();
    all.extend(
        samples::answers()
            .into_iter()
            .map(|s| (RecordKind::Answer, s)),
    );
    for (kind, sample) in all {
        let message = sample.message();
        let record = record(kind, sample.opcode, &message);
        let mut kept = message.clone();
        redactor.message(&record, &mut kept);
        assert_eq!(kept.len(), message.len());
        for word in secret {
            let holds = |bytes: &[u8]| bytes.windows(word.len()).any(|at| at == word);
            had += usize::from(holds(&message));
            let data = matches!(sample.opcode, Opcode::READ | Opcode::WRITE);
            assert!(
                data || !holds(&kept),
                "{} keeps {}",
                sample.file,
                word.escape_ascii()
            );
        }
    }
    assert!(had > 3, "the golden messages hold such names: {had}");
}

#[test]
fn a_good_conversation_has_only_open_lookups() {
    let found = findings(&[
        (
            RecordKind::Request,
            Opcode::LOOKUP,
            name_request(2, Opcode::LOOKUP, b"a\0"),
        ),
        (RecordKind::Answer, Opcode::LOOKUP, entry(2, 9)),
    ]);
    assert_eq!(
        found,
        [Fault::NotForgotten {
            nodeid: 9,
            lookups: 1
        }]
    );
    assert!(!found[0].is_fault());
}

#[test]
fn every_fault_of_a_conversation_is_told() {
    let lookup = |unique| {
        let message = name_request(unique, Opcode::LOOKUP, b"a\0");
        (RecordKind::Request, Opcode::LOOKUP, message)
    };
    let answer = |unique| (RecordKind::Answer, Opcode::LOOKUP, entry(unique, 0));
    let forget = ForgetIn { nlookup: 4 };
    let forget = name_request(8, Opcode::FORGET, forget.as_bytes());
    let mut reply = Reply::default();
    reply.put_bytes(&[0; 100]);
    let short = reply.finish(12).to_vec();
    let read = ReadIn {
        size: 64,
        ..ReadIn::default()
    };
    let read = name_request(14, Opcode::READ, read.as_bytes());
    let much = reply.finish(14).to_vec();
    let (opcode, unique) = (Opcode::LOOKUP, 2);
    let found = findings(&[
        lookup(2),
        answer(2),
        answer(2),
        answer(4),
        lookup(6),
        (RecordKind::Done, Opcode::FORGET, Vec::new()),
        (RecordKind::Request, Opcode::FORGET, forget),
        lookup(12),
        (RecordKind::Answer, Opcode::LOOKUP, short),
        (RecordKind::Request, Opcode::READ, read),
        (RecordKind::Answer, Opcode::READ, much),
        (RecordKind::Request, Opcode::LOOKUP, b"short".to_vec()),
    ]);
    let wrong_body = etcfs_proto::WireError::WrongBody {
        opcode,
        need: 128,
        have: 100,
    };
    let expected = [
        Fault::AnsweredTwice { opcode, unique },
        Fault::AnswerToNothing { opcode, unique: 4 },
        Fault::ForgottenTooOften {
            nodeid: 1,
            excess: 4,
        },
        Fault::Malformed(wrong_body),
        Fault::TooMuch {
            opcode: Opcode::READ,
            unique: 14,
            asked: 64,
            have: 100,
        },
        Fault::Malformed(etcfs_proto::WireError::ShortHead { have: 5 }),
        Fault::Unanswered {
            opcode,
            unique: 6,
            time: 1_500,
        },
    ];
    assert_eq!(found, expected);
}
