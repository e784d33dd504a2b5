//! Giving up what is not needed once the mount is made: whoever finds a hole in the daemon gets no more than it has.

use rustix::io::Result;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capabilities_secure_bits,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs,
};

/// What serving needs, of what the daemon was started with. A lower file system asks for the first ten where root changes
/// something through the mount, or enforcement does; the others are
/// * SETUID and SETGID for acting as the caller,
/// * SYS_ADMIN for registering backing files, `trusted.*` attributes, kernel stacks of threads that hang, and unmounting,
/// * SYS_PTRACE for whose namespace a caller is in, and which program it runs,
/// * the two of security modules for labels.
pub const NEEDED: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::LEASE)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SYS_ADMIN)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE);

/// Gives up, in this thread and in those that it starts afterwards, every capability but [`NEEDED`], the rest of the bounding
/// set, and what executing a set-id program would give. What is left in the bounding set is what a daemon keeps that goes on
/// as another program: such a one gets no more than this one has (`no_new_privs`).
///
/// The capabilities stay when the file system uid changes (`SECBIT_NO_SETUID_FIXUP`), which only a thread with CAP_SETPCAP
/// may say.
///
/// # Errors
/// None in practice: giving up is allowed to everybody.
pub fn reduce() -> Result<()> {
    let held = capabilities(None)?;
    if held.permitted.contains(CapabilitySet::SETPCAP) {
        let bits = capabilities_secure_bits()?;
        set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
        // EINVAL: beyond the last one of this kernel.
        (0..u64::BITS)
            .map(|number| CapabilitySet::from_bits_retain(1 << number))
            .filter(|one| !NEEDED.contains(*one))
            .take_while(|one| remove_capability_from_bounding_set(*one).is_ok())
            .for_each(drop);
    }
    // Before Linux 4.3 there is none.
    let _ = clear_ambient_capability_set();
    let permitted = held.permitted & NEEDED;
    set_capabilities(
        None,
        CapabilitySets {
            effective: permitted,
            permitted,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    set_no_new_privs(true)
}
