//! Whatever an application puts into an envelope: an error, or a text within the limit.
//!
//! The first byte chooses. Even: the bytes are a Snappy block in an envelope that opens. Odd: they are the encrypted data
//! and, of the length that the second byte gives, the wrapped key.

#![no_main]

use std::sync::LazyLock;

use aes::Aes128;
use bytes::Bytes;
use ecb::cipher::block_padding::Pkcs7;
use ecb::cipher::{BlockModeEncrypt, KeyInit};
use libfuzzer_sys::fuzz_target;
use prometheus_rsocket_wire::envelope::{plaintext, version1};
use prometheus_rsocket_wire::key::KeyPair;
use rsa::pkcs8::DecodePublicKey;
use rsa::{Oaep, RsaPublicKey};
use sha1::Sha1;
use sha2::Sha256;

const MAX_TEXT: usize = 1 << 20;

static KEY: LazyLock<KeyPair> = LazyLock::new(|| {
    let pem = include_str!("../../tests/vectors/1-small/private.pem");
    KeyPair::from_pkcs8_pem(pem).expect("a recorded key")
});

const SECRET: [u8; 16] = [7; 16];

/// The secret, wrapped as a client does it.
static WRAPPED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let public = RsaPublicKey::from_public_key_der(&KEY.spki_der()).expect("a public key");
    let padding = Oaep::<Sha256, Sha1>::new_with_mgf_hash();
    public
        .encrypt(&mut rand::rng(), padding, &SECRET)
        .expect("a wrapped secret")
});

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else {
        return;
    };
    let opened = if choice % 2 == 0 {
        let data = ecb::Encryptor::<Aes128>::new(&SECRET.into()).encrypt_padded_vec::<Pkcs7>(rest);
        version1::open(&WRAPPED, data.into(), [&*KEY], MAX_TEXT)
    } else {
        let length = rest
            .first()
            .map_or(0, |length| usize::from(*length))
            .min(rest.len());
        let (metadata, data) = rest.split_at(length);
        let _ = plaintext::open(metadata, Bytes::copy_from_slice(data), MAX_TEXT);
        version1::open(metadata, Bytes::copy_from_slice(data), [&*KEY], MAX_TEXT)
    };
    if let Ok(text) = opened {
        assert!(text.len() <= MAX_TEXT);
    }
});
