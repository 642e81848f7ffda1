//! Signing and verifying against each other, against the specifications' examples, and against tampering.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Barrier};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use camino::{Utf8Path, Utf8PathBuf};
use delivery::code::Code;
use delivery::{CommitId, Digest, RunId, ServiceName, TaskName, Timestamp};
use proptest::prelude::*;

use crate::dsse::{EnvelopeError, pae};
use crate::statement::{BUILDER_LOCAL, PAYLOAD_TYPE, Statement};
use crate::{Build, Envelope, Expected, KeyError, PublicKey, SigningKey, VerifyError, verify};

fn key(n: u8) -> SigningKey {
    SigningKey::from_secret(&[n; 32])
}

fn build() -> Build {
    Build {
        digest: Digest::of(b"artifact"),
        service: ServiceName::new("web").unwrap(),
        repository: "https://example.org/shop.git".into(),
        branch: Some("main".into()),
        commit: CommitId::new("0123456789012345678901234567890123456789").unwrap(),
        tasks: vec![TaskName::new("build").unwrap(), TaskName::new("test").unwrap()],
        run: RunId::new("run-00000001").unwrap(),
        started_at: Timestamp::from_second(1_700_000_000).unwrap(),
        finished_at: Timestamp::from_second(1_700_000_060).unwrap(),
    }
}

fn expected() -> Expected {
    let build = build();
    Expected { digest: build.digest, commit: build.commit, service: build.service }
}

fn sealed() -> Vec<u8> {
    Statement::local(&build()).seal(&key(1)).to_bytes()
}

/// Verifies with key 1 trusted.
fn judge(bytes: &[u8]) -> Result<Statement, VerifyError> {
    verify(bytes, &[key(1).public().clone()], &expected())
}

/// Signs a payload that differs from what we write.
fn judge_payload(payload: &str) -> Result<Statement, VerifyError> {
    judge(&Envelope::seal(PAYLOAD_TYPE, payload.as_bytes(), &key(1)).to_bytes())
}

#[test]
fn pae_is_the_specifications() {
    assert_eq!(
        pae("http://example.com/HelloWorld", b"hello world"),
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    );
    assert_eq!(pae("", b""), b"DSSEv1 0  0 ");
    assert_eq!(pae("é", b"x"), "DSSEv1 2 é 1 x".as_bytes(), "lengths are in bytes");
}

/// RFC 8032, section 7.1, tests 1 and 2.
#[test]
fn signatures_are_the_rfcs() {
    let vectors = [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            &b""[..],
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            &b"\x72"[..],
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ];
    for (secret, message, signature) in vectors {
        let secret: [u8; 32] = hex::decode(secret).unwrap().try_into().unwrap();
        let key = SigningKey::from_secret(&secret);
        assert_eq!(hex::encode(key.sign(message)), signature);
        assert!(key.public().verifies(message, &key.sign(message)));
        assert!(!key.public().verifies(b"other", &key.sign(message)));
    }
}

/// The public key of RFC 8410, section 10.1.
#[test]
fn public_keys_are_read_and_written_as_pem() {
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
    let key = PublicKey::from_pem(pem).unwrap();
    assert_eq!(key.to_pem(), pem);
    for broken in ["", "x", &pem.replace("MCow", "MCox"), &pem.replace("PUBLIC", "PRIVATE"), &pem[..80]] {
        assert!(PublicKey::from_pem(broken).is_err(), "{broken}");
    }
}

#[test]
fn what_was_signed_is_verified() {
    let statement = judge(&sealed()).unwrap();
    assert_eq!(statement, Statement::local(&build()));
    let json = serde_json::to_value(&statement).unwrap();
    assert_eq!(json["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(json["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(json["subject"][0]["digest"]["sha256"], Digest::of(b"artifact").as_str());
    let definition = &json["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["ref"], "refs/heads/main");
    assert_eq!(
        definition["resolvedDependencies"][0]["uri"],
        "git+https://example.org/shop.git@refs/heads/main"
    );
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["gitCommit"], build().commit.as_str());
    assert_eq!(json["predicate"]["runDetails"]["builder"]["id"], BUILDER_LOCAL);
    assert_eq!(json["predicate"]["runDetails"]["metadata"]["startedOn"], "2023-11-14T22:13:20Z");
}

/// Every bit of the signature counts, and every bit of a payload. The payload is a short one: a verification takes 15 ms in
/// a debug build.
#[test]
fn every_flipped_bit_is_refused() {
    let trusted = [key(1).public().clone()];
    let envelope = Envelope::seal(PAYLOAD_TYPE, br#"{"subject":"web"}"#, &key(1));
    assert!(envelope.open(&trusted).is_ok());
    let signature = STANDARD.decode(&envelope.signatures[0].sig).unwrap();
    for bit in 0..signature.len() * 8 {
        let mut flipped = signature.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let mut envelope = envelope.clone();
        envelope.signatures[0].sig = STANDARD.encode(flipped);
        assert_eq!(envelope.open(&trusted), Err(EnvelopeError::SignatureInvalid), "bit {bit}");
    }
    let payload = STANDARD.decode(&envelope.payload).unwrap();
    for bit in 0..payload.len() * 8 {
        let mut flipped = payload.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let payload = STANDARD.encode(flipped);
        let envelope = Envelope { payload, ..envelope.clone() };
        assert_eq!(envelope.open(&trusted), Err(EnvelopeError::SignatureInvalid), "bit {bit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whatever is done to the envelope's bytes, it never says anything that was not signed.
    #[test]
    fn a_damaged_envelope_says_nothing_else(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = sealed();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        if let Ok(statement) = judge(&bytes) {
            prop_assert_eq!(statement, Statement::local(&build()));
        }
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(judge(&bytes).is_err());
    }
}

#[test]
fn the_expectation_is_compared() {
    let trusted = [key(1).public().clone()];
    let swapped = Expected { digest: Digest::of(b"swapped"), ..expected() };
    let error = verify(&sealed(), &trusted, &swapped).unwrap_err();
    assert_eq!(error.problem().code, Code::ArtifactChanged);
    let commit = CommitId::new("1123456789012345678901234567890123456789").unwrap();
    let error = verify(&sealed(), &trusted, &Expected { commit, ..expected() }).unwrap_err();
    assert!(matches!(error, VerifyError::Other { what: "commit", .. }));
    let service = ServiceName::new("api").unwrap();
    let error = verify(&sealed(), &trusted, &Expected { service, ..expected() }).unwrap_err();
    assert!(matches!(error, VerifyError::Other { what: "service", .. }));
    assert_eq!(error.problem().code, Code::SignatureInvalid);
}

#[test]
fn only_trusted_keys_count() {
    let error = verify(&sealed(), &[key(2).public().clone()], &expected()).unwrap_err();
    assert!(matches!(error, VerifyError::Envelope(EnvelopeError::KeyUnknown { .. })));
    assert!(verify(&sealed(), &[], &expected()).is_err());
    // A stranger's signature that claims a trusted key's name.
    let mut envelope = Statement::local(&build()).seal(&key(2));
    envelope.signatures[0].keyid = key(1).id().to_string();
    assert!(matches!(
        judge(&envelope.to_bytes()).unwrap_err(),
        VerifyError::Envelope(EnvelopeError::SignatureInvalid)
    ));
}

/// The protocol's rules: a key id is optional, both base64 alphabets are read, a stranger's further signature does no harm.
#[test]
fn the_protocols_liberties_are_granted() {
    let mut envelope = Statement::local(&build()).seal(&key(1));
    let stranger = Statement::local(&build()).seal(&key(2)).signatures.remove(0);
    envelope.signatures.insert(0, stranger);
    envelope.signatures[1].keyid.clear();
    let sig = STANDARD.decode(&envelope.signatures[1].sig).unwrap();
    envelope.signatures[1].sig = URL_SAFE.encode(sig);
    envelope.payload = URL_SAFE.encode(STANDARD.decode(&envelope.payload).unwrap());
    assert!(judge(&envelope.to_bytes()).is_ok());
    let text = String::from_utf8(envelope.to_bytes()).unwrap();
    assert!(judge(text.replacen('{', "{\"extra\":1,", 1).as_bytes()).is_ok());
    assert_eq!(envelope.open(&[key(1).public().clone(), key(2).public().clone()]).unwrap().signers.len(), 2);
}

#[test]
fn a_signature_of_another_kind_does_no_harm_unless_it_claims_to_be_ours() {
    let mut envelope = Statement::local(&build()).seal(&key(1));
    let mut other = envelope.signatures[0].clone();
    other.sig = STANDARD.encode([7; 70]);
    for keyid in ["", "ecdsa"] {
        other.keyid = keyid.to_owned();
        envelope.signatures.truncate(1);
        envelope.signatures.insert(0, other.clone());
        assert!(judge(&envelope.to_bytes()).is_ok(), "{keyid}");
        envelope.signatures.reverse();
    }
    other.keyid = key(1).id().to_string();
    envelope.signatures.push(other);
    assert!(matches!(
        judge(&envelope.to_bytes()).unwrap_err(),
        VerifyError::Envelope(EnvelopeError::SignatureInvalid)
    ));
}

#[test]
fn a_repository_without_an_address_has_a_name() {
    let statement = Statement::local(&Build { repository: "shop".into(), ..build() });
    let source = &statement.predicate.build_definition.resolved_dependencies[0];
    assert_eq!((source.uri.as_deref(), source.name.as_deref()), (None, Some("shop")));
    assert!(judge(&statement.seal(&key(1)).to_bytes()).is_ok());
    let token = Build { repository: "https://example.org/shop.git?token=secret".into(), ..build() };
    let json = serde_json::to_string(&Statement::local(&token)).unwrap();
    assert!(!json.contains("secret"), "{json}");
}

#[test]
fn the_envelope_is_read_strictly() {
    let good = String::from_utf8(sealed()).unwrap();
    let signature_at = good.find("\"signatures\"").unwrap();
    let other_type = Envelope::seal("text/plain", b"{}", &key(1));
    let many = Envelope { signatures: vec![other_type.signatures[0].clone(); 17], ..other_type.clone() };
    let none = Envelope { signatures: vec![], ..other_type.clone() };
    let cases = [
        format!("{good}x"),
        format!("{good}{good}"),
        good.replacen('{', "{\"payload\":\"\",", 1),
        good[..signature_at].to_owned(),
        good.replace("\"payload\":\"", "\"payload\":\" "),
        String::from_utf8(other_type.to_bytes()).unwrap(),
        String::from_utf8(many.to_bytes()).unwrap(),
        String::from_utf8(none.to_bytes()).unwrap(),
        format!("{good}{}", " ".repeat(crate::limits::ENVELOPE_BYTES_MAX)),
        String::new(),
        "[]".to_owned(),
        "null".to_owned(),
    ];
    for case in cases {
        let error = judge(case.as_bytes()).unwrap_err();
        assert_eq!(error.problem().code, Code::SignatureInvalid, "{error}");
    }
    assert!(judge(format!("{good}\n").as_bytes()).is_ok(), "white space after it is not data");
}

#[test]
fn a_signed_payload_is_read_strictly_too() {
    let good = serde_json::to_string(&Statement::local(&build())).unwrap();
    assert!(judge_payload(&good).is_ok());
    let cases = [
        good.replacen("\"subject\":[", "\"subject\":[],\"subject\":[", 1),
        good.replacen("\"sha256\":", "\"sha512\":\"\",\"sha256\":", 1),
        good.replacen("\"tasks\":", "\"sneaky\":true,\"tasks\":", 1),
        good.replacen("Statement/v1", "Statement/v0.1", 1),
        good.replacen("slsa.dev/provenance/v1", "slsa.dev/provenance/v0.2", 1),
        good.replacen("build/tasks@v1", "build/tasks@v2", 1),
        good.replacen("builder/local@v1", "builder/hosted@v1", 1),
        good.replacen("\"name\":\"web\"", "\"name\":\"api\"", 1),
        good.replacen("\"gitCommit\":\"0", "\"gitCommit\":\"1", 1),
        good.replacen("git+https://example.org/shop", "git+https://example.org/other", 1),
        good.replacen(
            "\"repository\":\"https://example.org/shop",
            "\"repository\":\"https://example.org/other",
            1,
        ),
        good.replacen("\"ref\":\"refs/heads/main", "\"ref\":\"refs/heads/other", 1),
        format!("{good}{good}"),
        String::new(),
    ];
    for case in cases {
        assert_ne!(case, good);
        assert!(judge_payload(&case).is_err(), "{case}");
    }
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, tail: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.0.path()).unwrap().join(tail)
    }
}

fn chmod(path: &Utf8Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Utf8Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// As `trimtab` does it, with the folder around the key's folder as the top.
fn open_or_create(path: &Utf8Path) -> Result<SigningKey, KeyError> {
    let top = path.ancestors().nth(2).unwrap();
    if let Some(key) = SigningKey::open(path, top)? {
        return Ok(key);
    }
    SigningKey::generate()?.store(path)?;
    Ok(SigningKey::open(path, top)?.unwrap())
}

#[test]
fn a_key_is_made_once_and_kept_private() {
    let folder = Folder::new();
    let path = folder.path("keys/signing.pem");
    let made = open_or_create(&path).unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(open_or_create(&path).unwrap().id(), made.id());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft stays behind");
    let secret = std::fs::read_to_string(&path).unwrap();
    let shown = format!("{made:?}");
    assert!(secret.starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI"), "PKCS#8 of Ed25519");
    assert_eq!(shown, format!("SigningKey({})", made.id().short()));
    assert_ne!(open_or_create(&folder.path("keys/other.pem")).unwrap().id(), made.id());
}

#[test]
fn a_key_open_to_others_is_refused() {
    let folder = Folder::new();
    let path = folder.path("keys/signing.pem");
    open_or_create(&path).unwrap();
    for exposed in [0o644, 0o640, 0o602] {
        chmod(&path, exposed);
        let error = open_or_create(&path).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { .. }));
        assert_eq!(error.problem().code, Code::KeyUnusable);
        assert!(error.to_string().contains(&format!("{exposed:04o}")), "{error}");
    }
    chmod(&path, 0o400);
    chmod(path.parent().unwrap(), 0o777);
    assert!(matches!(open_or_create(&path), Err(KeyError::Exposed { .. })));
    chmod(path.parent().unwrap(), 0o755);
    assert!(open_or_create(&path).is_ok());
    chmod(&folder.path(""), 0o770);
    let error = open_or_create(&path).unwrap_err();
    assert!(matches!(error, KeyError::Exposed { folder: true, .. }));
    assert!(error.problem().hint.unwrap().contains("chmod go-w"));
}

#[test]
fn a_damaged_key_is_refused_and_never_replaced() {
    let folder = Folder::new();
    let path = folder.path("keys/signing.pem");
    open_or_create(&path).unwrap();
    for damaged in [&b""[..], b"\xff\xfe", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    {
        std::fs::write(&path, damaged).unwrap();
        assert!(matches!(open_or_create(&path), Err(KeyError::Malformed { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(open_or_create(&path).is_err());
}

#[test]
fn of_many_that_make_the_key_at_once_all_use_one() {
    let folder = Folder::new();
    for round in 0..20 {
        let path = folder.path(&format!("{round}/signing.pem"));
        let barrier = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (path, barrier) = (path.clone(), barrier.clone());
                std::thread::spawn(move || {
                    barrier.wait();
                    open_or_create(&path).map(|key| key.id().clone())
                })
            })
            .collect();
        let mut ids: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
}
