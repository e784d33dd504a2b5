//! The buckets of a histogram of latencies.

/// Buckets per doubling of the latency: 16, so that a bucket is at most 6.25 % wide.
const SUB_BITS: u32 = 4;
/// Latencies from 2^40 ns (18 minutes) on share one bucket.
pub(super) const TOP_BIT: u32 = 40;
/// Buckets of a histogram.
pub(super) const BUCKETS: usize = ((TOP_BIT - SUB_BITS + 1) << SUB_BITS) as usize + 1;

/// The bucket of a latency in nanoseconds: exact below 16, then 16 per doubling.
pub(super) fn bucket(ns: u64) -> usize {
    let ns = ns.min(1 << TOP_BIT);
    if ns < 1 << SUB_BITS {
        return ns as usize;
    }
    let exponent = 63 - ns.leading_zeros() - SUB_BITS;
    ((exponent as usize) << SUB_BITS) + (ns >> exponent) as usize
}

/// The largest latency that a bucket counts, in nanoseconds.
pub(super) fn bucket_end(bucket: usize) -> u64 {
    let fine = 1 << SUB_BITS;
    if bucket < fine {
        return bucket as u64;
    }
    let exponent = bucket / fine - 1;
    ((bucket % fine + fine + 1) as u64).wrapping_shl(exponent as u32) - 1
}
