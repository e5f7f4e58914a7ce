// A gRPC service with one method of each kind, on bytes: what comes is sent back, and what the caller looks like.
//
//   node server.mjs FOLDER-WITH-NODE_MODULES
//
// Says `{"port": …}` once it listens. Says of `test.Echo`'s health what a line of its standard input says, `SERVING` at first.
// Ends with its standard input.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(`${process.argv[2]}/package.json`));
const grpc = require("@grpc/grpc-js");
const { HealthImplementation } = require("grpc-health-check");

const bytes = { serialize: (value) => value, deserialize: (value) => value };
const method = (path, requestStream, responseStream) => ({
  path,
  requestStream,
  responseStream,
  requestSerialize: bytes.serialize,
  requestDeserialize: bytes.deserialize,
  responseSerialize: bytes.serialize,
  responseDeserialize: bytes.deserialize,
});

const service = {
  unary: method("/test.Echo/Unary", false, false),
  serverStream: method("/test.Echo/ServerStream", false, true),
  clientStream: method("/test.Echo/ClientStream", true, false),
  both: method("/test.Echo/Both", true, true),
  fail: method("/test.Echo/Fail", false, false),
  never: method("/test.Echo/Never", false, false),
};

const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
server.addService(service, {
  unary(call, reply) {
    const seen = new grpc.Metadata();
    seen.set("seen-user", call.metadata.get("x-postern-user-id").join());
    seen.set("seen-authorization", call.metadata.get("authorization").join() || "none");
    call.sendMetadata(seen);
    const trailers = new grpc.Metadata();
    trailers.set("trailing", "there");
    reply(null, call.request, trailers);
  },
  serverStream(call) {
    for (let number = 0; number < Number(call.request.toString()); number++) call.write(Buffer.from(`${number}`));
    call.end();
  },
  clientStream(call, reply) {
    let total = 0;
    call.on("data", (message) => (total += message.length));
    call.on("end", () => reply(null, Buffer.from(`${total}`)));
  },
  both(call) {
    call.on("data", (message) => call.write(message));
    call.on("end", () => call.end());
  },
  fail(_call, reply) {
    reply({ code: grpc.status.FAILED_PRECONDITION, details: "not in this state: ä" });
  },
  never() {},
});
const health = new HealthImplementation({ "test.Echo": "SERVING" });
health.addToServer(server);
server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(JSON.stringify({ port }));
});
process.stdin.on("data", (line) => health.setStatus("test.Echo", line.toString().trim()));
process.stdin.on("end", () => process.exit(0));
