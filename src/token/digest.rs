//! The SHA-256 of a whole token: the only form in which a token is stored, cached or compared.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a whole token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token as it was presented.
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// A digest that was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes, for the store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The digest as four numbers, for the token cache.
    #[inline]
    pub(super) fn words(&self) -> [u64; 4] {
        let (eights, _) = self.0.as_chunks::<8>();
        std::array::from_fn(|word| u64::from_le_bytes(eights[word]))
    }
}

impl fmt::Debug for TokenDigest {
    /// Enough to tell two apart in a log, too little to look one up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256() {
        let expected = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
            0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(TokenDigest::of(b"abc"), TokenDigest::from_bytes(expected));
        assert_eq!(TokenDigest::of(b"abc").as_bytes(), &expected);
    }

    #[test]
    fn it_prints_too_little_to_look_it_up() {
        assert_eq!(format!("{:?}", TokenDigest::of(b"abc")), "TokenDigest(ba78…)");
    }

    #[test]
    fn its_words_are_its_bytes_in_order() {
        let digest = TokenDigest::from_bytes(std::array::from_fn(|byte| byte as u8));
        assert_eq!(digest.words()[0], 0x0706_0504_0302_0100);
        assert_eq!(digest.words()[3], 0x1f1e_1d1c_1b1a_1918);
    }
}
