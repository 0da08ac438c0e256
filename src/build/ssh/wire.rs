//! The messages of agents (draft-ietf-sshm-ssh-agent), and the strings in them.

use std::io::{self, Read, Write};

/// Bytes of a message at the most, as with OpenSSH.
const LONGEST: usize = 256 << 10;

/// The answer to what is not done.
pub(super) const FAILURE: u8 = 5;
/// Asks for the public keys.
pub(super) const LIST: u8 = 11;
/// The public keys.
pub(super) const LISTED: u8 = 12;
/// Asks for a signature.
pub(super) const SIGN: u8 = 13;
/// A signature.
pub(super) const SIGNED: u8 = 14;
/// Something with a name.
const EXTENSION: u8 = 27;
/// Tells an agent which host a connection leads to. It can only make keys usable for less.
const BIND: &[u8] = b"session-bind@openssh.com";

/// Returns whether a step may ask that of an agent.
pub(super) fn is_asked_by_steps(request: &[u8]) -> bool {
    match request.split_first() {
        Some((&(LIST | SIGN), _)) => true,
        Some((&EXTENSION, mut rest)) => string(&mut rest) == Some(BIND),
        _ => false,
    }
}

/// Returns the next message, without its length; `None` at the end.
pub(super) fn receive(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    // An end between two messages is one; an end within is an error.
    loop {
        match from.read(&mut length[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    from.read_exact(&mut length[1..])?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

/// Sends a message.
pub(super) fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(message.len() + 4);
    put(&mut framed, message);
    to.write_all(&framed)
}

/// Adds a string.
pub(super) fn put(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&(text.len() as u32).to_be_bytes());
    to.extend_from_slice(text);
}

/// Adds a number that is not negative, given with the highest byte first.
pub(super) fn put_number(to: &mut Vec<u8>, number: &[u8]) {
    let number = bare(number);
    let sign: &[u8] = if number.first().is_some_and(|byte| byte & 0x80 != 0) { &[0] } else { &[] };
    put(to, &[sign, number].concat());
}

/// Returns a number without the zeros in front.
pub(super) fn bare(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    &number[zeros..]
}

/// Takes a string from the front of `rest`.
pub(super) fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = word(rest)? as usize;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(text)
}

/// Takes 32 bits from the front of `rest`.
pub(super) fn word(rest: &mut &[u8]) -> Option<u32> {
    let (word, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_be_bytes(*word))
}
