//! Secrets that prove who someone is: random tokens, their hashes, passwords. A token is 256 random bits and kept as its SHA-256 only;
//! a password is kept as argon2id. Comparing takes the same time whatever differs.

use std::sync::Arc;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::domain::Secret;

/// SHA-256 of a token: all that is kept of it.
pub type TokenHash = [u8; 32];

/// Prefix of API tokens, so that they are recognised where they should not be (in a commit, in a log).
pub const API_PREFIX: &str = "flo_";
/// Prefix of enrolment tokens.
pub const ENROL_PREFIX: &str = "fle_";
/// Prefix of agents' tokens.
pub const AGENT_PREFIX: &str = "fla_";

/// Passwords hashed at the same time: each takes 19 MiB and a core.
const AT_ONCE: usize = 2;
/// Passwords that may wait for their turn; past that the answer is "busy".
const WAITING: usize = 32;

/// A hash that no password has, with the cost of a real one: an unknown account takes as long as a known one.
const NOBODY: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Why a credential could not be made or checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// No randomness.
    #[error("the operating system gave no random bytes")]
    NoRandomness,
    /// Too many passwords wait to be checked.
    #[error("too many passwords are being checked right now: try again in a moment")]
    Busy,
    /// The hash function failed, or its task was cut off.
    #[error("a password could not be hashed")]
    Hashing,
}

/// A new token: `prefix` and 256 random bits.
///
/// # Errors
/// [`CredentialError::NoRandomness`].
pub fn new_token(prefix: &str) -> Result<Secret, CredentialError> {
    let mut bits = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(bits.as_mut_slice()).map_err(|_| CredentialError::NoRandomness)?;
    Ok(Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bits.as_slice()))))
}

/// What is kept of a token.
#[must_use]
pub fn hash(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

/// A text derived from a secret for one purpose; it does not reveal the secret, nor what [`hash`] makes of it.
#[must_use]
pub fn derived(purpose: &str, secret: &str) -> String {
    let digest = Sha256::new().chain_update(purpose.as_bytes()).chain_update([0]).chain_update(secret.as_bytes());
    URL_SAFE_NO_PAD.encode(digest.finalize())
}

/// Whether two texts are the same; the time says nothing about where they differ.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// Random bits for the lower half of an id.
///
/// # Errors
/// [`CredentialError::NoRandomness`].
pub fn random_bits() -> Result<u128, CredentialError> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|_| CredentialError::NoRandomness)?;
    Ok(u128::from_le_bytes(bits))
}

/// Hashes and checks passwords, few at a time, off the async threads. Clones share the limit.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new()
    }
}

impl Passwords {
    /// With nothing to do yet.
    #[must_use]
    pub fn new() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// The text to keep of a password (PHC string, argon2id with OWASP's parameters).
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn hash(&self, password: Secret) -> Result<String, CredentialError> {
        self.run(move || {
            Argon2::default()
                .hash_password(password.expose().as_bytes())
                .map(|hash| hash.to_string())
                .map_err(|_| CredentialError::Hashing)
        })
        .await
    }

    /// Whether `password` is the one that `kept` was made of. Without `kept` (no such account) it does the same work and says no.
    ///
    /// # Errors
    /// [`CredentialError`].
    pub async fn verify(&self, password: Secret, kept: Option<String>) -> Result<bool, CredentialError> {
        self.run(move || {
            let known = kept.is_some();
            let kept = kept.as_deref().unwrap_or(NOBODY);
            let kept = PasswordHash::new(kept).map_err(|_| CredentialError::Hashing)?;
            Ok(Argon2::default().verify_password(password.expose().as_bytes(), &kept).is_ok() && known)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CredentialError> + Send + 'static,
    ) -> Result<T, CredentialError> {
        let _place = self.waiting.try_acquire().map_err(|_| CredentialError::Busy)?;
        // Moved into the work: a caller that goes away must not make room while its hash still runs.
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| CredentialError::Busy)?;
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        })
        .await
        .unwrap_or(Err(CredentialError::Hashing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let passwords = Passwords::new();
        let kept = passwords.hash("correct horse".into()).await.unwrap();
        assert!(kept.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{kept}");
        assert!(passwords.verify("correct horse".into(), Some(kept.clone())).await.unwrap());
        assert!(!passwords.verify("correct hors".into(), Some(kept)).await.unwrap());
    }

    #[tokio::test]
    async fn the_hash_of_nobody_is_well_formed_costs_the_same_and_fits_nothing() {
        let real = Passwords::new().hash("x".into()).await.unwrap();
        let cost = |phc: &str| phc.split('$').take(4).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cost(NOBODY), cost(&real));
        assert!(PasswordHash::new(NOBODY).is_ok());
        assert!(!Passwords::new().verify(Secret::default(), None).await.unwrap());
    }

    #[test]
    fn tokens_differ_carry_their_prefix_and_256_bits() {
        let (a, b) = (new_token(API_PREFIX).unwrap(), new_token(API_PREFIX).unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_eq!(a.expose().strip_prefix(API_PREFIX).map(str::len), Some(43));
    }

    #[test]
    fn what_is_derived_from_a_secret_differs_from_what_is_kept_of_it() {
        assert_ne!(derived("csrf", "s"), URL_SAFE_NO_PAD.encode(hash("s")));
        assert_ne!(derived("csrf", "s"), derived("other", "s"));
    }
}
