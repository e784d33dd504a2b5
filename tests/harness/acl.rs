//! Access control lists as `setxattr(2)` takes them (`include/uapi/linux/posix_acl_xattr.h`): version 2, then for each entry
//! tag and permissions (16 bits each) and an id (32 bits), little-endian.

/// The list of these entries: tag, permissions, id.
pub fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        list.extend_from_slice(&tag.to_le_bytes());
        list.extend_from_slice(&perm.to_le_bytes());
        list.extend_from_slice(&id.to_le_bytes());
    }
    list
}
