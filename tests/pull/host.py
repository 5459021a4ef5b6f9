"""A host of model files: ranges, redirects, slowness, broken connections and wrong bytes, as a test wants them."""

import dataclasses
import hashlib
import http.server
import json
import threading
import time

BLOCK_BYTES = 32 << 10


@dataclasses.dataclass
class File:
    """What lies at a path, and how it is given."""

    content: bytes
    tag: str | None = '"one"'
    ranges: bool = True
    # The connection breaks after so many bytes of each answer.
    cut: int | None = None
    # Bytes a second.
    rate: float | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    status: int = 200


@dataclasses.dataclass
class Asked:
    """One request that came."""

    method: str
    path: str
    start: int | None
    if_range: str | None
    answered: int = 0


class Host:
    """The host, on a free port of this machine."""

    def __init__(self):
        self.files: dict[str, File] = {}
        self.asked: list[Asked] = []
        host = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                host.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """Clients that are killed leave in the middle of an answer."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def put(self, path: str, content: bytes, **how) -> str:
        self.files[path] = File(content, **how)
        return self.url + path

    def gets(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.path == path and asked.method == "GET"]

    def answer(self, request):
        file = self.files.get(request.path)
        wanted = request.headers.get("range")
        asked = Asked(
            request.command, request.path, int(wanted[len("bytes="):-1]) if wanted else None, request.headers.get("if-range")
        )
        self.asked.append(asked)
        if file is None:
            return self.head(request, 404, {"content-length": "0"})
        headers = dict(file.headers)
        if file.tag:
            headers["etag"] = file.tag
        content, status = file.content, file.status
        is_same = asked.if_range is None or asked.if_range == file.tag
        if file.ranges and asked.start is not None and is_same:
            if asked.start >= len(content):
                return self.head(request, 416, headers | {"content-length": "0", "content-range": f"bytes */{len(content)}"})
            headers["content-range"] = f"bytes {asked.start}-{len(content) - 1}/{len(content)}"
            content, status = content[asked.start:], 206
        self.head(request, status, headers | {"content-length": str(len(content))})
        if request.command == "HEAD":
            return
        give = content if file.cut is None else content[:file.cut]
        for at in range(0, len(give), BLOCK_BYTES):
            block = give[at:at + BLOCK_BYTES]
            request.wfile.write(block)
            asked.answered += len(block)
            if file.rate:
                time.sleep(len(block) / file.rate)
        request.close_connection = file.cut is not None

    def head(self, request, status: int, headers: dict[str, str]):
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def ollama_model(host: Host, name: str, tag: str, content: bytes):
    """Lays a model out as the Ollama registry does."""
    layer = lambda kind, body: {
        "mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{sha256(body)}", "size": len(body),
    }
    manifest = {"schemaVersion": 2, "layers": [layer("model", content), layer("license", b"MIT")]}
    host.put(f"/v2/library/{name}/manifests/{tag}", json.dumps(manifest).encode())
    host.put(f"/v2/library/{name}/blobs/sha256:{sha256(content)}", content)
