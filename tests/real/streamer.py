"""A bootstrap that streams: Python, but it knows no more of the Runtime API than any shell script with curl could."""

from __future__ import annotations

import time
from typing import Final

BOOTSTRAP: Final = r"""#!/usr/bin/env python3
import base64, json, os, socket, sys, time
HOST, PORT = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
API = "/2018-06-01/runtime/invocation/"

def connect():
    return socket.create_connection((HOST, int(PORT)))

def answer(connection):
    file = connection.makefile("rb")
    status, headers = int(file.readline().split()[1]), {}
    while True:
        line = file.readline().strip().decode()
        if not line:
            break
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return status, headers, file.read(int(headers.get("content-length", 0)))

class Stream:
    def __init__(self, request_id, content_type="text/plain"):
        self.connection = connect()
        self.connection.sendall((
            "POST %s%s/response HTTP/1.1\r\nHost: h\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nTrailer: Lambda-Runtime-Function-Error-Type\r\n\r\n"
            % (API, request_id, content_type)).encode())
    def write(self, data):
        self.connection.sendall(b"%x\r\n%b\r\n" % (len(data), data))
    def end(self, trailers=""):
        self.connection.sendall(b"0\r\n" + trailers.encode() + b"\r\n")
        status = answer(self.connection)[0]
        self.connection.close()
        print("ended with", status, flush=True)

def handle(request_id, do, number):
    if do == "error":
        c = connect()
        body = b'{"errorType":"Function.Early","errorMessage":"early"}'
        c.sendall(b"POST %s%s/error HTTP/1.1\r\nHost: h\r\nLambda-Runtime-Function-Error-Type: Function.Early\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (API.encode(), request_id.encode(), len(body), body))
        return answer(c)
    if do == "prelude":
        stream = Stream(request_id, "application/vnd.awslambda.http-integration-response")
        stream.write(json.dumps({"statusCode": 418, "headers": {"X-Tea": "pot"}, "cookies": ["a=b"]}).encode() + bytes(8))
        time.sleep(number)
        stream.write(b"short and stout")
        return stream.end()
    stream = Stream(request_id)
    if do == "exit-before":
        os._exit(4)
    if do == "clock":
        stream.write(b"%d " % time.monotonic_ns())
        time.sleep(number)
        stream.write(b"%d" % time.monotonic_ns())
        return stream.end()
    if do == "lines":
        for index in range(int(number)):
            stream.write(b"line %d\n" % index)
            time.sleep(0.2)
        return stream.end()
    if do == "mb":
        megabyte = bytes(range(256)) * 3906 + bytes(64)
        for _ in range(int(number)):
            stream.write(megabyte)
        stream.end()
        open("/tmp/done", "a").write("x")
        return
    if do == "done":
        stream.write(open("/tmp/done").read().encode() if os.path.exists("/tmp/done") else b"no")
        return stream.end()
    stream.write(b"half")
    if do == "late":
        body = base64.b64encode(b'{"errorType":"Function.Late","errorMessage":"late"}').decode()
        trailer = "Lambda-Runtime-Function-Error-"
        return stream.end("%sType: Function.Late\r\n%sBody: %s\r\n" % (trailer, trailer, body))
    if do == "exit":
        os._exit(3)
    if do == "break":
        stream.connection.close()
        return
    if do == "wait":
        time.sleep(number)
        return stream.end()
    while do == "endless":
        stream.write(bytes(65536))

keep = connect()
while True:
    keep.sendall(b"GET %snext HTTP/1.1\r\nHost: h\r\n\r\n" % API.encode())
    _, headers, event = answer(keep)
    event = json.loads(event)
    do, _, number = (event.get("rawQueryString") or event.get("do", "")).partition("=")
    handle(headers["lambda-runtime-aws-request-id"], do, float(number or 0))
"""


def now_ns() -> int:
    """The clock that "clock" streams: one for the whole machine."""
    return time.monotonic_ns()
