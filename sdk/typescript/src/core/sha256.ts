/**
 * SHA-256 of data that comes in pieces (FIPS 180-4).
 *
 * Written here because `crypto.subtle.digest` needs the whole file in memory, and because the package
 * has no dependency at run time: nothing to audit, and no second copy in an application's bundle. It
 * is loaded with the first upload or download, and tests compare it with Node's.
 */

/** The first 32 bits of the fraction. */
const fraction = (root: number) => ((root % 1) * 2 ** 32) | 0;

const INITIAL = new Int32Array(8);
const ROUNDS = new Int32Array(64);
const w = new Int32Array(64);
// The constants are fractions of roots of the first primes. A double has 18 bits more than the
// largest needs, so rounding in an engine's last bit does not change any of them.
for (let found = 0, n = 2; found < 64; n += 1) {
  if (isPrime(n)) {
    if (found < 8) INITIAL[found] = fraction(Math.sqrt(n));
    ROUNDS[found++] = fraction(Math.cbrt(n));
  }
}

export class Sha256 {
  readonly #state = INITIAL.slice();
  readonly #block = new Uint8Array(64);
  #length = 0;

  update(data: Uint8Array): void {
    const filled = this.#length % 64;
    let at = 0;
    this.#length += data.length;
    if (filled) {
      at = Math.min(64 - filled, data.length);
      this.#block.set(data.subarray(0, at), filled);
      if (filled + at < 64) return;
      compress(this.#state, viewOf(this.#block), 0);
    }
    const view = viewOf(data);
    for (; at + 64 <= data.length; at += 64) compress(this.#state, view, at);
    this.#block.set(data.subarray(at));
  }

  /** The digest in hexadecimal. Nothing can be added afterwards. */
  digest(): string {
    const bits = this.#length * 8;
    const filled = this.#length % 64;
    const end = new DataView(new ArrayBuffer((filled < 56 ? 64 : 128) - filled));
    end.setUint8(0, 0x80);
    end.setUint32(end.byteLength - 8, Math.floor(bits / 2 ** 32));
    end.setUint32(end.byteLength - 4, bits);
    this.update(new Uint8Array(end.buffer));
    const hex = (word: number) => (word >>> 0).toString(16).padStart(8, '0');
    return Array.from(this.#state, hex).join('');
  }
}

function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

function isPrime(n: number): boolean {
  for (let by = 2; by * by <= n; by += 1) if (n % by === 0) return false;
  return true;
}

/**
 * Add 64 bytes to the state. The letters are the standard's. Every byte of a file passes here, so
 * nothing is allocated.
 */
function compress(state: Int32Array, data: DataView, at: number): void {
  for (let t = 0; t < 16; t += 1) w[t] = data.getInt32(at + t * 4);
  for (let t = 16; t < 64; t += 1) {
    const x = w[t - 15] as number;
    const y = w[t - 2] as number;
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[t] = (w[t - 16] as number) + s0 + (w[t - 7] as number) + s1;
  }
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;
  let e = state[4] as number;
  let f = state[5] as number;
  let g = state[6] as number;
  let h = state[7] as number;
  for (let t = 0; t < 64; t += 1) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + (ROUNDS[t] as number) + (w[t] as number)) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + t2) | 0;
  }
  state[0] = (state[0] as number) + a;
  state[1] = (state[1] as number) + b;
  state[2] = (state[2] as number) + c;
  state[3] = (state[3] as number) + d;
  state[4] = (state[4] as number) + e;
  state[5] = (state[5] as number) + f;
  state[6] = (state[6] as number) + g;
  state[7] = (state[7] as number) + h;
}
