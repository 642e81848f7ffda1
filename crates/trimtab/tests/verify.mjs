// An independent verifier of Trimtab's proofs: plain node, no packages, no network, nothing of Trimtab's code.
//
//   node verify.mjs KEY FILE          FILE is a proof (c2sp.org/tlog-proof@v1) or a checkpoint (c2sp.org/tlog-checkpoint)
//   node verify.mjs KEY FILE FOLDER   FILE is a checkpoint, FOLDER the exported log (c2sp.org/tlog-tiles): read all of it
//
// KEY is NAME+HASH+KEY (c2sp.org/signed-note), as `trimtab ledger key` prints it. Prints what is proven and ends with 0;
// says what is wrong and ends with 1.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const fail = (message) => {
  console.error(`not proven: ${message}`);
  process.exit(1);
};
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const leafHash = (bytes) => sha256(Buffer.of(0), bytes);
const nodeHash = (left, right) => sha256(Buffer.of(1), left, right);

/** Standard base64, and only that: what it decodes to must encode to the same text. */
const base64 = (text, what) => {
  const bytes = Buffer.from(text, "base64");
  return bytes.toString("base64") === text ? bytes : fail(`${what} is not base64`);
};
const hashOf = (text, what) => {
  const bytes = base64(text, what);
  return bytes.length === 32 ? bytes : fail(`${what} is not a hash`);
};
const numberOf = (text, what) => (/^(0|[1-9][0-9]*)$/.test(text) ? BigInt(text) : fail(`${what} is not a number`));

const keyOf = (text) => {
  const [name, hash, ...rest] = text.trim().split("+");
  const material = base64(rest.join("+"), "the key");
  if (material.length !== 33 || material[0] !== 1) fail("the key is not an Ed25519 key");
  const id = sha256(`${name}\n`, material).subarray(0, 4);
  if (id.toString("hex") !== hash) fail("the key's hash is not that of the key");
  const der = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), material.subarray(1)]);
  return { name, id, key: createPublicKey({ key: der, format: "der", type: "spki" }) };
};

/** The text of a signed note, if the key signed it. */
const openNote = (note, { name, id, key }) => {
  if (/[\x00-\x09\x0b-\x1f]/.test(note)) fail("the note holds a control character");
  const at = note.lastIndexOf("\n\n");
  if (at < 0 || !note.endsWith("\n")) fail("there is no signed note");
  const text = note.slice(0, at + 1);
  let signed = false;
  for (const line of note.slice(at + 2, -1).split("\n")) {
    const [mark, signer, encoded, ...rest] = line.split(" ");
    if (mark !== "\u2014" || !signer || !encoded || rest.length > 0) fail("a signature line is malformed");
    const bytes = base64(encoded, "a signature");
    if (signer !== name || !bytes.subarray(0, 4).equals(id)) continue;
    if (!verify(null, Buffer.from(text), key, bytes.subarray(4))) fail("the signature is not over this text");
    signed = true;
  }
  return signed ? text : fail("the key did not sign it");
};

const checkpointOf = (note, key) => {
  const lines = openNote(note, key).slice(0, -1).split("\n");
  if (lines.length < 3 || lines.includes("")) fail("the checkpoint needs a name, a size and a root");
  if (lines[0] !== key.name) fail(`the checkpoint is of ${lines[0]}, the key is for ${key.name}`);
  return { origin: lines[0], size: numberOf(lines[1], "the size"), root: hashOf(lines[2], "the root") };
};

/** RFC 9162 section 2.1.3.2: the root that the leaf and the path lead to. */
const rootOf = (leaf, index, size, path) => {
  if (index >= size) fail("the index is not in the log");
  let [node, last, hash] = [index, size - 1n, leaf];
  for (const sibling of path) {
    if (last === 0n) fail("the proof is too long");
    if (node & 1n || node === last) {
      hash = nodeHash(sibling, hash);
      while (!(node & 1n) && node !== 0n) [node, last] = [node >> 1n, last >> 1n];
    } else {
      hash = nodeHash(hash, sibling);
    }
    [node, last] = [node >> 1n, last >> 1n];
  }
  return last === 0n ? hash : fail("the proof is too short");
};

const checkProof = (text, key) => {
  const at = text.indexOf("\n\n");
  const [, extra = "", index = "", ...path] = text.slice(0, Math.max(at, 0)).split("\n");
  if (!extra.startsWith("extra ") || !index.startsWith("index ")) fail("the proof has no record or no index");
  const record = base64(extra.slice(6), "the record");
  const place = numberOf(index.slice(6), "the index");
  const { origin, size, root } = checkpointOf(text.slice(at + 2), key);
  const hashes = path.map((line) => hashOf(line, "a line of the proof"));
  if (!rootOf(leafHash(record), place, size, hashes).equals(root)) fail("the proof leads to another root");
  if (JSON.parse(record).sequence !== Number(place + 1n)) fail("the record says that it has another place");
  console.log(`proven: record ${place + 1n} of ${size} in ${origin}`);
  console.log(record.toString());
};

/** RFC 6962 section 2.1, over hashes that are there already. */
const treeOf = (hashes) => {
  if (hashes.length === 0) return sha256();
  let level = hashes;
  while (level.length > 1) {
    // A hash without a sibling goes up as it is: the same tree as splitting at the largest power of two.
    level = level.flatMap((hash, i) => (i % 2 ? [] : [i + 1 < level.length ? nodeHash(hash, level[i + 1]) : hash]));
  }
  return level[0];
};

const checkLog = ({ origin, size, root }, folder) => {
  const leaves = [];
  for (let tile = 0; leaves.length < Number(size); tile += 1) {
    const width = Math.min(256, Number(size) - leaves.length);
    const digits = String(tile).padStart(Math.ceil(String(tile).length / 3) * 3, "0");
    const name = digits.match(/.../g).map((part, i, all) => (i + 1 < all.length ? `x${part}` : part)).join("/");
    const path = width < 256 ? `${name}.p/${width}` : name;
    const hashes = readFileSync(join(folder, "tile/0", path));
    const entries = readFileSync(join(folder, "tile/entries", path));
    let at = 0;
    for (let i = 0; i < width; i += 1) {
      const end = at + 2 + entries.readUInt16BE(at);
      const leaf = leafHash(entries.subarray(at + 2, end));
      if (end > entries.length || !leaf.equals(hashes.subarray(i * 32, i * 32 + 32))) fail(`entry ${leaves.length} is not in its tile`);
      leaves.push(leaf);
      at = end;
    }
    if (at !== entries.length || hashes.length !== width * 32) fail(`tile ${path} has the wrong length`);
  }
  if (!treeOf(leaves).equals(root)) fail("the entries lead to another root");
  console.log(`proven: all ${size} records of ${origin}`);
};

try {
  const [key, file, folder] = process.argv.slice(2);
  const [verifier, text] = [keyOf(key ?? ""), readFileSync(file, "utf8")];
  if (text.startsWith("c2sp.org/tlog-proof@v1\n")) checkProof(text, verifier);
  else if (folder !== undefined) checkLog(checkpointOf(text, verifier), folder);
  else console.log(`proven: ${Object.values(checkpointOf(text, verifier)).slice(0, 2).join(" had ")} records`);
} catch (error) {
  fail(error.message);
}
