// The command line of each server program in JavaScript, and the JSON handler's work, the same as in `answers.py`.
"use strict";
const { parseArgs } = require("node:util");

exports.read = () =>
  parseArgs({
    options: {
      modules: { type: "string" },
      port: { type: "string" },
      broadcast: { type: "boolean", default: false },
      deflate: { type: "boolean", default: false },
      style: { type: "string", default: "echo" },
      cert: { type: "string", default: "" },
    },
  }).values;

exports.answer = (message) => {
  const { id, user, amounts, tags, at } = JSON.parse(message);
  return JSON.stringify({ id, ok: true, user, total: amounts.reduce((sum, one) => sum + one, 0), tags, at });
};
