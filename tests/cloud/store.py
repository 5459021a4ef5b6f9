"""Buckets of objects in memory behind HTTP on loopback: what the stores of the tests have in common."""

import hashlib
import threading
import urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = 3  # objects that a page of a listing has at most: every listing here takes several


def digits(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class Store(ThreadingHTTPServer):
    """`call` answers one request."""

    daemon_threads = True

    def __init__(self, call: type):
        super().__init__(("127.0.0.1", 0), call)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.buckets: dict[str, dict[str, bytes]] = {}
        # Parts of objects that are not whole yet.
        self.uploads: dict[str, dict] = {}
        self.denied = 0
        self.lock = threading.Lock()

    def start(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def lets_in(self, call: "Call") -> bool:
        raise NotImplementedError


class Call(BaseHTTPRequestHandler):
    """One request: `/bucket` or `/bucket/object`, both percent-encoded; `VERB_bucket` and `VERB_object` answer it."""

    protocol_version = "HTTP/1.1"
    server: Store

    def log_message(self, *_):
        pass

    def answer(self, code: int, body: bytes = b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def fail(self, code: int, name: str):
        self.answer(code, f"<?xml version='1.0'?><Error><Code>{name}</Code></Error>".encode())

    def handle_call(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        bucket, _, name = path[1:].partition("/")
        bucket, name = urllib.parse.unquote(bucket), urllib.parse.unquote(name)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        with self.server.lock:
            if not self.server.lets_in(self):
                self.server.denied += 1
                return self.fail(403, "AccessDenied")
            objects = self.server.buckets.get(bucket)
            if objects is None:
                return self.fail(404, "NoSuchBucket")
            act = getattr(self, f"{self.command.lower()}_{'object' if name else 'bucket'}", None)
            return act(objects, name, body) if act else self.fail(405, "MethodNotAllowed")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_call

    def get_object(self, objects, name, _body):
        if name not in objects:
            return self.fail(404, "NoSuchKey")
        data, wanted = objects[name], self.headers.get("Range")
        about = {"ETag": digits(data), "Last_Modified": formatdate(usegmt=True)}
        if self.headers.get("If-Match", about["ETag"]) != about["ETag"]:
            return self.fail(412, "PreconditionFailed")
        if wanted is None:
            return self.answer(200, data, **about)
        first, last = wanted.removeprefix("bytes=").split("-")
        first, last = int(first), min(int(last or len(data)), len(data) - 1)
        if first >= len(data):
            return self.fail(416, "InvalidRange")
        part = f"bytes {first}-{last}/{len(data)}"
        return self.answer(206, data[first : last + 1], Content_Range=part, **about)

    head_object = get_object

    def listed(self, objects, prefix: str, after: str) -> tuple[list[str], str]:
        """The names of a page, and the one to go on after; empty at the end."""
        names = sorted(name for name in objects if name.startswith(prefix) and name > after)
        return names[:PAGE], names[PAGE - 1] if names[PAGE:] else ""
