//! Where the contents of files and extended attributes begin in a message: what a recording leaves out.

use crate::abi::{GetxattrIn, InHeader, OutHeader, SetxattrIn};
use crate::{Frame, Opcode};

const HEAD: usize = size_of::<InHeader>();

/// How many bytes of a request, from its first on, are no contents. WRITE and the answer to a RETRIEVE notice hold a file's,
/// SETXATTR an attribute's value. An attribute whose name cannot be read keeps nothing behind the arguments.
pub fn request(frame: &Frame<'_>) -> usize {
    let whole = HEAD + frame.args.len() + frame.tail.len() + frame.ext.len();
    match frame.opcode() {
        Opcode::WRITE | Opcode::NOTIFY_REPLY => HEAD + frame.args.len(),
        Opcode::SETXATTR => match frame.setxattr(frame.setxattr_is_ext()) {
            Ok(set) => whole - frame.ext.len() - set.value.len(),
            Err(_) => (HEAD + size_of::<SetxattrIn>()).min(whole),
        },
        _ => whole,
    }
}

/// How many bytes of the answer to `frame`, from its first on, are no contents. READ's hold a file's, GETXATTR's an
/// attribute's value unless only its length was asked.
pub fn answer(frame: &Frame<'_>, answer: &[u8]) -> usize {
    let asks_length = || frame.args::<GetxattrIn>().is_ok_and(|args| args.size == 0);
    match frame.opcode() {
        Opcode::READ => size_of::<OutHeader>().min(answer.len()),
        Opcode::GETXATTR if !asks_length() => size_of::<OutHeader>().min(answer.len()),
        _ => answer.len(),
    }
}
