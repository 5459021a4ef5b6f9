"""A store that speaks as much of Azure's Blob service as a batch needs, and lets in whoever has the account's key.

Sources: https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api and
https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key.
"""

import base64
import hashlib
import hmac
import urllib.parse
from email.utils import formatdate
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import store

ACCOUNT = "batches"
SIGNED_HEADERS = [
    "Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date",
    "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range",
]


class Store(store.Store):
    key = base64.b64encode(b"the account's key").decode()

    def __init__(self):
        super().__init__(Call)

    def lets_in(self, call) -> bool:
        """Whether the request, as it came, was signed with the account's key."""
        path, _, query = call.path.partition("?")
        values = [call.headers.get(name, "") for name in SIGNED_HEADERS]
        values[2] = "" if values[2] == "0" else values[2]
        own = sorted((name.lower(), value) for name, value in call.headers.items() if name.lower().startswith("x-ms-"))
        asked = sorted((name.lower(), value) for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True))
        lines = [call.command, *values, *(f"{name}:{value}" for name, value in own)]
        lines += [f"/{ACCOUNT}{path}", *(f"{name}:{value}" for name, value in asked)]
        digest = hmac.digest(base64.b64decode(self.key), "\n".join(lines).encode(), hashlib.sha256)
        return call.headers.get("Authorization") == f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"


class Call(store.Call):
    server: Store

    def get_bucket(self, objects, _name, _body):
        assert self.query["comp"] == "list" and self.query["restype"] == "container", self.query
        names, more = self.listed(objects, self.query.get("prefix", ""), self.query.get("marker", ""))
        found = "".join(
            f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{formatdate(usegmt=True)}</Last-Modified>"
            f"<Etag>{escape(store.digits(objects[name]))}</Etag><Content-Length>{len(objects[name])}</Content-Length>"
            "<Content-Type>text/plain</Content-Type></Properties></Blob>"
            for name in names
        )
        more = f"<NextMarker>{escape(more)}</NextMarker>" if more else "<NextMarker/>"
        self.answer(200, f"<EnumerationResults><Blobs>{found}</Blobs>{more}</EnumerationResults>".encode())

    def put_object(self, objects, name, body):
        about = {"Last_Modified": formatdate(usegmt=True)}
        if self.query.get("comp") == "block":
            self.server.uploads.setdefault(name, {})[self.query["blockid"]] = body
            return self.answer(201, **about)
        if self.headers.get("If-None-Match") == "*" and name in objects:
            return self.fail(409, "BlobAlreadyExists")
        if self.query.get("comp") == "blocklist":
            blocks = self.server.uploads.pop(name, {})
            body = b"".join(blocks[block.text] for block in ElementTree.fromstring(body))
        elif source := self.headers.get("x-ms-copy-source"):
            bucket, _, other = urllib.parse.urlsplit(source).path[1:].partition("/")
            body = self.server.buckets[urllib.parse.unquote(bucket)][urllib.parse.unquote(other)]
        else:
            assert self.headers["x-ms-blob-type"] == "BlockBlob"
        objects[name] = body
        return self.answer(201, ETag=store.digits(body), **about)

    def delete_object(self, objects, name, _body):
        if objects.pop(name, None) is None:
            return self.fail(404, "BlobNotFound")
        return self.answer(202)
