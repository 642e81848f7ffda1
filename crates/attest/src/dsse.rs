//! The Dead Simple Signing Envelope 1.0 (github.com/secure-systems-lab/dsse): what is signed, and how it travels.
//!
//! As the protocol asks: both base64 alphabets are read; a key id is a hint that narrows the search and decides nothing; unknown
//! fields of the envelope are ignored, because the signature covers only payload and type. Nothing of the payload is looked
//! at before a signature over it has verified.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use crate::key::{KeyId, PublicKey, SigningKey};
use crate::limits::{ENVELOPE_BYTES_MAX, SIGNATURES_MAX};

/// The pre-authentication encoding: the bytes that a signature covers. Lengths are in bytes, in decimal.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// An envelope as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Base64 of the payload.
    pub payload: String,
    /// Media type of the payload; signed together with it.
    #[serde(rename = "payloadType")]
    pub payload_type: String,
    /// Who vouches for it.
    pub signatures: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The key's id; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub keyid: String,
    /// Base64 of the signature.
    pub sig: String,
}

/// Why an envelope was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// More than [`ENVELOPE_BYTES_MAX`].
    #[error("the envelope has {bytes} bytes, {ENVELOPE_BYTES_MAX} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not one JSON object with the fields of an envelope, each once.
    #[error("the envelope is not valid: {detail}")]
    Malformed {
        /// What the parser said.
        detail: String,
    },
    /// No signature names a trusted key, and none without a name is by one.
    #[error("no trusted key signed it (signed by: {signers})")]
    KeyUnknown {
        /// The key ids that the envelope claims.
        signers: String,
    },
    /// A signature that names a trusted key is not that key's.
    #[error("the signature does not match what it signs")]
    SignatureInvalid,
}

/// What an opened envelope held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// The payload.
    pub payload: Vec<u8>,
    /// Its media type.
    pub payload_type: String,
    /// The trusted keys that signed it; never empty.
    pub signers: BTreeSet<KeyId>,
}

impl Envelope {
    /// Signs a payload.
    pub fn seal(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let sig = STANDARD.encode(key.sign(&pae(payload_type, payload)));
        Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature { keyid: key.id().to_string(), sig }],
        }
    }

    /// As compact JSON: the bytes that are stored and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Three strings and a list of strings: there is nothing in it that JSON can't express.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an envelope without trusting it: size, then JSON (nothing after it, no field twice), then the number of signatures.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLarge { bytes: bytes.len() });
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        match envelope.signatures.len() {
            0 => Err(malformed("it has no signature")),
            1..=SIGNATURES_MAX => Ok(envelope),
            more => Err(malformed(&format!("it has {more} signatures, {SIGNATURES_MAX} are allowed"))),
        }
    }

    /// Opens the envelope if a trusted key signed it. Every signature is looked at in every case; a signature that names a
    /// trusted key and is not by it refuses the whole envelope, whoever else signed. One that can't be ours, because another
    /// algorithm made it, is a stranger's and does no harm.
    pub fn open(&self, trusted: &[PublicKey]) -> Result<Opened, EnvelopeError> {
        let payload = decode(&self.payload).ok_or_else(|| malformed("the payload is not base64"))?;
        let signed = pae(&self.payload_type, &payload);
        let mut signers = BTreeSet::new();
        let mut forged = false;
        for signature in &self.signatures {
            let bytes = decode(&signature.sig).ok_or_else(|| malformed("a signature is not base64"))?;
            let bytes: Option<[u8; 64]> = bytes.try_into().ok();
            let named = |key: &&PublicKey| signature.keyid.is_empty() || signature.keyid == key.id().as_str();
            for key in trusted.iter().filter(named) {
                if bytes.is_some_and(|bytes| key.verifies(&signed, &bytes)) {
                    signers.insert(key.id().clone());
                } else if !signature.keyid.is_empty() {
                    forged = true;
                }
            }
        }
        if forged {
            return Err(EnvelopeError::SignatureInvalid);
        }
        if signers.is_empty() {
            let claimed: Vec<String> = self.signatures.iter().map(|s| clip(&s.keyid)).collect();
            return Err(EnvelopeError::KeyUnknown { signers: claimed.join(", ") });
        }
        Ok(Opened { payload, payload_type: self.payload_type.clone(), signers })
    }
}

/// Either alphabet, padded, without stray bits at the end.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

fn malformed(detail: &str) -> EnvelopeError {
    EnvelopeError::Malformed { detail: detail.to_owned() }
}

/// The start of an id, safe to print.
fn clip(keyid: &str) -> String {
    if keyid.is_empty() {
        return "unnamed".to_owned();
    }
    keyid.chars().filter(|c| !c.is_control()).take(12).collect()
}
