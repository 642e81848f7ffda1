//! Ed25519 keys and the file that keeps one.
//!
//! The file is PKCS#8 in PEM (RFC 8410), so `openssl pkey -in FILE` reads it. It is made with mode 0600 in a folder of mode
//! 0700, under a private name first and then linked to its own, so that of two processes that make it at the same time one
//! wins and both use the winner's. A key that others can read or replace is refused, not repaired: it may be known already.
//! Which keys are trusted is not said here: that is in the ledger, with their public halves.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::{Digest, Problem};
use ed25519_dalek::Signer;

use crate::limits::KEY_FILE_BYTES_MAX;

/// DER of a PKCS#8 version 1 Ed25519 key up to its 32 secret bytes (RFC 8410, section 7).
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// DER of an Ed25519 SubjectPublicKeyInfo up to its 32 public bytes (RFC 8410, section 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Names a key: SHA-256 of its SubjectPublicKeyInfo (DER), in hexadecimal.
pub type KeyId = Digest;

/// Why a key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file or its folder can't be read or written.
    #[error("can't {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: Utf8PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Other users can read or change the key.
    #[error("{path} is open to other users (mode {mode:04o}, {wanted} is needed)")]
    Exposed {
        /// The file or folder.
        path: Utf8PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What is wanted, in words.
        wanted: &'static str,
        /// Whether it is a folder around the key.
        folder: bool,
    },
    /// A key, but none that is recorded as ours.
    #[error("{path} holds key {}, which is not one that the ledger has recorded", id.short())]
    Unrecorded {
        /// The file.
        path: Utf8PathBuf,
        /// The key in it.
        id: KeyId,
    },
    /// Not a key as we write it.
    #[error("{path} is not an Ed25519 key in PKCS#8 PEM")]
    Malformed {
        /// The file; for a public key read from text, `public key`.
        path: Utf8PathBuf,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Randomness(getrandom::Error),
}

impl KeyError {
    /// The problem as a person is told it.
    pub fn problem(&self) -> Problem {
        let hint = match self {
            Self::File { .. } => "check the folder's owner and permissions".to_owned(),
            Self::Exposed { path, folder: true, .. } => format!(
                "others could have replaced the key below it: see with trimtab doctor that it is still ours, and take the \
                 permissions away with chmod go-w {path}"
            ),
            Self::Unrecorded { path, .. } => format!(
                "someone may have put it there: restore our own from a copy, or remove {path} to get a new one; what was signed \
                 before stays valid"
            ),
            Self::Exposed { path, .. } => format!(
                "someone may have copied the key: remove {path} to get a new one, or if you are sure that nobody did, take the \
                 permissions away with chmod go= {path}"
            ),
            Self::Malformed { path } => {
                format!(
                    "restore {path} from a copy, or remove it to get a new key; what was signed before stays valid"
                )
            }
            Self::Randomness(_) => "check that /dev/urandom exists".to_owned(),
        };
        let problem = Problem::new(Code::KeyUnusable, self.to_string()).hint(hint);
        match std::error::Error::source(self) {
            Some(source) => problem.because(source),
            None => problem,
        }
    }
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    key: ed25519_dalek::VerifyingKey,
}

impl PublicKey {
    fn of(key: ed25519_dalek::VerifyingKey) -> Self {
        let der = [&PUBLIC_PREFIX[..], key.as_bytes()].concat();
        Self { id: Digest::of(&der), key }
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// From `-----BEGIN PUBLIC KEY-----`. Weak keys (of small order) are refused.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { path: "public key".into() };
        let der = pem_body(text, "PUBLIC KEY").ok_or_else(malformed)?;
        let bytes = der.strip_prefix(&PUBLIC_PREFIX[..]).ok_or_else(malformed)?;
        Self::from_bytes(bytes.try_into().map_err(|_| malformed())?)
    }

    /// From its 32 bytes (RFC 8032). Weak keys are refused.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { path: "public key".into() };
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| malformed())?;
        if key.is_weak() { Err(malformed()) } else { Ok(Self::of(key)) }
    }

    /// Its 32 bytes (RFC 8032).
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// As `-----BEGIN PUBLIC KEY-----`, which `openssl pkey -pubin` reads.
    pub fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &[&PUBLIC_PREFIX[..], self.key.as_bytes()].concat())
    }

    /// Whether the signature is this key's over exactly these bytes (strict: RFC 8032, no small-order points, no
    /// malleable forms).
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.id.short())
    }
}

/// A key that signs. Its secret is overwritten in memory when it is dropped, and has no way out but its file.
pub struct SigningKey {
    public: PublicKey,
    key: ed25519_dalek::SigningKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.public.id.short())
    }
}

impl SigningKey {
    /// From 32 secret bytes, which must come from a good source of randomness.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        let key = ed25519_dalek::SigningKey::from_bytes(secret);
        Self { public: PublicKey::of(key.verifying_key()), key }
    }

    /// A new key, in no file yet.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0_u8; 32];
        getrandom::fill(&mut secret).map_err(KeyError::Randomness)?;
        Ok(Self::from_secret(&secret))
    }

    /// Keeps the key in a file, made with its folder. Where there is one already, that one stays: it must be opened to know
    /// which key it is.
    pub fn store(&self, path: &Utf8Path) -> Result<(), KeyError> {
        let failed = |what| move |source| KeyError::File { what, path: path.to_owned(), source };
        let folder = folder_of(path);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make the folder of"))?;
        let mut tail = [0_u8; 8];
        getrandom::fill(&mut tail).map_err(KeyError::Randomness)?;
        let text = pem("PRIVATE KEY", &[&PRIVATE_PREFIX[..], self.key.as_bytes()].concat());
        let draft = folder.join(format!(".key-{}", hex::encode(tail)));
        let written = write_private(&draft, &text).and_then(|()| match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        let removed = std::fs::remove_file(&draft);
        written.map_err(failed("write"))?;
        removed.map_err(failed("clean up beside"))?;
        // The name is durable once the folder is, and the folder's once the one above it is.
        let above = folder.parent().filter(|above| !above.as_str().is_empty());
        [Some(folder), above].into_iter().flatten().try_for_each(|folder| {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("sync the folder of"))
        })
    }

    /// The key in the file; `None` when there is no file. Refused when others may read the file, or replace it in its folder or
    /// in one of the folders around that, up to and including `top`.
    pub fn open(path: &Utf8Path, top: &Utf8Path) -> Result<Option<Self>, KeyError> {
        let failed = |source| KeyError::File { what: "read", path: path.to_owned(), source };
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(failed)?,
        };
        // The opened file's own permissions, so that it can't be swapped between the look and the reading.
        refuse_exposed(path, &file.metadata().map_err(failed)?, 0o077, "0600")?;
        for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(top)) {
            refuse_exposed(folder, &std::fs::metadata(folder).map_err(failed)?, 0o022, "0700")?;
        }
        let mut text = String::new();
        let malformed = || KeyError::Malformed { path: path.to_owned() };
        file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => malformed(),
            _ => failed(error),
        })?;
        let der = pem_body(&text, "PRIVATE KEY").ok_or_else(malformed)?;
        let secret = der.strip_prefix(&PRIVATE_PREFIX[..]).ok_or_else(malformed)?;
        let secret: &[u8; 32] = secret.try_into().map_err(|_| malformed())?;
        Ok(Some(Self::from_secret(secret)))
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Its name.
    pub fn id(&self) -> &KeyId {
        &self.public.id
    }

    /// Signs the bytes (RFC 8032, deterministic).
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

fn folder_of(path: &Utf8Path) -> &Utf8Path {
    path.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

fn refuse_exposed(
    path: &Utf8Path,
    metadata: &std::fs::Metadata,
    forbidden: u32,
    wanted: &'static str,
) -> Result<(), KeyError> {
    let mode = metadata.mode() & 0o7777;
    // A sticky folder (such as /tmp) lets others add files, but not replace ours.
    let sticky_folder = metadata.is_dir() && mode & 0o1000 != 0;
    if mode & forbidden != 0 && !sticky_folder {
        let (path, mode, folder) = (path.to_owned(), mode & 0o777, metadata.is_dir());
        return Err(KeyError::Exposed { path, mode, wanted, folder });
    }
    Ok(())
}

fn write_private(path: &Utf8Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// The body of the one block with the label; all of it must be base64.
fn pem_body(text: &str, label: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let body: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(body).ok()
}
