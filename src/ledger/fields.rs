//! What has no fixed size, written down as fields: each with a number that says what it is, its length, and its bytes. A
//! reader leaves out what it does not know, so that a later version may say more.

/// Fields, in the order in which they were put.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct FieldWriter(Vec<u8>);

impl FieldWriter {
    /// With `bytes` as the field `tag`.
    #[must_use]
    pub(crate) fn with(mut self, tag: u32, bytes: &[u8]) -> FieldWriter {
        self.put(tag, bytes);
        self
    }

    /// With a number as the field `tag`.
    #[must_use]
    pub(crate) fn with_number(self, tag: u32, number: u64) -> FieldWriter {
        self.with(tag, &number.to_ne_bytes())
    }

    /// Puts `bytes` as the field `tag`. Nobody has more than 4 GiB of them.
    pub(crate) fn put(&mut self, tag: u32, bytes: &[u8]) {
        self.0.extend_from_slice(&tag.to_ne_bytes());
        self.0
            .extend_from_slice(&(bytes.len() as u32).to_ne_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// As they are written down.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Fields that were written down.
#[derive(Debug, Clone)]
pub(crate) struct FieldReader<'a>(Vec<(u32, &'a [u8])>);

impl<'a> FieldReader<'a> {
    /// Those in `bytes`. `None`: these are none.
    pub(crate) fn in_bytes(mut bytes: &'a [u8]) -> Option<FieldReader<'a>> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let (tag, rest) = bytes.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let len = u32::from_ne_bytes(*len) as usize;
            fields.push((u32::from_ne_bytes(*tag), rest.get(..len)?));
            bytes = &rest[len..];
        }
        Some(FieldReader(fields))
    }

    /// All, in their order.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &'a [u8])> {
        self.0.iter().copied()
    }

    /// The bytes of the first field `tag`.
    pub(crate) fn get(&self, tag: u32) -> Option<&'a [u8]> {
        self.all()
            .find(|&(other, _)| other == tag)
            .map(|(_, bytes)| bytes)
    }

    /// The number that is the first field `tag`.
    pub(crate) fn number(&self, tag: u32) -> Option<u64> {
        Some(u64::from_ne_bytes(self.get(tag)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_known_is_left_out() {
        let fields = FieldWriter::default()
            .with(9, b"later")
            .with(1, b"")
            .with_number(2, 7);
        let found = FieldReader::in_bytes(fields.bytes()).unwrap();
        assert_eq!(found.get(1), Some(&b""[..]));
        assert_eq!(
            (found.number(2), found.number(1), found.get(3)),
            (Some(7), None, None)
        );
        assert!(FieldReader::in_bytes(&fields.bytes()[1..]).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_are_fields_or_none(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(found) = FieldReader::in_bytes(&bytes) {
                let mut again = FieldWriter::default();
                found.all().for_each(|(tag, bytes)| again.put(tag, bytes));
                prop_assert_eq!(again.bytes(), bytes);
            }
        }
    }
}
