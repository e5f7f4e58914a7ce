// Calls the service of server.mjs, through whatever is at ADDRESS, with TOKEN from the environment.
//
//   TOKEN=… node client.mjs FOLDER-WITH-NODE_MODULES ADDRESS CALL
//
// Says what came of it as one line of JSON; `hold` says `{"open": true}` first, when its stream works.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , folder, address, what] = process.argv;
const require = createRequire(pathToFileURL(`${folder}/package.json`));
const grpc = require("@grpc/grpc-js");

const client = new grpc.Client(address, grpc.credentials.createInsecure(), {
  "grpc.default_authority": process.env.AUTHORITY,
  "grpc.max_receive_message_length": -1,
});
const same = (value) => value;
const metadata = () => {
  const metadata = new grpc.Metadata();
  if (process.env.TOKEN) metadata.set("authorization", `Bearer ${process.env.TOKEN}`);
  return metadata;
};
const say = (result) => console.log(JSON.stringify(result));
const failed = (error) => ({ code: error.code, details: error.details });

const calls = {
  unary(method, options = {}) {
    return new Promise((resolve) => {
      const result = {};
      const call = client.makeUnaryRequest(
        `/test.Echo/${method}`, same, same, Buffer.from("hello"), metadata(), options,
        (error, message) => {
          Object.assign(result, error ? failed(error) : { message: message.toString() });
        },
      );
      call.on("metadata", (head) => (result.head = head.getMap()));
      call.on("status", (status) => resolve({ ...result, code: status.code, trailers: status.metadata.getMap() }));
    });
  },
  serverStream(count) {
    return new Promise((resolve) => {
      let messages = 0;
      const call = client.makeServerStreamRequest(
        "/test.Echo/ServerStream", same, same, Buffer.from(`${count}`), metadata());
      call.on("data", () => messages++);
      call.on("error", () => {});
      call.on("status", (status) => resolve({ messages, code: status.code }));
    });
  },
  clientStream(count, size) {
    return new Promise((resolve) => {
      const call = client.makeClientStreamRequest("/test.Echo/ClientStream", same, same, metadata(), (error, message) =>
        resolve(error ? failed(error) : { total: Number(message.toString()), code: 0 }));
      const message = Buffer.alloc(size, 7);
      for (let number = 0; number < count; number++) call.write(message);
      call.end();
    });
  },
  both(count) {
    return new Promise((resolve) => {
      const call = client.makeBidiStreamRequest("/test.Echo/Both", same, same, metadata());
      let messages = 0;
      // One at a time: nothing may wait for more.
      call.on("data", () => (++messages < count ? call.write(Buffer.from(`${messages}`)) : call.end()));
      call.on("error", () => {});
      call.on("status", (status) => resolve({ messages, code: status.code }));
      call.write(Buffer.from("0"));
    });
  },
  hold() {
    return new Promise((resolve) => {
      const call = client.makeBidiStreamRequest("/test.Echo/Both", same, same, metadata());
      call.on("data", () => say({ open: true }));
      call.on("error", () => {});
      call.on("status", (status) => resolve({ code: status.code, details: status.details }));
      call.write(Buffer.from("first"));
    });
  },
};

const results = {
  all: async () => ({
    unary: await calls.unary("Unary"),
    serverStream: await calls.serverStream(1000),
    clientStream: await calls.clientStream(64, 65536),
    both: await calls.both(100),
    fail: await calls.unary("Fail"),
  }),
  unary: () => calls.unary("Unary"),
  deadline: () => calls.unary("Never", { deadline: Date.now() + 500 }),
  hold: () => calls.hold(),
};
say(await results[what]());
client.close();
