//! A recording on its way into a file: records are cut out of the stream, names hidden, and either all of them written as they
//! come or the latest ones kept until the end.

use etcfs_proto::capture::{
    CaptureError, CaptureFlags, HEADER, Header, Reader, Record, RecordKind, Redactor, write_record,
};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};

/// What a recording is to hold.
#[derive(Default)]
pub struct Choice {
    /// Hides names.
    pub redactor: Option<Redactor>,
    /// Keeps the latest records only, as many as fit into so many bytes, and writes them at the end.
    pub ring: Option<usize>,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Records in the file.
    pub records: u64,
    /// Records that came too fast.
    pub lost: u64,
    /// Records that were older than the ring holds.
    pub dropped: u64,
}

/// Why a recording could not go on.
#[derive(Debug)]
pub enum TapeError {
    /// The file could not be written.
    Write(io::Error),
    /// What came is no recording.
    Read(CaptureError),
}

impl fmt::Display for TapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TapeError::Write(error) => write!(f, "writing the recording: {error}"),
            TapeError::Read(error) => write!(f, "what the daemon sends: {error}"),
        }
    }
}

impl std::error::Error for TapeError {}

impl From<io::Error> for TapeError {
    fn from(error: io::Error) -> TapeError {
        TapeError::Write(error)
    }
}

/// A recording on its way into `out`.
pub struct Tape<W> {
    out: W,
    choice: Choice,
    header: Option<Header>,
    /// The end of what came, not yet a whole record.
    pending: Vec<u8>,
    kept: VecDeque<(RecordKind, Vec<u8>)>,
    kept_bytes: usize,
    /// The latest rules that are older than everything kept.
    rules: Option<Vec<u8>>,
    written: Written,
}

impl<W: Write> Tape<W> {
    /// Writes into `out`.
    pub fn new(out: W, choice: Choice) -> Tape<W> {
        Tape {
            out,
            choice,
            header: None,
            pending: Vec::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            rules: None,
            written: Written::default(),
        }
    }

    /// Takes the next bytes of the stream, cut anywhere.
    ///
    /// # Errors
    /// See [`TapeError`].
    pub fn take(&mut self, bytes: &[u8]) -> Result<(), TapeError> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let used = self.take_whole(&pending)?;
        // Whoever is killed in the middle leaves whole records.
        self.out.flush()?;
        self.pending = pending[used..].to_vec();
        Ok(())
    }

    /// Takes the whole records at the front of `bytes`, and says how many bytes those are.
    fn take_whole(&mut self, bytes: &[u8]) -> Result<usize, TapeError> {
        let mut reader = match self.header {
            Some(header) => Reader::continued(header, bytes),
            None if bytes.len() < HEADER => return Ok(0),
            None => {
                let mut reader = Reader::new(bytes).map_err(TapeError::Read)?;
                // The header is used together with the first record: what follows is read as a continuation.
                match reader.next() {
                    None | Some(Err(CaptureError::Truncated { .. })) => return Ok(0),
                    Some(Err(error)) => return Err(TapeError::Read(error)),
                    Some(Ok(record)) => {
                        self.begin(reader.header())?;
                        self.record(&record)?;
                    }
                }
                reader
            }
        };
        loop {
            match reader.next() {
                None => return Ok(bytes.len()),
                Some(Ok(record)) => self.record(&record)?,
                Some(Err(CaptureError::Truncated { at, .. })) => return Ok(at),
                Some(Err(error)) => return Err(TapeError::Read(error)),
            }
        }
    }

    fn begin(&mut self, mut header: Header) -> Result<(), TapeError> {
        self.header = Some(header);
        let hides = self.choice.redactor.is_some();
        header.flags.set(CaptureFlags::REDACTED, hides);
        self.out.write_all(&header.to_bytes())?;
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) -> Result<(), TapeError> {
        let mut kept = record.kept.to_vec();
        if let Some(redactor) = &mut self.choice.redactor {
            redactor.message(record, &mut kept);
        }
        let mut bytes = Vec::with_capacity(kept.len() + 32);
        write_record(
            &mut bytes,
            &Record {
                kept: &kept,
                ..*record
            },
        );
        if record.kind == RecordKind::Lost {
            self.written.lost += u64::from(record.len);
        }
        self.written.records += 1;
        let Some(size) = self.choice.ring.filter(|_| record.kind != RecordKind::Init) else {
            self.out.write_all(&bytes)?;
            return Ok(());
        };
        self.kept_bytes += bytes.len();
        self.kept.push_back((record.kind, bytes));
        while self.kept_bytes > size {
            let Some((kind, oldest)) = self.kept.pop_front() else {
                break;
            };
            self.kept_bytes -= oldest.len();
            if kind == RecordKind::Rules {
                // What follows is to be read under these, however many records come after them.
                self.written.records -= u64::from(self.rules.is_some());
                self.rules = Some(oldest);
                continue;
            }
            self.written.records -= 1;
            self.written.dropped += 1;
        }
        Ok(())
    }

    /// Writes what was kept, and says what the file has.
    ///
    /// # Errors
    /// [`TapeError::Write`].
    pub fn finish(mut self) -> Result<Written, TapeError> {
        let kept = self.kept.iter().map(|(_, record)| record);
        for record in self.rules.iter().chain(kept) {
            self.out.write_all(record)?;
        }
        self.out.flush()?;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etcfs_proto::Opcode;

    fn recording() -> Vec<u8> {
        let header = Header {
            flags: CaptureFlags::native(),
            began: 5,
        };
        let mut bytes = header.to_bytes().to_vec();
        for n in 0..10_u8 {
            let kept = [n; 12];
            let record = Record {
                kind: if n == 0 {
                    RecordKind::Init
                } else {
                    RecordKind::Answer
                },
                cpu: 0,
                thread: 1,
                time: n.into(),
                opcode: Opcode::READ,
                len: 4000,
                kept: &kept,
            };
            write_record(&mut bytes, &record);
        }
        bytes
    }

    fn through(choice: Choice, portion: usize) -> (Vec<u8>, Written) {
        let mut out = Vec::new();
        let mut tape = Tape::new(&mut out, choice);
        for part in recording().chunks(portion) {
            tape.take(part).unwrap();
        }
        let written = tape.finish().unwrap();
        (out, written)
    }

    #[test]
    fn a_stream_is_written_as_it_comes_in_whatever_portions() {
        for portion in [1, 7, 40, 1000] {
            let (out, written) = through(Choice::default(), portion);
            assert_eq!(out, recording());
            assert_eq!(written.records, 10);
        }
    }

    #[test]
    fn a_ring_keeps_the_latest_and_the_agreement() {
        let choice = Choice {
            ring: Some(100),
            ..Choice::default()
        };
        let (out, written) = through(choice, 33);
        let times: Vec<_> = Reader::new(&out)
            .unwrap()
            .map(|record| record.unwrap().time)
            .collect();
        assert_eq!(times, [0, 8, 9]);
        assert_eq!((written.records, written.dropped), (3, 7));
    }

    #[test]
    fn hidden_names_are_told_in_the_header_and_nonsense_is_refused() {
        let choice = Choice {
            redactor: Some(Redactor::new([0; 16])),
            ..Choice::default()
        };
        let (out, _) = through(choice, 1000);
        let header = Reader::new(&out).unwrap().header();
        assert!(header.flags.contains(CaptureFlags::REDACTED));
        let mut tape = Tape::new(Vec::new(), Choice::default());
        let error = tape.take(&[b'x'; 100]).unwrap_err();
        assert!(matches!(
            error,
            TapeError::Read(CaptureError::NotARecording)
        ));
    }
}
