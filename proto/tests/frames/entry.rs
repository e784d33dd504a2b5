//! What is tried on arbitrary bytes, by property tests and by the fuzzer (`proto/fuzz`).

use etcfs_proto::abi::*;
use etcfs_proto::capture::{
    CaptureFlags, Conversation, Fault, Header, Reader, Redactor, write_record,
};
use etcfs_proto::flags::InitFlags;
use etcfs_proto::init::{Offer, Wish, negotiate};
use etcfs_proto::op::Tail;
use etcfs_proto::reply::cut_answer;
use etcfs_proto::{Frame, Opcode, WireError};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Copies bytes to an address that is a multiple of 8, as the device's buffer is.
pub struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    pub fn new(bytes: &[u8]) -> Self {
        let mut words = vec![0u64; bytes.len().div_ceil(8)];
        words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
        Self {
            words,
            len: bytes.len(),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }
}

/// Writes the real length into a message's header, so that what lies behind the length check is reached.
pub fn with_length(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let len = (bytes.len() as u32).to_ne_bytes();
    if let Some(head) = bytes.get_mut(..4) {
        head.copy_from_slice(&len);
    }
    bytes
}

/// Takes everything out of a request that its opcode promises.
pub fn examine(frame: &Frame<'_>) -> Result<(), WireError> {
    match frame
        .opcode()
        .shape()
        .map_or(Tail::Unknown, |shape| shape.tail)
    {
        Tail::Nothing | Tail::Unknown => {}
        Tail::Name => assert!(!frame.name()?.is_empty()),
        Tail::Names => assert!(frame.names2()?.0.count_bytes() < frame.tail.len()),
        Tail::Data => assert_eq!(frame.data()?, frame.tail),
        Tail::NameAndValue => {
            let set = frame.setxattr(frame.setxattr_is_ext())?;
            assert!(set.name.count_bytes() + set.value.len() < frame.tail.len());
        }
        Tail::Forgets => assert_eq!(frame.forgets()?.count() * 16, frame.tail.len()),
        Tail::Mappings => assert_eq!(frame.mappings()?.count() * 16, frame.tail.len()),
    }
    if frame.opcode() == Opcode::INIT {
        Offer::of(frame)?;
    }
    for extension in frame.extensions() {
        extension?;
    }
    Ok(())
}

/// Cuts a request, checks that nothing is lost, and takes everything out of it.
pub fn parse(bytes: &[u8]) {
    for bytes in [bytes, &with_length(bytes)] {
        let message = Aligned::new(bytes);
        let Ok(frame) = Frame::cut(message.bytes()) else {
            continue;
        };
        let len = 40 + frame.args.len() + frame.tail.len() + frame.ext.len();
        assert_eq!(len, bytes.len());
        let _ = examine(&frame);
        let _ = frame.supplementary_group();
    }
}

/// Negotiates an arbitrary offer under an arbitrary wish and checks what must hold of every agreement.
pub fn init(bytes: &[u8]) {
    let mut fields = [0u64; 13];
    let len = bytes.len().min(size_of_val(&fields));
    fields.as_mut_bytes()[..len].copy_from_slice(&bytes[..len]);
    let [limits, flags, sizes, depth, times] = [8, 9, 10, 11, 12].map(|at: usize| fields[at]);
    let mut offer_in = InitIn::new_zeroed();
    offer_in
        .as_mut_bytes()
        .copy_from_slice(&fields.as_bytes()[..64]);
    let offer = Offer {
        // Mostly a major and a minor that come through.
        major: if offer_in.major % 8 == 0 {
            offer_in.major
        } else {
            7
        },
        minor: offer_in.minor % 64,
        max_readahead: offer_in.max_readahead,
        flags: InitFlags::join(offer_in.flags, offer_in.flags2),
    };
    let wish = Wish {
        flags: InitFlags::from_bits_retain(flags),
        max_write: sizes as u32,
        max_pages: (sizes >> 32) as u16,
        page_size: 4096 << ((sizes >> 48) % 5),
        max_readahead: depth as u32,
        max_stack_depth: (depth >> 63 != 0).then_some((depth >> 32) as u32 % 4),
        time_gran: times as u32,
        max_background: (times >> 32) as u16,
        congestion_threshold: (times >> 48) as u16,
        oldest_minor: limits as u32 % 64,
        default_permissions: limits >> 63 != 0,
    };
    let agreed = match negotiate(&offer, &wish) {
        Ok(agreed) => agreed,
        Err(refusal) => return assert!(!refusal.to_string().is_empty()),
    };
    assert_eq!(
        agreed,
        negotiate(&offer, &wish).expect("negotiation has no memory")
    );
    assert!((31..=45).contains(&agreed.minor) && agreed.minor <= offer.minor);
    assert!((offer.flags & wish.flags).contains(agreed.flags));
    assert!(agreed.max_write >= 4096 && agreed.buffer_size >= 8192);
    assert!(agreed.buffer_size >= agreed.max_write as usize + 80);
    assert_eq!(
        agreed.passthrough,
        (1..=2).contains(&agreed.max_stack_depth)
    );
    assert_eq!(
        agreed.passthrough,
        agreed.flags.contains(InitFlags::PASSTHROUGH)
    );
    assert!(!agreed.passthrough || !agreed.flags.contains(InitFlags::WRITEBACK_CACHE));
    let (out, len) = agreed.to_out();
    assert_eq!((out.major, out.minor, len), (7, agreed.minor, 64));
    assert_eq!(InitFlags::join(out.flags, out.flags2), agreed.flags);
    assert!(agreed.flags.contains(InitFlags::INIT_EXT) || out.flags2 == 0);
}

/// Shows the bytes as a request and as an answer: always one line, always something.
pub fn show(bytes: &[u8]) {
    for bytes in [bytes, &with_length(bytes)] {
        let message = Aligned::new(bytes);
        if let Ok(frame) = Frame::cut(message.bytes()) {
            one_line(&etcfs_proto::show::request(&frame).to_string());
        }
        let opcode = u32::read_from_prefix(bytes).map_or(0, |(opcode, _)| opcode % 64);
        one_line(&etcfs_proto::show::answer(Opcode(opcode), bytes).to_string());
        let _ = cut_answer(Opcode(opcode), bytes);
    }
    // The first byte chooses the opcode, the rest is the answer.
    if let Some((opcode, rest)) = bytes.split_first() {
        let answer = with_length(rest);
        one_line(&etcfs_proto::show::answer(Opcode((*opcode).into()), &answer).to_string());
    }
}

fn one_line(text: &str) {
    assert!(
        !text.is_empty() && !text.contains(|c: char| c.is_control()),
        "not one line: {text:?}"
    );
}

/// Reads the bytes as a recording, as they are and behind a good header; follows the conversation and hides its names.
pub fn capture(bytes: &[u8]) {
    read_capture(bytes);
    let header = Header {
        flags: CaptureFlags::native(),
        began: 1,
    };
    read_capture(&[&header.to_bytes(), bytes].concat());
}

fn read_capture(bytes: &[u8]) {
    let Ok(reader) = Reader::new(bytes) else {
        return;
    };
    let mut conversation = Conversation::default();
    let mut redactor = Redactor::new([7; 16]);
    let mut copy = reader.header().to_bytes().to_vec();
    let mut find = |finding: Fault| one_line(&finding.to_string());
    for record in reader.clone() {
        let Ok(record) = record else { break };
        conversation.record(&record, &mut find);
        write_record(&mut copy, &record);
        let mut kept = record.kept.to_vec();
        redactor.message(&record, &mut kept);
        assert_eq!(kept.len(), record.kept.len());
    }
    conversation.end(&mut find);
    // What was read is written the same, up to the byte of a record that nothing uses and the rest of the header.
    let again: Vec<_> = Reader::new(&copy).expect("the copy's header").collect();
    let first: Vec<_> = reader.take_while(Result::is_ok).collect();
    assert_eq!(first, again);
}
