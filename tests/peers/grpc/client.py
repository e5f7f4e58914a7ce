"""The client of client.mjs, with gRPC's library for Python: the same calls, and the same said of them.

    TOKEN=… AUTHORITY=… python client.py ADDRESS CALL
"""

import json
import os
import queue
import sys

import grpc

address, what = sys.argv[1:]
channel = grpc.insecure_channel(
    address,
    options=[
        ("grpc.default_authority", os.environ["AUTHORITY"]),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", -1),
    ],
)
token = os.environ.get("TOKEN")
metadata = [("authorization", f"Bearer {token}")] if token else []


def say(result):
    print(json.dumps(result), flush=True)


def code(call):
    return call.code().value[0]


def unary(method, timeout=None):
    try:
        message, call = channel.unary_unary(f"/test.Echo/{method}").with_call(b"hello", metadata=metadata, timeout=timeout)
    except grpc.RpcError as call:
        return {"code": code(call), "details": call.details()}
    head, trailers = dict(call.initial_metadata()), dict(call.trailing_metadata())
    return {"code": code(call), "message": message.decode(), "head": head, "trailers": trailers}


def server_stream(count):
    call = channel.unary_stream("/test.Echo/ServerStream")(str(count).encode(), metadata=metadata)
    return {"messages": sum(1 for _message in call), "code": code(call)}


def client_stream(count, size):
    messages = (bytes(size) for _number in range(count))
    total, call = channel.stream_unary("/test.Echo/ClientStream").with_call(messages, metadata=metadata)
    return {"total": int(total), "code": code(call)}


class Conversation:
    """A call in which one message follows upon the other: nothing may wait for more."""

    def __init__(self):
        self.said = queue.SimpleQueue()
        self.call = channel.stream_stream("/test.Echo/Both")(iter(self.said.get, None), metadata=metadata)

    def say(self, message):
        self.said.put(message)


def both(count):
    conversation = Conversation()
    conversation.say(b"0")
    messages = 0
    for _message in conversation.call:
        messages += 1
        conversation.say(str(messages).encode() if messages < count else None)
    return {"messages": messages, "code": code(conversation.call)}


def hold():
    conversation = Conversation()
    conversation.say(b"first")
    try:
        for _message in conversation.call:
            say({"open": True})
    except grpc.RpcError:
        pass
    conversation.say(None)
    return {"code": code(conversation.call), "details": conversation.call.details()}


results = {
    "all": lambda: {
        "unary": unary("Unary"),
        "serverStream": server_stream(1000),
        "clientStream": client_stream(64, 65536),
        "both": both(100),
        "fail": unary("Fail"),
    },
    "unary": lambda: unary("Unary"),
    "deadline": lambda: unary("Never", timeout=0.5),
    "hold": hold,
}
say(results[what]())
channel.close()
