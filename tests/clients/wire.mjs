// A network that breaks where the test says so.

const { fetch } = globalThis; // as it is before a test puts another there
const NEWLINE = 10;
const RETURN = 13; // some protocols end their lines with one before
/** Bytes of a frame that a cut inside of it leaves; every frame is longer. */
const INSIDE = 7;

/**
 * A `fetch` whose next stream breaks off: `after` so many bytes, or `behind` so many frames, where
 * a half is a place inside the frame that follows. `cut` says whether one has broken off.
 */
export function cutting() {
  const wire = {
    after: Number.POSITIVE_INFINITY,
    behind: Number.POSITIVE_INFINITY,
    headers: undefined,
    bytes: 0,
    frames: 0,
    requests: 0,
    cut: false,
  };
  wire.fetch = async (url, init) => {
    const response = await fetch(url, init);
    wire.headers = response.headers;
    wire.requests += 1;
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) return response;
    const { behind } = wire;
    let left = behind < 1 ? INSIDE : wire.after;
    let before = 0; // the last byte
    wire.after = wire.behind = Number.POSITIVE_INFINITY;
    wire.bytes = wire.frames = 0;
    const count = (value) => {
      for (const [index, byte] of value.entries()) {
        if (byte === RETURN) continue;
        const ends = byte === NEWLINE && before === NEWLINE;
        before = ends ? 0 : byte;
        if (!ends) continue;
        wire.frames += 1;
        if (wire.frames !== Math.floor(behind)) continue;
        left = index + 1 + (Number.isInteger(behind) ? 0 : INSIDE);
      }
    };
    const reader = response.body.getReader();
    const body = new ReadableStream(
      {
        async pull(controller) {
          const { done, value } = await reader.read();
          if (done) return controller.close();
          wire.bytes += value.length;
          count(value);
          if (value.length < left) {
            left -= value.length;
            return controller.enqueue(value);
          }
          controller.enqueue(value.slice(0, left));
          wire.cut = true;
          await reader.cancel();
          controller.error(new TypeError('network error'));
        },
      },
      { highWaterMark: 0 },
    );
    return new Response(body, { status: response.status, headers: response.headers });
  };
  return wire;
}
