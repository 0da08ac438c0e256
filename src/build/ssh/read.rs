//! Files of private keys: those of OpenSSH (PROTOCOL.key there), and the older ones of OpenSSL (RFC 7468).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::error::KeyRejected;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair};

use super::keys::{Curve, KeyError, Secret};
use super::wire::{bare, string, word};

const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Returns the key in the `text` of a file, and its comment where it has one.
pub(super) fn key(text: &[u8]) -> Result<(Secret, Option<String>), KeyError> {
    let text = std::str::from_utf8(text).map_err(|_| KeyError::NotAKey)?;
    let (label, body) = block(text)?;
    // The older form says so in lines in front.
    if body.contains("ENCRYPTED") || label == "ENCRYPTED PRIVATE KEY" {
        return Err(KeyError::Encrypted);
    }
    let bytes: String = body.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(bytes).map_err(|error| KeyError::Damaged { reason: error.to_string() })?;
    match label {
        "OPENSSH PRIVATE KEY" => openssh(&bytes),
        "RSA PRIVATE KEY" => Ok((Secret::Rsa(RsaKeyPair::from_der(&bytes).map_err(rejected)?), None)),
        "EC PRIVATE KEY" => Ok((sec1(&bytes)?, None)),
        "PRIVATE KEY" => Ok((pkcs8(&bytes)?, None)),
        other => Err(KeyError::Kind { kind: other.trim_end_matches(" PRIVATE KEY").into() }),
    }
}

/// Returns the label and the body of the first private key between lines of dashes.
fn block(text: &str) -> Result<(&str, &str), KeyError> {
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = behind.split_once("-----") else { break };
        let Some((body, behind)) = body.split_once("-----END ") else { break };
        if label.ends_with("PRIVATE KEY") {
            return Ok((label, body));
        }
        rest = behind;
    }
    let first = text.split_ascii_whitespace().next().unwrap_or_default();
    let is_public = ["ssh-", "ecdsa-sha2-", "sk-"].iter().any(|start| first.starts_with(start));
    Err(if is_public || text.contains("PUBLIC KEY-----") { KeyError::Public } else { KeyError::NotAKey })
}

fn rejected(error: KeyRejected) -> KeyError {
    KeyError::Damaged { reason: error.to_string() }
}

fn cut_short() -> KeyError {
    KeyError::Damaged { reason: "it ends too early".into() }
}

fn openssh(bytes: &[u8]) -> Result<(Secret, Option<String>), KeyError> {
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(KeyError::NotAKey)?;
    let cipher = string(&mut rest).ok_or_else(cut_short)?;
    if cipher != b"none" {
        return Err(KeyError::Encrypted);
    }
    let outer = |rest: &mut &[u8]| Some((string(rest)?.len(), string(rest)?.len(), word(rest)?, string(rest)?.len()));
    let (_, _, count, _) = outer(&mut rest).ok_or_else(cut_short)?;
    if count != 1 {
        return Err(KeyError::Damaged { reason: format!("it has {count} keys") });
    }
    let mut rest = string(&mut rest).ok_or_else(cut_short)?;
    if word(&mut rest).ok_or_else(cut_short)? != word(&mut rest).ok_or_else(cut_short)? {
        return Err(KeyError::Damaged { reason: "its check numbers differ".into() });
    }
    let kind = string(&mut rest).ok_or_else(cut_short)?;
    let secret = match kind {
        b"ssh-ed25519" => ed25519(&mut rest)?,
        b"ecdsa-sha2-nistp256" => ecdsa(Curve::P256, &mut rest)?,
        b"ecdsa-sha2-nistp384" => ecdsa(Curve::P384, &mut rest)?,
        b"ssh-rsa" => rsa(&mut rest)?,
        other => return Err(KeyError::Kind { kind: String::from_utf8_lossy(other).escape_debug().to_string() }),
    };
    let comment = string(&mut rest).map(|text| String::from_utf8_lossy(text).into_owned());
    Ok((secret, comment.filter(|text| !text.is_empty())))
}

fn ed25519(rest: &mut &[u8]) -> Result<Secret, KeyError> {
    let (public, both) = string(rest).zip(string(rest)).ok_or_else(cut_short)?;
    // The seed, and the public half again.
    let (seed, _) = both.split_at_checked(32).ok_or_else(cut_short)?;
    Ed25519KeyPair::from_seed_and_public_key(seed, public).map(Secret::Ed25519).map_err(rejected)
}

fn ecdsa(curve: Curve, rest: &mut &[u8]) -> Result<Secret, KeyError> {
    let (_, public) = string(rest).zip(string(rest)).ok_or_else(cut_short)?;
    let number = string(rest).ok_or_else(cut_short)?;
    on_curve(curve, number, public)
}

fn on_curve(curve: Curve, number: &[u8], public: &[u8]) -> Result<Secret, KeyError> {
    let number = bare(number);
    let missing = curve.len().checked_sub(number.len()).ok_or(KeyError::Damaged { reason: "too long".into() })?;
    let number = [&vec![0; missing], number].concat();
    EcdsaKeyPair::from_private_key_and_public_key(curve.algorithm(), &number, public, &SystemRandom::new())
        .map(|pair| Secret::Ecdsa(curve, pair))
        .map_err(rejected)
}

fn rsa(rest: &mut &[u8]) -> Result<Secret, KeyError> {
    let mut next = || string(rest).map(bare).ok_or_else(cut_short);
    let [n, e, d, inverse, p, q] = [next()?, next()?, next()?, next()?, next()?, next()?];
    let (d_p, d_q) = (remainder_of_one_less(d, p)?, remainder_of_one_less(d, q)?);
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: bare(&d_p),
        dQ: bare(&d_q),
        qInv: inverse,
    };
    RsaKeyPair::from_components(&components).map(Secret::Rsa).map_err(rejected)
}

/// Returns `number` modulo `prime` - 1: what signs with one of the primes alone.
fn remainder_of_one_less(number: &[u8], prime: &[u8]) -> Result<Vec<u8>, KeyError> {
    // A prime is odd, so that nothing is borrowed.
    if prime.last().is_none_or(|byte| byte & 1 == 0) || prime.len() > 1024 || number.len() > 1024 {
        return Err(KeyError::Damaged { reason: "that is no prime".into() });
    }
    let mut modulus = [&[0], prime].concat();
    *modulus.last_mut().expect("it has a byte in front") -= 1;
    let mut left = vec![0u8; modulus.len()];
    for byte in number {
        for bit in (0..8).rev() {
            let mut carry = byte >> bit & 1;
            for digit in left.iter_mut().rev() {
                let high = *digit >> 7;
                *digit = *digit << 1 | carry;
                carry = high;
            }
            if left >= modulus {
                subtract(&mut left, &modulus);
            }
        }
    }
    Ok(left)
}

/// Takes `less`, which is not more, from `number`, which is as long.
fn subtract(number: &mut [u8], less: &[u8]) {
    let mut borrowed = false;
    for (digit, less) in number.iter_mut().zip(less).rev() {
        let (once, first) = digit.overflowing_sub(*less);
        let (twice, second) = once.overflowing_sub(u8::from(borrowed));
        (*digit, borrowed) = (twice, first || second);
    }
}

fn pkcs8(der: &[u8]) -> Result<Secret, KeyError> {
    let random = SystemRandom::new();
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Secret::Ed25519(pair));
    }
    for curve in [Curve::P256, Curve::P384] {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(curve.algorithm(), der, &random) {
            return Ok(Secret::Ecdsa(curve, pair));
        }
    }
    RsaKeyPair::from_pkcs8(der).map(Secret::Rsa).map_err(rejected)
}

/// Reads the form of SEC 1: a number, the private key, the curve, and the public key.
fn sec1(der: &[u8]) -> Result<Secret, KeyError> {
    const SEQUENCE: u8 = 0x30;
    const OCTETS: u8 = 0x04;
    const CURVE: u8 = 0xa0;
    const PUBLIC: u8 = 0xa1;
    let body = find(der, SEQUENCE).ok_or_else(cut_short)?;
    let number = find(body, OCTETS).ok_or_else(cut_short)?;
    let curve = match find(body, CURVE).ok_or_else(cut_short)? {
        [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07] => Curve::P256,
        [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22] => Curve::P384,
        _ => return Err(KeyError::Kind { kind: "EC with another curve than P-256 and P-384".into() }),
    };
    // A string of bits: all of the last byte counts.
    let public = find(body, PUBLIC).and_then(|bits| find(bits, 0x03)).and_then(|bits| bits.strip_prefix(&[0]));
    on_curve(curve, number, public.ok_or_else(cut_short)?)
}

/// Returns the content of the first element with `tag` in the elements of `der`.
fn find(mut der: &[u8], tag: u8) -> Option<&[u8]> {
    loop {
        let (found, rest) = der.split_first()?;
        let (length, rest) = rest.split_first()?;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
            0x82 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
            _ => return None,
        };
        let (content, behind) = rest.split_at_checked(length)?;
        if *found == tag {
            return Some(content);
        }
        der = behind;
    }
}
