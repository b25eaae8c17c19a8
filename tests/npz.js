// Reads files of NumPy's npz kind: a zip archive of arrays. For tests under Node.
import { readFileSync } from "node:fs";
import { inflateRawSync } from "node:zlib";

const KINDS = { "|i1": Int8Array, "|u1": Uint8Array, "<i4": Int32Array, "<i8": BigInt64Array, "<f4": Float32Array, "<f8": Float64Array };

/** An array from the bytes of an npy file: {shape, values}. */
function readArray(bytes) {
  const length = bytes[6] === 1 ? bytes.readUInt16LE(8) : bytes.readUInt32LE(8);
  const start = bytes[6] === 1 ? 10 : 12;
  const header = bytes.toString("latin1", start, start + length);
  const kind = /'descr': '([^']+)'/.exec(header)[1];
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].split(",").filter((part) => part.trim()).map(Number);
  if (!KINDS[kind] || !header.includes("'fortran_order': False")) throw new Error(`cannot read ${header}`);
  const data = bytes.subarray(start + length);
  return { shape, values: new KINDS[kind](Uint8Array.from(data).buffer) };
}

/** The arrays of an npz file by name, in the order in which they were written. */
export function readArchive(url) {
  const bytes = readFileSync(url);
  const arrays = {};
  const end = bytes.lastIndexOf(Buffer.from("PK\x05\x06", "latin1"));
  let at = bytes.readUInt32LE(end + 16); // the central directory
  for (let entry = bytes.readUInt16LE(end + 10); entry > 0; entry--) {
    const [method, packed, nameLength, extra, comment, local] = [
      bytes.readUInt16LE(at + 10), bytes.readUInt32LE(at + 20), bytes.readUInt16LE(at + 28), bytes.readUInt16LE(at + 30), bytes.readUInt16LE(at + 32),
      bytes.readUInt32LE(at + 42),
    ];
    const name = bytes.toString("utf8", at + 46, at + 46 + nameLength);
    const start = local + 30 + bytes.readUInt16LE(local + 26) + bytes.readUInt16LE(local + 28);
    const data = bytes.subarray(start, start + packed);
    arrays[name.replace(/\.npy$/, "")] = readArray(method ? inflateRawSync(data) : data);
    at += 46 + nameLength + extra + comment;
  }
  return arrays;
}

const results = (name) => readArchive(new URL(`../results/networks/${name}.npz`, import.meta.url));

/** Stored networks as a widget gets them. */
export function readNetworks(name) {
  const { codes, scales, coefficients, ...rest } = results(name);
  const tensors = scales.shape[1];
  return {
    codes: new DataView(codes.values.buffer),
    scales: Array.from({ length: scales.shape[0] }, (_, k) => Array.from(scales.values.subarray(k * tensors, (k + 1) * tensors))),
    shapes: Object.values(rest).map(({ values }) => Array.from(values, Number)),
    coefficients: Array.from(coefficients.values),
  };
}

/** Stored digits as a widget gets them: {digits, labels}. */
export function readDigits() {
  const { images, labels } = results("digits");
  return { digits: new DataView(images.values.buffer), labels: Array.from(labels.values) };
}

/** A test's way to say that numbers agree, to so many parts of the larger. */
export function agree(found, wanted, slack = 1e-9) {
  const [one, other] = [Array.from(found), Array.from(wanted)];
  if (one.length !== other.length) throw new Error(`${one.length} numbers instead of ${other.length}`);
  one.forEach((value, k) => {
    if (!(Math.abs(value - other[k]) <= slack * (1 + Math.abs(other[k])))) throw new Error(`number ${k}: ${value} instead of ${other[k]}`);
  });
}
