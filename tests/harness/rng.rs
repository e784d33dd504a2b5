//! Random numbers that a seed repeats.

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let index = usize::try_from(self.below(from.len() as u64)).expect("an index");
        from[index]
    }

    /// A POSIX ACL as its attribute holds it (acl(5), version 2): owner, one `user`, group, mask, others.
    pub fn acl(&mut self, user: u32) -> Vec<u8> {
        let entries = [
            (1, u32::MAX),
            (2, user),
            (4, u32::MAX),
            (16, u32::MAX),
            (32, u32::MAX),
        ];
        super::acl(&entries.map(|(tag, id)| {
            let perm = u16::try_from(self.below(8)).expect("three bits");
            (tag, perm, id)
        }))
    }

    /// Bytes that differ from one call to the next.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let word = self.next().to_le_bytes();
        (0..len)
            .map(|i| word[i % 8].wrapping_add(u8::try_from(i / 8 % 256).unwrap_or(0)))
            .collect()
    }
}

/// The number that an environment variable holds, if it is one.
pub fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}
