//! Records as bytes.

use super::Record;

/// Appends `record` to `out`.
pub fn write_record(out: &mut Vec<u8>, record: &Record<'_>) {
    out.extend_from_slice(&[record.kind as u8, 0]);
    out.extend_from_slice(&record.cpu.to_le_bytes());
    out.extend_from_slice(&record.thread.to_le_bytes());
    out.extend_from_slice(&record.time.to_le_bytes());
    out.extend_from_slice(&record.opcode.0.to_le_bytes());
    out.extend_from_slice(&record.len.to_le_bytes());
    out.extend_from_slice(&(record.kept.len() as u32).to_le_bytes());
    out.extend_from_slice(record.kept);
}
