//! Lines out of the writes of one handle.

use super::error::{CommandError, Problem};

/// Longest line in bytes, without the newline: above the longest command, `add_override directory`, a path of 4,096 and
/// a content of 4,095 bytes, so that one a little too long is refused for what is too long in it.
pub(crate) const LINE_MAX: usize = 16 << 10;

/// Puts lines together that were split over the writes of one handle (D30): a C library may write the body of a long line
/// and its newline separately, and the kernel cuts a write(2) beyond the agreed `max_write` in several requests. Holds
/// at most [`LINE_MAX`] bytes between writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct LineBuffer {
    pending: Vec<u8>,
}

impl LineBuffer {
    /// One that holds the begun line `pending`. `None`: it is longer than any can be.
    pub(crate) fn holding(pending: &[u8]) -> Option<LineBuffer> {
        let pending = pending.to_vec();
        (pending.len() <= LINE_MAX).then_some(LineBuffer { pending })
    }

    /// Takes the bytes of one write and returns the lines they end, each without its newline. What follows the last
    /// newline stays for later.
    ///
    /// # Errors
    ///
    /// [`Problem::LongLine`]; the buffer is then empty, as after [`LineBuffer::clear`].
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Box<[u8]>>, CommandError> {
        let mut lines = Vec::new();
        let mut rest = bytes;
        while let Some(newline) = rest.iter().position(|byte| *byte == b'\n') {
            self.extend(&rest[..newline])?;
            lines.push(std::mem::take(&mut self.pending).into());
            rest = &rest[newline + 1..];
        }
        self.extend(rest)?;
        Ok(lines)
    }

    /// Forgets the unfinished line. After a write that failed, this makes the next one start with a line of its own;
    /// otherwise one bad line would spoil the next good one.
    pub(crate) fn clear(&mut self) {
        self.pending.clear();
    }

    /// The line begun and not yet ended.
    pub(crate) fn leftover(&self) -> &[u8] {
        &self.pending
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), CommandError> {
        if self.pending.len() + bytes.len() > LINE_MAX {
            let begin = [&self.pending, &bytes[..bytes.len().min(LINE_MAX)]].concat();
            self.clear();
            return Err(CommandError::new(&begin, Problem::LongLine));
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, LineBuffer};
    use crate::fs::config::Problem;
    use proptest::prelude::*;

    fn texts(lines: Vec<Box<[u8]>>) -> Vec<Vec<u8>> {
        lines.into_iter().map(Vec::from).collect()
    }

    #[test]
    fn d30_body_and_newline_in_separate_writes_make_one_line() {
        let mut buffer = LineBuffer::default();
        assert!(buffer.push(b"add_global /a").unwrap().is_empty());
        assert_eq!(buffer.leftover(), b"add_global /a");
        assert_eq!(texts(buffer.push(b"\n").unwrap()), [b"add_global /a"]);
        assert_eq!(buffer.leftover(), b"");
    }

    #[test]
    fn a_line_without_end_is_refused_and_forgotten() {
        let mut buffer = LineBuffer::default();
        buffer.push(&[b'a'; LINE_MAX]).unwrap();
        let error = buffer.push(b"a").unwrap_err();
        assert_eq!(error.problem(), Problem::LongLine);
        assert_eq!(buffer.leftover(), b"");
        assert_eq!(texts(buffer.push(b"b\n").unwrap()), [b"b"]);
        assert!(buffer.push(&[b'a'; 1 << 20]).is_err());
        assert_eq!(texts(buffer.push(b"\n\n").unwrap()), [b"", b""]);
    }

    proptest! {
        #[test]
        fn d30_lines_do_not_depend_on_where_writes_are_cut(
            bytes in proptest::collection::vec(proptest::sample::select(&b"ab \n\0\xff"[..]), 0..200),
            cuts in proptest::collection::vec(1_usize..50, 1..50),
        ) {
            let mut buffer = LineBuffer::default();
            let mut found = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                found.extend(buffer.push(now).unwrap());
                rest = later;
            }
            found.extend(buffer.push(rest).unwrap());
            let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').map(Vec::from).collect();
            let leftover = expected.pop().unwrap();
            prop_assert_eq!(texts(found), expected);
            prop_assert_eq!(buffer.leftover(), leftover);
        }
    }
}
