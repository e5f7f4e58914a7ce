"""The service of server.mjs, with gRPC's library for Python: what comes is sent back, and what the caller looks like.

    python server.py

Says `{"port": …}` once it listens. Ends with its standard input.
"""

import concurrent.futures
import json
import sys

import grpc


def unary(message, context):
    seen = dict(context.invocation_metadata())
    head = [("seen-user", seen.get("x-postern-user-id", "none")), ("seen-authorization", seen.get("authorization", "none"))]
    context.send_initial_metadata(head)
    context.set_trailing_metadata([("trailing", "there")])
    return message


def server_stream(message, _context):
    for number in range(int(message)):
        yield str(number).encode()


def client_stream(messages, _context):
    return str(sum(len(message) for message in messages)).encode()


def both(messages, _context):
    yield from messages


def fail(_message, context):
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not in this state: ä")


def never(_message, context):
    # Until the caller has given up.
    ended = concurrent.futures.Future()
    context.add_callback(lambda: ended.set_result(None))
    ended.result()
    return b""


methods = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
    "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Never": grpc.unary_unary_rpc_method_handler(never),
}
server = grpc.server(concurrent.futures.ThreadPoolExecutor(max_workers=8), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", methods)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"port": port}), flush=True)
sys.stdin.read()
server.stop(0)
