// ws on Node, with bufferutil.
"use strict";
const http = require("node:http");
const https = require("node:https");
const fs = require("node:fs");
const { answer, read } = require("./arguments.cjs");

const values = read();
const { WebSocketServer } = require(`${values.modules}/ws`);

const pem = values.cert && fs.readFileSync(values.cert);
const server = pem ? https.createServer({ key: pem, cert: pem }) : http.createServer();
// A threshold of 0: every message is compressed, as with the other servers; at zlib's fastest level.
const perMessageDeflate = values.deflate ? { threshold: 0, zlibDeflateOptions: { level: 1 } } : false;
const wss = new WebSocketServer({ server, perMessageDeflate });
wss.on("connection", (socket) => {
  socket.on("error", () => {});
  if (values.broadcast) {
    socket.on("message", (data, binary) => {
      for (const client of wss.clients) client.send(data, { binary });
    });
  } else if (values.style === "json") {
    socket.on("message", (data) => socket.send(answer(data)));
  } else {
    socket.on("message", (data, binary) => socket.send(data, { binary }));
  }
});
server.listen({ port: Number(values.port), host: "127.0.0.1", backlog: 4096 });
