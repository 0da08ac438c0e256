//! Private keys, and what they answer.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
};

use super::{read, wire};

/// Asks for a signature of an RSA key with this digest.
const WITH_SHA256: u32 = 2;
const WITH_SHA512: u32 = 4;

/// Private keys that sign for steps. Only their public halves are ever shown.
#[derive(Default)]
pub struct Keys(Vec<Key>);

/// A private key.
struct Key {
    file: PathBuf,
    /// The public half, as ssh writes it.
    public: Vec<u8>,
    comment: String,
    secret: Secret,
}

/// What signs.
pub(super) enum Secret {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// A curve of ECDSA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// A file is no key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not a private key.
    #[error("that is no private key of ssh")]
    NotAKey,
    /// The other half.
    #[error("that is a public key")]
    Public,
    /// It has a passphrase.
    #[error("the key has a passphrase, and a build asks for none")]
    Encrypted,
    /// A kind that is not known here.
    #[error("keys of the kind {kind} are not read here")]
    Kind {
        /// As the file says.
        kind: String,
    },
    /// It has the form of a key, but is none.
    #[error("the key is damaged: {reason}")]
    Damaged {
        /// Why.
        reason: String,
    },
}

impl Curve {
    pub fn algorithm(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Curve::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    /// Returns how ssh calls it.
    pub fn name(self) -> &'static str {
        match self {
            Curve::P256 => "nistp256",
            Curve::P384 => "nistp384",
        }
    }

    /// Returns how many bytes a number of it has.
    pub fn len(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
        }
    }
}

impl Keys {
    /// Reads a key from the `text` of its `file`, and adds it. It is called as its file where that has no comment.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn add(&mut self, text: &[u8], file: &Path) -> Result<(), KeyError> {
        let (secret, comment) = read::key(text)?;
        let comment = comment.unwrap_or_else(|| file.display().to_string());
        self.0.push(Key { file: file.to_path_buf(), public: secret.public(), comment, secret });
        Ok(())
    }

    /// Returns the files that they were read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|key| key.file.as_path())
    }

    /// Returns the answer of an agent with these keys.
    pub(super) fn answer(&self, request: &[u8]) -> Vec<u8> {
        let answer = match request.split_first() {
            Some((&wire::LIST, [])) => Some(self.list()),
            Some((&wire::SIGN, rest)) => self.sign(rest),
            _ => None,
        };
        answer.unwrap_or_else(|| vec![wire::FAILURE])
    }

    fn list(&self) -> Vec<u8> {
        let mut answer = vec![wire::LISTED];
        answer.extend_from_slice(&(self.0.len() as u32).to_be_bytes());
        for key in &self.0 {
            wire::put(&mut answer, &key.public);
            wire::put(&mut answer, key.comment.as_bytes());
        }
        answer
    }

    fn sign(&self, mut rest: &[u8]) -> Option<Vec<u8>> {
        let (public, data, flags) = (wire::string(&mut rest)?, wire::string(&mut rest)?, wire::word(&mut rest)?);
        let key = self.0.iter().find(|key| key.public == public)?;
        let mut answer = vec![wire::SIGNED];
        wire::put(&mut answer, &key.secret.sign(data, flags)?);
        Some(answer)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.comment)).finish()
    }
}

impl PartialEq for Keys {
    fn eq(&self, other: &Self) -> bool {
        let publics = |keys: &Keys| keys.0.iter().map(|key| key.public.clone()).collect::<Vec<_>>();
        publics(self) == publics(other)
    }
}

impl Eq for Keys {}

impl Secret {
    fn public(&self) -> Vec<u8> {
        let mut public = Vec::new();
        match self {
            Secret::Ed25519(pair) => {
                wire::put(&mut public, b"ssh-ed25519");
                wire::put(&mut public, pair.public_key().as_ref());
            }
            Secret::Ecdsa(curve, pair) => {
                wire::put(&mut public, format!("ecdsa-sha2-{}", curve.name()).as_bytes());
                wire::put(&mut public, curve.name().as_bytes());
                wire::put(&mut public, pair.public_key().as_ref());
            }
            Secret::Rsa(pair) => {
                let PublicKeyComponents::<Vec<u8>> { n, e } = pair.public().into();
                wire::put(&mut public, b"ssh-rsa");
                wire::put_number(&mut public, &e);
                wire::put_number(&mut public, &n);
            }
        }
        public
    }

    fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (name, signature) = match self {
            Secret::Ed25519(pair) => ("ssh-ed25519".to_owned(), pair.sign(data).as_ref().to_vec()),
            Secret::Ecdsa(curve, pair) => {
                let signature = pair.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.len())?;
                let mut numbers = Vec::new();
                wire::put_number(&mut numbers, r);
                wire::put_number(&mut numbers, s);
                (format!("ecdsa-sha2-{}", curve.name()), numbers)
            }
            Secret::Rsa(pair) => {
                let (name, padding) = match flags {
                    _ if flags & WITH_SHA512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    _ if flags & WITH_SHA256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    // With SHA-1, which OpenSSH has not taken since 8.8.
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, data, &mut signature).ok()?;
                (name.to_owned(), signature)
            }
        };
        let mut answer = Vec::new();
        wire::put(&mut answer, name.as_bytes());
        wire::put(&mut answer, &signature);
        Some(answer)
    }
}
