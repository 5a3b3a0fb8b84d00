// A network that breaks where the test says so.

const { fetch } = globalThis; // as it is before a test puts another there

/** A `fetch` whose next answer breaks off after so many bytes. */
export function cutting() {
  const wire = { after: Number.POSITIVE_INFINITY, headers: undefined, bytes: 0, requests: 0 };
  wire.fetch = async (url, init) => {
    const response = await fetch(url, init);
    wire.headers = response.headers;
    wire.requests += 1;
    if (!response.body) return response;
    let left = wire.after;
    const broken = false;
    wire.after = Number.POSITIVE_INFINITY;
    wire.bytes = 0;
    const reader = response.body.getReader();
    const body = new ReadableStream(
      {
        async pull(controller) {
          // Only now: an error drops what was enqueued and not read.
          if (broken) return controller.error(new TypeError('network error'));
          const { done, value } = await reader.read();
          if (done) return controller.close();
          wire.bytes += value.length;
          if (value.length < left) {
            left -= value.length;
            return controller.enqueue(value);
          }
          controller.enqueue(value.slice(0, left));
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
