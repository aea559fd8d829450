//! The RSA private operation, done by AWS-LC: about 230 µs where a portable implementation takes 1.3 ms,
//! which at one operation per app and scrape is most of what a scrape costs.
//!
//! `unsafe` because it calls into C: it owns one `EVP_PKEY`, and the contexts that decrypt with it.

#![allow(unsafe_code)]

use std::ptr;

use aws_lc_sys::{
    CBS, EVP_PKEY, EVP_PKEY_CTX, EVP_PKEY_CTX_free, EVP_PKEY_CTX_new, EVP_PKEY_CTX_set_rsa_mgf1_md,
    EVP_PKEY_CTX_set_rsa_oaep_md, EVP_PKEY_CTX_set_rsa_padding, EVP_PKEY_decrypt,
    EVP_PKEY_decrypt_init, EVP_PKEY_free, EVP_PKEY_size, EVP_parse_private_key, EVP_sha1,
    EVP_sha256, RSA_PKCS1_OAEP_PADDING,
};
use zeroize::Zeroizing;

use crate::oaep::Mgf;

/// An RSA private key inside AWS-LC.
pub(crate) struct PrivateKey {
    key: ptr::NonNull<EVP_PKEY>,
}

// SAFETY: an EVP_PKEY is reference-counted with atomics and its RSA key takes its own locks around the blinding and
// Montgomery caches; AWS-LC documents concurrent use of a key that nobody modifies as safe, and nothing here modifies it.
unsafe impl Send for PrivateKey {}
// SAFETY: as above.
unsafe impl Sync for PrivateKey {}

impl PrivateKey {
    /// Takes a PKCS#8 `PrivateKeyInfo` in DER. `None` if it is not one, or not of a usable kind.
    pub(crate) fn from_pkcs8_der(der: &[u8]) -> Option<Self> {
        let mut input = CBS {
            data: der.as_ptr(),
            len: der.len(),
        };
        // SAFETY: `input` points at `der`, which outlives the call; the result is null or an EVP_PKEY that we own.
        let key = ptr::NonNull::new(unsafe { EVP_parse_private_key(&raw mut input) })?;
        Some(Self { key })
    }

    /// Undoes RSA-OAEP with SHA-256 for the (empty) label. `None` if `sealed` was not made for this key.
    pub(crate) fn decrypt(&self, sealed: &[u8], mgf: Mgf) -> Option<Zeroizing<Vec<u8>>> {
        // SAFETY: the key is alive as long as `self`.
        let size = usize::try_from(unsafe { EVP_PKEY_size(self.key.as_ptr()) }).ok()?;
        let context = Context::new(self)?;
        let mut opened = Zeroizing::new(vec![0; size]);
        let mut length = opened.len();
        // SAFETY: both return a static table.
        let mgf1 = match mgf {
            Mgf::Sha1 => unsafe { EVP_sha1() },
            Mgf::Sha256 => unsafe { EVP_sha256() },
        };
        // SAFETY: the context is initialised for decryption; `opened` has room for `length` bytes, the modulus' size,
        // which is the most that the call writes; `sealed` is valid for its length.
        let done = unsafe {
            EVP_PKEY_decrypt_init(context.0) == 1
                && EVP_PKEY_CTX_set_rsa_padding(context.0, RSA_PKCS1_OAEP_PADDING) == 1
                && EVP_PKEY_CTX_set_rsa_oaep_md(context.0, EVP_sha256()) == 1
                && EVP_PKEY_CTX_set_rsa_mgf1_md(context.0, mgf1) == 1
                && EVP_PKEY_decrypt(
                    context.0,
                    opened.as_mut_ptr(),
                    &raw mut length,
                    sealed.as_ptr(),
                    sealed.len(),
                ) == 1
        };
        done.then(|| {
            opened.truncate(length);
            opened
        })
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        // SAFETY: the key came from EVP_parse_private_key and is freed once. AWS-LC wipes its big numbers.
        unsafe { EVP_PKEY_free(self.key.as_ptr()) }
    }
}

/// One use of a key; freed whichever way `decrypt` ends.
struct Context(*mut EVP_PKEY_CTX);

impl Context {
    fn new(key: &PrivateKey) -> Option<Self> {
        // SAFETY: the key is alive; the context takes a reference of its own.
        let context = unsafe { EVP_PKEY_CTX_new(key.key.as_ptr(), ptr::null_mut()) };
        (!context.is_null()).then_some(Self(context))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context came from EVP_PKEY_CTX_new and is freed once.
        unsafe { EVP_PKEY_CTX_free(self.0) }
    }
}
