// Deno, by its own server; it does not compress, and has no topics.
import { readFileSync } from "node:fs";
import { answer, read } from "./arguments.cjs";

const values = read();
const pem = values.cert && readFileSync(values.cert, "utf8");
const everybody = new Set();

function accept(request) {
  const { socket, response } = Deno.upgradeWebSocket(request);
  if (values.broadcast) {
    socket.onopen = () => everybody.add(socket);
    socket.onclose = () => everybody.delete(socket);
    socket.onmessage = (event) => {
      for (const one of everybody) one.send(event.data);
    };
  } else if (values.style === "json") {
    socket.onmessage = (event) => socket.send(answer(event.data));
  } else {
    socket.onmessage = (event) => socket.send(event.data);
  }
  return response;
}

const where = { port: Number(values.port), hostname: "127.0.0.1", onListen: () => {} };
Deno.serve(pem ? { ...where, key: pem, cert: pem } : where, accept);
