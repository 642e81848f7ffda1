//! Goldens of RFC 6962, the public vectors, and laws against a tree built by the definition.

use proptest::prelude::*;

use super::*;

/// The eight leaves that the Certificate Transparency implementations share as test data.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
/// The roots over the first 0, 1, .. 8 of them.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn golden_leaves() -> Vec<Hash> {
    LEAVES.iter().map(|leaf| leaf_hash(&hex::decode(leaf).unwrap())).collect()
}

#[test]
fn roots_are_the_published_ones() {
    let leaves = golden_leaves();
    let mut frontier = Frontier::default();
    for (size, expected) in ROOTS.iter().enumerate() {
        assert_eq!(hex::encode(root(&leaves[..size])), *expected);
        assert_eq!(hex::encode(frontier.root()), *expected);
        if let Some(leaf) = leaves.get(size) {
            frontier.push(*leaf);
        }
    }
}

#[test]
#[expect(clippy::many_single_char_names, reason = "the RFC's own names for its nodes")]
fn proofs_are_those_of_the_rfc() {
    // RFC 6962 section 2.1.3, with the shared leaves: the path of d5 in seven leaves and the proof from 3 to 7.
    let leaves = &golden_leaves()[..7];
    let (c, d, g, j) = (&leaves[2], &leaves[3], node_hash(&leaves[0], &leaves[1]), leaves[6]);
    let k = node_hash(&g, &node_hash(c, d));
    assert_eq!(prove_inclusion(leaves, 5).unwrap(), vec![leaves[4], j, k]);
    let l = node_hash(&node_hash(&leaves[4], &leaves[5]), &j);
    assert_eq!(prove_consistency(leaves, 3).unwrap(), vec![*c, *d, g, l]);
}

/// MTH of RFC 6962, straight from its text.
fn by_definition(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            node_hash(&by_definition(left), &by_definition(right))
        }
    }
}

fn numbered(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&number.to_le_bytes())).collect()
}

#[test]
fn every_leaf_is_included_and_every_prefix_consistent() {
    let leaves = numbered(40);
    let roots: Vec<Hash> = (0..=40).map(|size| by_definition(&leaves[..size])).collect();
    for size in 1..=40_u64 {
        let whole = &leaves[..size as usize];
        let newer = &roots[size as usize];
        assert_eq!(root(whole), *newer);
        for index in 0..size {
            let proof = prove_inclusion(whole, index).unwrap();
            for other in 0..=size {
                let expected = other == index;
                let holds = verify_inclusion(&leaves[index as usize], other, size, &proof, newer).is_ok();
                assert_eq!(holds, expected, "leaf {index} claimed at {other} of {size}");
            }
        }
        for from in 1..=size {
            let proof = prove_consistency(whole, from).unwrap();
            for other in 0..=size + 1 {
                let older = roots.get(other as usize).copied().unwrap_or_default();
                let holds = verify_consistency(other, size, &older, newer, &proof).is_ok();
                assert_eq!(holds, other == from, "proof from {from} used for {other} of {size}");
            }
        }
    }
}

#[test]
fn impossible_positions_have_no_proof() {
    let leaves = numbered(3);
    assert_eq!(prove_inclusion(&leaves, 3), None);
    assert_eq!(prove_inclusion(&[], 0), None);
    assert_eq!(prove_consistency(&leaves, 0), None);
    assert_eq!(prove_consistency(&leaves, 4), None);
    assert_eq!(Frontier::from_parts(3, vec![leaves[0]]), None);
    assert_eq!(inclusion_ranges(u64::MAX - 1, u64::MAX).map(|ranges| ranges.len()), Some(63));
}

proptest! {
    #[test]
    fn a_frontier_taken_up_again_goes_on_as_before(size in 0_u64..1_200, more in 0_u64..100) {
        let leaves = numbered(size + more);
        let (first, rest) = leaves.split_at(size as usize);
        let stored: Frontier = first.iter().copied().collect();
        let mut resumed = Frontier::from_parts(stored.size(), stored.peaks().to_vec()).unwrap();
        rest.iter().for_each(|leaf| resumed.push(*leaf));
        prop_assert_eq!(resumed.root(), by_definition(&leaves));
        for (range, peak) in resumed.peak_ranges().into_iter().zip(resumed.peaks()) {
            prop_assert_eq!(by_definition(&leaves[range.start as usize..range.end as usize]), *peak);
        }
    }

    #[test]
    fn a_changed_proof_never_holds(
        size in 2_u64..800, at in any::<prop::sample::Index>(), spot in any::<prop::sample::Index>(), bit in 0_u8..8,
    ) {
        let leaves = numbered(size);
        let newer = root(&leaves);
        let index = at.index(size as usize) as u64;
        let mut proof = prove_inclusion(&leaves, index).unwrap();
        prop_assert!(verify_inclusion(&leaves[index as usize], index, size, &proof, &newer).is_ok());
        let flipped = spot.index(proof.len() * 32);
        proof[flipped / 32][flipped % 32] ^= 1 << bit;
        prop_assert!(verify_inclusion(&leaves[index as usize], index, size, &proof, &newer).is_err());

        let from = index + 1;
        let older = root(&leaves[..from as usize]);
        let mut proof = prove_consistency(&leaves, from).unwrap();
        prop_assert!(verify_consistency(from, size, &older, &newer, &proof).is_ok());
        if !proof.is_empty() {
            let flipped = spot.index(proof.len() * 32);
            proof[flipped / 32][flipped % 32] ^= 1 << bit;
            prop_assert!(verify_consistency(from, size, &older, &newer, &proof).is_err());
        }
        proof.push(newer);
        prop_assert!(verify_consistency(from, size, &older, &newer, &proof).is_err());
    }

    #[test]
    fn nonsense_is_refused_without_a_panic(
        from in any::<u64>(), to in any::<u64>(), proof in prop::collection::vec(any::<Hash>(), 0..70), root in any::<Hash>(),
    ) {
        prop_assert!(verify_inclusion(&root, from, to, &proof, &root).is_err() || (proof.is_empty() && to == 1));
        prop_assert!(verify_consistency(from, to, &root, &root, &proof).is_err() || (proof.is_empty() && from == to));
    }
}

/// Standard base 64, as the vectors write their hashes.
fn base64(text: &str) -> Vec<u8> {
    let mut bits = (0_u32, 0);
    let mut bytes = Vec::new();
    for c in text.bytes().filter(|c| *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = (bits.0 << 6 | u32::from(value), bits.1 + 6);
        if bits.1 >= 8 {
            bits.1 -= 8;
            bytes.push((bits.0 >> bits.1) as u8);
        }
    }
    bytes
}

/// A vector's hash; `None` where the vector gives something that is no hash, which is never acceptable.
fn hash(value: &serde_json::Value) -> Option<Hash> {
    base64(value.as_str().unwrap_or_default()).try_into().ok()
}

fn run_vector(vector: &serde_json::Value) -> Option<Result<(), ProofError>> {
    let none = Vec::new();
    let proof: Option<Vec<Hash>> = vector["proof"].as_array().unwrap_or(&none).iter().map(hash).collect();
    let number = |key: &str| vector[key].as_u64().unwrap();
    if vector.get("leafIdx").is_some() {
        let (index, size) = (number("leafIdx"), number("treeSize"));
        Some(verify_inclusion(&hash(&vector["leafHash"])?, index, size, &proof?, &hash(&vector["root"])?))
    } else {
        // Some vectors give words for roots that are only compared: a hash of the word stands for it.
        let word = |key: &str| {
            hash(&vector[key]).unwrap_or_else(|| leaf_hash(&base64(vector[key].as_str().unwrap())))
        };
        let (older, newer) = (word("root1"), word("root2"));
        Some(verify_consistency(number("size1"), number("size2"), &older, &newer, &proof?))
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the vectors are not part of the repository")]
fn public_vectors_hold() {
    let Ok(data) = std::env::var("TRIMTAB_DATA") else {
        eprintln!("NOT RUN: the 196 public Merkle vectors, because TRIMTAB_DATA is not set");
        return;
    };
    let mut count = 0;
    let mut pending = ["inclusion", "consistency"]
        .map(|kind| std::path::Path::new(&data).join("merkle").join(kind))
        .to_vec();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let vector: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let holds = run_vector(&vector).is_some_and(|verdict| verdict.is_ok());
        let wanted = !vector["wantErr"].as_bool().unwrap_or(false);
        assert_eq!(holds, wanted, "{}: {}", path.display(), vector["desc"]);
        count += 1;
    }
    assert_eq!(count, 196);
    eprintln!("{count} of 196 public Merkle vectors hold");
}
