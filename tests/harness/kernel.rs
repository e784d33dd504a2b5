//! The kernel that runs the test.

/// The running kernel's version, `(6, 12)`.
pub fn linux() -> (u32, u32) {
    let release = rustix::system::uname();
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().expect("a number of the kernel's version"));
    (
        numbers.next().expect("a version"),
        numbers.next().expect("a version"),
    )
}
