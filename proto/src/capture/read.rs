//! Bytes as records.

use super::{
    CaptureError, CaptureFlags, HEADER, Header, MAGIC, MESSAGE_MAX, OLDEST, RECORD, Record,
    RecordKind, VERSION,
};
use crate::Opcode;
use zerocopy::IntoBytes as _;

/// Reads a recording record by record. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    header: Header,
    bytes: &'a [u8],
    /// Offset of the next record.
    at: usize,
    /// What INIT agreed on has been read.
    begun: bool,
    ended: bool,
}

impl<'a> Reader<'a> {
    /// A reader of the recording in `bytes`.
    ///
    /// # Errors
    /// When the header is not one, or of another version or byte order.
    pub fn new(bytes: &'a [u8]) -> Result<Reader<'a>, CaptureError> {
        let mut fields = Fields(bytes);
        if fields.array() != Some(MAGIC) {
            return Err(CaptureError::NotARecording);
        }
        let cut = CaptureError::Truncated {
            at: 0,
            need: HEADER,
            have: bytes.len(),
        };
        let found = u16::from_le_bytes(fields.array().ok_or(cut)?);
        if !(OLDEST..=VERSION).contains(&found) {
            return Err(CaptureError::Version { found });
        }
        let flags = u16::from_le_bytes(fields.array().ok_or(cut)?);
        let flags = CaptureFlags::from_bits_retain(flags);
        let _zero: [u8; 4] = fields.array().ok_or(cut)?;
        let began = u64::from_le_bytes(fields.array().ok_or(cut)?);
        let _zero: [u8; 8] = fields.array().ok_or(cut)?;
        if flags.contains(CaptureFlags::BIG_ENDIAN)
            != CaptureFlags::native().contains(CaptureFlags::BIG_ENDIAN)
        {
            return Err(CaptureError::ByteOrder);
        }
        Ok(Reader {
            header: Header { flags, began },
            bytes,
            at: HEADER,
            begun: false,
            ended: false,
        })
    }

    /// A reader of records that follow others of the same recording, whose beginning has been read before.
    pub fn continued(header: Header, bytes: &'a [u8]) -> Reader<'a> {
        Reader {
            header,
            bytes,
            at: 0,
            begun: true,
            ended: false,
        }
    }

    /// The file's header.
    pub fn header(&self) -> Header {
        self.header
    }

    fn read(&mut self) -> Option<Result<Record<'a>, CaptureError>> {
        let at = self.at;
        let rest = self.bytes.get(at..).filter(|rest| !rest.is_empty())?;
        Some(self.record(at, rest))
    }

    fn record(&mut self, at: usize, rest: &'a [u8]) -> Result<Record<'a>, CaptureError> {
        let mut fields = Fields(rest);
        let cut = CaptureError::Truncated {
            at,
            need: RECORD,
            have: rest.len(),
        };
        let [kind, _zero] = fields.array().ok_or(cut)?;
        let cpu = u16::from_le_bytes(fields.array().ok_or(cut)?);
        let thread = u32::from_le_bytes(fields.array().ok_or(cut)?);
        let time = u64::from_le_bytes(fields.array().ok_or(cut)?);
        let opcode = Opcode(u32::from_le_bytes(fields.array().ok_or(cut)?));
        let len = u32::from_le_bytes(fields.array().ok_or(cut)?);
        let kept = u32::from_le_bytes(fields.array().ok_or(cut)?);
        let kind = RecordKind::of(kind).ok_or(CaptureError::Kind { at, kind })?;
        if len > MESSAGE_MAX && kind != RecordKind::Lost {
            return Err(CaptureError::TooLong { at, len });
        }
        if kept > len || (kind == RecordKind::Lost && kept > 0) {
            return Err(CaptureError::TooMuchKept { at, len, kept });
        }
        let need = RECORD + kept as usize;
        let message = rest.get(RECORD..need).ok_or(CaptureError::Truncated {
            at,
            need,
            have: rest.len(),
        })?;
        if (kind == RecordKind::Init) == self.begun {
            return Err(CaptureError::NoInit);
        }
        self.begun = true;
        self.at = at + need;
        Ok(Record {
            kind,
            cpu,
            thread,
            time,
            opcode,
            len,
            kept: message,
        })
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, CaptureError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let record = self.read();
        self.ended = !matches!(record, Some(Ok(_)));
        record
    }
}

/// A message as it was on the wire, zeros in place of what was left out, at an address that is a multiple of 8. Used
/// again for the next message, it allocates only to grow.
#[derive(Debug, Default)]
pub struct Message {
    words: Vec<u64>,
    len: usize,
}

impl Message {
    /// Takes the message of `record`. Its length is bounded by [`MESSAGE_MAX`].
    pub fn load(&mut self, record: &Record<'_>) -> &[u8] {
        self.len = match record.kind {
            RecordKind::Lost => 0,
            _ => (record.len.min(MESSAGE_MAX) as usize).max(record.kept.len()),
        };
        self.words.clear();
        self.words.resize(self.len.div_ceil(8), 0);
        self.words.as_mut_bytes()[..record.kept.len()].copy_from_slice(record.kept);
        self.bytes()
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.words.as_bytes()[..self.len]
    }

    /// The bytes, for changing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.words.as_mut_bytes()[..self.len]
    }
}

/// Cuts fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }
}
