// Bun, whose server is uWebSockets: broadcasts by its own topics.
import { readFileSync } from "node:fs";
import { answer, read } from "./arguments.cjs";

const values = read();
const pem = values.cert && readFileSync(values.cert, "utf8");
const echo = (socket, message) => socket.send(message, values.deflate);
const reply = (socket, message) => socket.send(answer(message));
const publish = (socket, message) => server.publish("all", message, values.deflate);

const server = Bun.serve({
  port: Number(values.port),
  hostname: "127.0.0.1",
  tls: pem ? { key: pem, cert: pem } : undefined,
  fetch: (request, server) => (server.upgrade(request) ? undefined : new Response("", { status: 426 })),
  websocket: {
    perMessageDeflate: values.deflate,
    idleTimeout: 120,
    // The default drops what a client has not taken beyond 16 MiB.
    backpressureLimit: 64 * 1024 * 1024,
    open: values.broadcast ? (socket) => socket.subscribe("all") : undefined,
    message: values.broadcast ? publish : values.style === "json" ? reply : echo,
  },
});
