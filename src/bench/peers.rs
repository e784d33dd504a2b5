//! What cannot be measured beside us: times native of programs that no package has, each measured with native in the same run
//! on a virtual machine with two CPUs and Linux 6.18.

/// Bedrock's own etcfs 0.7.31, a C program: lower file system, row, times native.
const TRADITIONAL: [(&str, &str, f64); 26] = [
    ("tmpfs", "write 25,000 x 4 KiB", 62.0),
    ("tmpfs", "read 25,000 x 4 KiB", 109.0),
    ("tmpfs", "unlink 25,000 x 4 KiB", 37.0),
    ("tmpfs", "write 10,000 x 64 KiB", 17.0),
    ("tmpfs", "read 10,000 x 64 KiB", 44.0),
    ("tmpfs", "read 1,000 x 1 MiB", 10.6),
    ("tmpfs", "read 100 x 10 MiB", 8.0),
    ("ext4", "read 25,000 x 4 KiB", 66.0),
    ("ext4", "read 25,000 x 4 KiB, cold", 7.3),
    ("ext4", "read 10,000 x 64 KiB", 48.0),
    ("ext4", "read 1,000 x 1 MiB", 21.0),
    ("ext4", "read 100 x 10 MiB", 20.0),
    ("ext4", "stat, 1 client", 181.0),
    ("ext4", "stat, 2 clients", 208.0),
    ("ext4", "stat of a missing name, 1 client", 190.0),
    ("ext4", "open + close, 1 client", 133.0),
    ("ext4", "open + close, 2 clients", 131.0),
    ("ext4", "open + read 4 KiB + close, 1 client", 141.0),
    ("ext4", "open + read 4 KiB + close, 2 clients", 206.0),
    ("ext4", "create + unlink, 1 client", 33.0),
    ("ext4", "list 20 entries, 1 client", 53.0),
    ("ext4", "random 4 KiB reads of a 1 GiB file", 119.0),
    ("ext4", "find of 5,000 files", 88.0),
    ("ext4", "ls -lR of 5,000 files", 36.0),
    ("ext4", "grep -r of 5,000 files", 75.0),
    ("ext4", "tar of 5,000 files", 65.0),
];

/// How many times slower than native Bedrock's own etcfs is in a row.
pub(crate) fn traditional(lower: &str, row: &str) -> Option<f64> {
    let is_it = |known: &&(&str, &str, f64)| known.0 == lower && known.1 == row;
    TRADITIONAL.iter().find(is_it).map(|known| known.2)
}

/// libfuse's passthrough_hp with passthrough and its day-long caches.
pub(crate) const HP: [(&str, &str, f64); 20] = [
    ("tmpfs", "write 25,000 x 4 KiB", 31.0),
    ("tmpfs", "read 25,000 x 4 KiB", 26.0),
    ("tmpfs", "unlink 25,000 x 4 KiB", 14.0),
    ("tmpfs", "write 10,000 x 64 KiB", 8.9),
    ("tmpfs", "read 10,000 x 64 KiB", 10.0),
    ("tmpfs", "read 1,000 x 1 MiB", 1.6),
    ("tmpfs", "read 100 x 10 MiB", 1.1),
    ("ext4", "read 25,000 x 4 KiB", 15.0),
    ("ext4", "read 10,000 x 64 KiB", 10.0),
    ("ext4", "read 1,000 x 1 MiB", 2.4),
    ("ext4", "read 100 x 10 MiB", 1.2),
    ("ext4", "open + close, 1 client", 51.8),
    ("ext4", "open + close, 2 clients", 37.7),
    ("ext4", "open + read 4 KiB + close, 1 client", 34.7),
    ("ext4", "open + read 4 KiB + close, 2 clients", 28.5),
    ("ext4", "create + unlink, 1 client", 23.8),
    ("ext4", "random 4 KiB reads of a 1 GiB file", 1.14),
    ("ext4", "sequential read of a 1 GiB file", 1.19),
    ("ext4", "grep -r of 5,000 files", 15.9),
    ("ext4", "tar of 5,000 files", 23.8),
];
