// An echo server by Node's ws, as ../answers.py asks it; prints its port.

const WebSocket = require("ws");

const server = new WebSocket.Server({
  host: "127.0.0.1",
  port: 0,
  perMessageDeflate: {},
  maxPayload: 1 << 20,
  handleProtocols: (protocols) => (protocols.has("chat") ? "chat" : false),
});
server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket) => {
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary, compress: false }));
  socket.on("error", () => {});
});
