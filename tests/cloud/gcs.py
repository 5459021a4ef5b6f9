"""A store that speaks as much of Cloud Storage's XML API as a batch needs, and lets in one service account.

Sources: https://cloud.google.com/storage/docs/xml-api/reference-methods and, for the tokens,
https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth.
"""

import base64
import hashlib
import json
import threading
import time
import urllib.parse
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ACCOUNT = "batches@project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PAGE = 3  # objects that a page of a listing has at most: every listing here takes several


def digits(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Store(ThreadingHTTPServer):
    """Buckets of objects in memory, on a port of loopback."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Call)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.buckets: dict[str, dict[str, bytes]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.generation = 0
        self.denied = 0
        self.lock = threading.Lock()
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def credentials(self) -> str:
        """The service account's file, as Google's console makes it, with this store's address."""
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps({
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key_id": "key-1",
            "private_key": private.decode(),
            "gcs_base_url": self.address,
        })

    def lets_in(self, token: str) -> bool:
        """Whether the token was signed with the account's key, for this store's scope, and is in force."""
        try:
            head, claims, signature = token.split(".")
            signed = f"{head}.{claims}".encode()
            self.key.public_key().verify(unpadded(signature), signed, padding.PKCS1v15(), hashes.SHA256())
            head, claims = json.loads(unpadded(head)), json.loads(unpadded(claims))
        except (ValueError, InvalidSignature):
            return False
        known = head["alg"] == "RS256" and head["kid"] == "key-1" and claims["iss"] == ACCOUNT
        return known and SCOPE in claims["scope"].split() and claims["iat"] <= time.time() + 60 < claims["exp"]


class Call(BaseHTTPRequestHandler):
    """One request: `/bucket` or `/bucket/object`, both percent-encoded."""

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
        query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        with self.server.lock:
            if scheme != "Bearer" or not self.server.lets_in(token):
                self.server.denied += 1
                return self.fail(403, "AccessDenied")
            objects = self.server.buckets.get(bucket)
            if objects is None:
                return self.fail(404, "NoSuchBucket")
            act = getattr(self, f"{self.command.lower()}_{'object' if name else 'bucket'}", None)
            return act(objects, name, query, body) if act else self.fail(405, "MethodNotAllowed")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_call

    def get_bucket(self, objects, _name, query, _body):
        prefix, after = query.get("prefix", ""), query.get("continuation-token") or query.get("start-after", "")
        names = sorted(name for name in objects if name.startswith(prefix) and name > after)
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(objects[name])}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{escape(digits(objects[name]))}</ETag></Contents>"
            for name in names[:PAGE]
        )
        more = f"<NextContinuationToken>{escape(names[PAGE - 1])}</NextContinuationToken>" if names[PAGE:] else ""
        self.answer(200, f"<ListBucketResult>{found}{more}</ListBucketResult>".encode())

    def get_object(self, objects, name, _query, _body):
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

    def put_object(self, objects, name, query, body):
        self.server.generation += 1
        about = {"ETag": digits(body), "x_goog_generation": str(self.server.generation)}
        if upload := query.get("uploadId"):
            if upload not in self.server.uploads:
                return self.fail(404, "NoSuchUpload")
            self.server.uploads[upload][int(query["partNumber"])] = body
            return self.answer(200, **about)
        if self.headers.get("x-goog-if-generation-match") == "0" and name in objects:
            return self.fail(412, "PreconditionFailed")
        if source := self.headers.get("x-goog-copy-source"):
            bucket, _, other = source.partition("/")
            body = self.server.buckets[urllib.parse.unquote(bucket)][urllib.parse.unquote(other)]
        objects[name] = body
        return self.answer(200, **about)

    def post_object(self, objects, name, query, body):
        if "uploads" in query:
            self.server.generation += 1
            upload = f"upload-{self.server.generation}"
            self.server.uploads[upload] = {}
            begun = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, begun.encode())
        parts = self.server.uploads.pop(query.get("uploadId"), None)
        if parts is None:
            return self.fail(404, "NoSuchUpload")
        numbers = [int(part.findtext("PartNumber")) for part in ElementTree.fromstring(body)]
        objects[name] = b"".join(parts[number] for number in numbers)
        done = f"<CompleteMultipartUploadResult><ETag>{escape(digits(objects[name]))}</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, done.encode(), x_goog_generation=str(self.server.generation))

    def delete_object(self, objects, name, query, _body):
        if upload := query.get("uploadId"):
            self.server.uploads.pop(upload, None)
        elif objects.pop(name, None) is None:
            return self.fail(404, "NoSuchKey")
        return self.answer(204)
