// The client of Node's ws: prints the report that `converse` of clients.py describes.

const WebSocket = require("ws");
const fs = require("fs");

const [url, ca, compress] = process.argv.slice(2);
const TEXT = "schön, 世界 🎉";
const MEBIBYTE = "0123456789abcdef".repeat(65536);

function connect(path) {
  const options = { perMessageDeflate: Boolean(compress) };
  if (ca) options.ca = fs.readFileSync(ca);
  const socket = new WebSocket(url + path, ["v1", "v2"], options);
  const messages = [];
  const waiting = [];
  socket.on("message", (data, binary) => {
    const message = binary ? data : data.toString();
    waiting.length ? waiting.shift()(message) : messages.push(message);
  });
  socket.receive = () =>
    messages.length ? Promise.resolve(messages.shift()) : new Promise((resolve) => waiting.push(resolve));
  socket.closed = new Promise((resolve) => socket.on("close", (code, reason) => resolve([code, reason.toString()])));
  return new Promise((resolve, reject) => {
    socket.on("open", () => resolve(socket));
    socket.on("unexpected-response", (_request, response) => reject({ status: response.statusCode }));
    socket.on("error", reject);
  });
}

async function converse() {
  const report = {};
  const first = await connect("");
  report["subprotocol"] = first.protocol;
  report["compressed"] = first.extensions.includes("permessage-deflate");
  first.send(TEXT);
  report["text"] = await first.receive();
  first.send(Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)));
  report["binary"] = (await first.receive()).toString("hex");
  first.send("");
  report["empty text"] = await first.receive();
  first.send(Buffer.alloc(0));
  report["empty binary"] = (await first.receive()).toString("hex");
  first.send(MEBIBYTE);
  report["mebibyte"] = (await first.receive()) === MEBIBYTE;
  first.send("one ", { fin: false });
  first.send("two ", { fin: false });
  first.send("three");
  report["fragments"] = await first.receive();
  first.ping("are you there");
  report["ping"] = await new Promise((resolve) => first.on("pong", (data) => resolve(data.toString())));
  first.send("ping me");
  report["ping from the server"] = await first.receive();
  first.send("close me");
  report["close from the server"] = await first.closed;

  const second = await connect("");
  second.close(4002, "bye");
  report["answer to a close"] = await second.closed;

  const third = await connect("");
  third.send("last close");
  report["close to the server"] = JSON.parse(await third.receive());
  third.close();
  try {
    await connect("/rejected");
  } catch (error) {
    report["rejected"] = error.status;
  }
  console.log(JSON.stringify(report));
}

converse().catch((error) => {
  console.error(error);
  process.exit(1);
});
setTimeout(() => process.exit(2), 30000).unref();
