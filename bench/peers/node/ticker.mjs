// What the Node peers share: paced payloads, and the routes that start them.
const FILLER = " the quick brown fox jumps over the lazy dog while seven wizards box";

export function payload(seq, size) {
  const mark = `@${process.hrtime.bigint() / 1000n}:${seq};`;
  const missing = size - mark.length;
  return missing <= 0
    ? mark
    : mark + FILLER.repeat(Math.ceil(missing / FILLER.length)).slice(0, missing);
}

export function tick(rate, count, publish) {
  const start = performance.now();
  let seq = 0;
  const next = () => {
    while (seq < count && start + (seq * 1000) / rate <= performance.now()) {
      seq += 1;
      publish(seq);
    }
    if (seq < count) setTimeout(next, start + (seq * 1000) / rate - performance.now());
  };
  next();
}

// POST /start?rate=&count=&bytes=: calls `publish(seq, text)` for each event.
export function startRoute(publish) {
  return (request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    if (request.method !== "POST" || url.pathname !== "/start") {
      response.writeHead(404).end();
      return;
    }
    const number = (name) => Number(url.searchParams.get(name));
    const size = number("bytes");
    tick(number("rate"), number("count"), (seq) => publish(seq, payload(seq, size)));
    response.writeHead(204).end();
  };
}
