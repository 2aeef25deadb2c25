//! Sealing of what the agent keeps on disk and that holds secrets: orders and the schedule set. The key follows from the agent's token, so what an
//! earlier enrolment left does not open; the name of what is sealed is associated data, so that a file does not pass for another.
//!
//! It guards copies of the folder that lack `identity.json`, not against who can read all of it. A sealed text is `version (1 byte, 1) ‖ nonce (24 bytes,
//! random) ‖ ciphertext and tag` of XChaCha20-Poly1305.

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use flotilla_proto::Secret;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Seals and opens what the agent keeps.
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

/// Why something could not be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another enrolment's, another file's, or damaged.
    #[error("it was sealed under another enrolment of this host, or is damaged")]
    Sealed,
    /// The system has no random bits.
    #[error("the system gives no random bits")]
    NoRandomness,
}

impl Seal {
    /// The seal of the agent that bears this token.
    #[must_use]
    pub fn from_token(token: &Secret) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"flotilla agent seal 1\0");
        hash.update(token.expose().as_bytes());
        let key = Zeroizing::new(<[u8; 32]>::from(hash.finalize()));
        Self(XChaCha20Poly1305::new((&*key).into()))
    }

    /// Seals `plain` as what `name` names, such as `jobs/01J…/order`.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`].
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let payload = Payload { msg: plain, aad: name.as_bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_| SealError::Sealed)?;
        let mut out = Vec::with_capacity(1 + NONCE + sealed.len());
        out.push(VERSION);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what [`Seal::seal`] made under the same name.
    ///
    /// # Errors
    /// [`SealError::Sealed`].
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError::Sealed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE>().ok_or(SealError::Sealed)?;
        if *version != VERSION {
            return Err(SealError::Sealed);
        }
        let payload = Payload { msg: text, aad: name.as_bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map(Zeroizing::new).map_err(|_| SealError::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_the_same_token_and_name_only() {
        let seal = Seal::from_token(&Secret::from("token"));
        let sealed = seal.seal("jobs/1/order", b"planted-secret").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"planted"));
        assert_eq!(&**seal.open("jobs/1/order", &sealed).unwrap(), b"planted-secret");
        assert_eq!(seal.open("jobs/2/order", &sealed), Err(SealError::Sealed));
        assert_eq!(Seal::from_token(&Secret::from("other")).open("jobs/1/order", &sealed), Err(SealError::Sealed));
        for cut in 0..sealed.len() {
            assert_eq!(seal.open("jobs/1/order", &sealed[..cut]), Err(SealError::Sealed));
        }
    }
}
