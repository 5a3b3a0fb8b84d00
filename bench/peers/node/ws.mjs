// The `ws` package: each message to each client. ws.mjs PORT
import http from "node:http";
import { WebSocketServer } from "ws";
import { startRoute } from "./ticker.mjs";

const server = http.createServer(
  startRoute((seq, content) => {
    const text = JSON.stringify({ type: "text", content, position: seq });
    for (const client of sockets.clients) client.send(text);
  }),
);
// Negotiated only with clients that offer it.
const sockets = new WebSocketServer({ server, path: "/ws", perMessageDeflate: { threshold: 0 } });
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
