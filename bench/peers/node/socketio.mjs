// Socket.IO over WebSocket: `io.emit` to all. socketio.mjs PORT
import http from "node:http";
import { Server } from "socket.io";
import { startRoute } from "./ticker.mjs";

const publish = startRoute((seq, content) => {
  io.emit("message", { type: "text", content, position: seq });
});
const server = http.createServer((request, response) => {
  if (!request.url.startsWith("/socket.io/")) publish(request, response);
});
const io = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: { threshold: 0 },
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
