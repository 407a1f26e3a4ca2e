// The smallest operations of the method, in JavaScript: a program that `refgrad check` talks to over stdin and stdout.
//
//     refgrad check "node examples/implementations/node/client.js"
//
// The records are specified in docs/foreign.md; this file was written from that page.
"use strict";

const HELLO = 1, CALL = 2, RESULT = 3, NOT_CLAIMED = 4, ERROR = 5;
const INTEGERS = 1, REAL = 2, TEXT = 3, FLOAT32 = 4, FLOAT64 = 5;
const HEADER = 16;

// ---- the operations: arguments by name in, results by name out

class NotClaimed extends Error {}

function rank({ singular_values: values, explained_variance: explained }) {
  const largest = values.numbers.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (largest === 0) return { rank: [1] };
  const energies = [...values.numbers].map((value) => (value / largest) ** 2);
  const total = energies.reduceRight((sum, energy) => sum + energy, 0);
  let leftOut = 0;
  let count = energies.length; // what is left out is summed from the small end, where nothing is lost beside it
  while (count > 1 && leftOut + energies[count - 1] <= (1 - explained) * total) leftOut += energies[--count];
  return { rank: [count] };
}

const product = (lengths) => lengths.reduce((all, length) => all * length, 1);

function unfold({ tensor, mode: [mode] }) {
  const rows = tensor.shape[mode];
  const step = product(tensor.shape.slice(mode + 1));
  const blocks = product(tensor.shape.slice(0, mode));
  const numbers = new Float64Array(tensor.numbers.length);
  for (let row = 0; row < rows; row++)
    for (let block = 0; block < blocks; block++)
      for (let inner = 0; inner < step; inner++)
        numbers[(row * blocks + block) * step + inner] = tensor.numbers[(block * rows + row) * step + inner];
  return { matrix: { shape: [rows, blocks * step], numbers } };
}

function modeProduct(tensor, mode, factor) {
  const [rows, columns] = factor.shape;
  const step = product(tensor.shape.slice(mode + 1));
  const blocks = product(tensor.shape.slice(0, mode));
  const numbers = new Float64Array(blocks * rows * step);
  for (let block = 0; block < blocks; block++)
    for (let row = 0; row < rows; row++)
      for (let inner = 0; inner < step; inner++) {
        let sum = 0;
        for (let k = 0; k < columns; k++)
          sum += factor.numbers[row * columns + k] * tensor.numbers[(block * columns + k) * step + inner];
        numbers[(block * rows + row) * step + inner] = sum;
      }
  return { shape: tensor.shape.map((length, axis) => (axis === mode ? rows : length)), numbers };
}

function reconstruct({ core, ...factors }) {
  let result = core;
  for (let mode = 0; mode < core.shape.length; mode++) result = modeProduct(result, mode, factors[`factors[${mode}]`]);
  return { reconstruction: result };
}

const OPERATIONS = { rank, unfold, reconstruct };

// ---- the records

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value >>> 1) ^ (value & 1 ? 0xedb88320 : 0);
  return value >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC_TABLE[(crc ^ byte) & 0xff];
  return ~crc >>> 0;
}

function encode(name, value) {
  const head = [Buffer.from([name.length]), Buffer.from(name, "ascii")];
  if (typeof value === "string") {
    const text = Buffer.from(value, "utf8");
    const size = Buffer.alloc(5);
    size.writeUInt8(TEXT, 0);
    size.writeUInt32LE(text.length, 1);
    return Buffer.concat([...head, size, text]);
  }
  if (Array.isArray(value)) {
    const body = Buffer.alloc(2 + 8 * value.length);
    body.writeUInt8(INTEGERS, 0);
    body.writeUInt8(value.length, 1);
    value.forEach((integer, at) => body.writeBigInt64LE(BigInt(integer), 2 + 8 * at));
    return Buffer.concat([...head, body]);
  }
  const { shape, numbers } = value;
  const body = Buffer.alloc(2 + 4 * shape.length + 8 * numbers.length);
  body.writeUInt8(FLOAT64, 0);
  body.writeUInt8(shape.length, 1);
  shape.forEach((length, axis) => body.writeUInt32LE(length, 2 + 4 * axis));
  numbers.forEach((number, at) => body.writeDoubleLE(number, 2 + 4 * shape.length + 8 * at));
  return Buffer.concat([...head, body]);
}

function decode(payload) {
  const items = {};
  let at = 0;
  while (at < payload.length) {
    const name = payload.toString("ascii", at + 1, at + 1 + payload[at]);
    at += 1 + payload[at];
    const kind = payload[at++];
    if (kind === INTEGERS) {
      const count = payload[at++];
      items[name] = Array.from({ length: count }, (_, i) => Number(payload.readBigInt64LE(at + 8 * i)));
      at += 8 * count;
    } else if (kind === REAL) {
      items[name] = payload.readDoubleLE(at);
      at += 8;
    } else if (kind === TEXT) {
      const size = payload.readUInt32LE(at);
      items[name] = payload.toString("utf8", at + 4, at + 4 + size);
      at += 4 + size;
    } else if (kind === FLOAT64) {
      const axes = payload[at++];
      const shape = Array.from({ length: axes }, (_, axis) => payload.readUInt32LE(at + 4 * axis));
      at += 4 * axes;
      const numbers = Float64Array.from({ length: product(shape) }, (_, i) => payload.readDoubleLE(at + 8 * i));
      items[name] = { shape, numbers };
      at += 8 * numbers.length;
    } else {
      throw new NotClaimed(`${name} is of kind ${kind}; float64 is what is taken`);
    }
  }
  return items;
}

function send(type, items) {
  const payload = Buffer.concat(Object.entries(items).map(([name, value]) => encode(name, value)));
  const record = Buffer.alloc(HEADER + payload.length + 4);
  record.write("RGRD", 0, "ascii");
  record.writeUInt16LE(1, 4);
  record.writeUInt16LE(type, 6);
  record.writeBigUInt64LE(BigInt(payload.length), 8);
  payload.copy(record, HEADER);
  record.writeUInt32LE(crc32(record.subarray(0, HEADER + payload.length)), HEADER + payload.length);
  process.stdout.write(record);
}

function answer(payload) {
  try {
    const { operation, ...parts } = decode(payload);
    if (!(operation in OPERATIONS)) throw new NotClaimed(`there is no operation ${operation}`);
    send(RESULT, OPERATIONS[operation](parts));
  } catch (error) {
    if (error instanceof NotClaimed) send(NOT_CLAIMED, { reason: error.message });
    else send(ERROR, { message: error.stack });
  }
}

// Returns how many bytes the first record of what has come takes; 0 where it is not all there yet.
function wholeRecord(bytes) {
  if (bytes.length < HEADER) return 0;
  if (bytes.toString("ascii", 0, 4) !== "RGRD" || bytes.readUInt16LE(4) !== 1) throw new Error("what came is no record");
  const size = HEADER + Number(bytes.readBigUInt64LE(8)) + 4;
  return bytes.length < size ? 0 : size;
}

async function main() {
  send(HELLO, { operations: Object.keys(OPERATIONS).join(" "), dtypes: "float64" });
  let waiting = [];
  let bytes = 0;
  let needed = HEADER;
  for await (const chunk of process.stdin) {
    waiting.push(chunk);
    bytes += chunk.length;
    if (bytes < needed) continue; // so that a large record is not put together anew for each of its chunks
    let all = Buffer.concat(waiting);
    for (let size = wholeRecord(all); size > 0; size = wholeRecord(all)) {
      const end = size - 4;
      if (crc32(all.subarray(0, end)) !== all.readUInt32LE(end)) throw new Error("a record's checksum is wrong");
      if (all.readUInt16LE(6) === CALL) answer(all.subarray(HEADER, end));
      else send(ERROR, { message: "only calls are answered" });
      all = all.subarray(size);
    }
    waiting = [all];
    bytes = all.length;
    needed = all.length < HEADER ? HEADER : HEADER + Number(all.readBigUInt64LE(8)) + 4;
  }
}

main().catch((error) => {
  process.stderr.write(`client: ${error.message}\n`);
  process.exitCode = 1;
});
