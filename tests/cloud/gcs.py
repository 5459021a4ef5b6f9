"""A store that speaks as much of Cloud Storage's XML API as a batch needs, and lets in one service account.

Sources: https://cloud.google.com/storage/docs/xml-api/reference-methods and, for the tokens,
https://developers.google.com/identity/protocols/oauth2/service-account#jwt-auth.
"""

import base64
import json
import time
import urllib.parse
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

import store

ACCOUNT = "batches@project.iam.gserviceaccount.com"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Store(store.Store):
    def __init__(self):
        super().__init__(Call)
        self.generation = 0
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

    def lets_in(self, call) -> bool:
        """Whether the token was signed with the account's key, for this store's scope, and is in force."""
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        try:
            head, claims, signature = token.split(".")
            signed = f"{head}.{claims}".encode()
            self.key.public_key().verify(unpadded(signature), signed, padding.PKCS1v15(), hashes.SHA256())
            head, claims = json.loads(unpadded(head)), json.loads(unpadded(claims))
        except (ValueError, InvalidSignature):
            return False
        known = scheme == "Bearer" and head["alg"] == "RS256" and head["kid"] == "key-1" and claims["iss"] == ACCOUNT
        return known and SCOPE in claims["scope"].split() and claims["iat"] <= time.time() + 60 < claims["exp"]


class Call(store.Call):
    server: Store

    def get_bucket(self, objects, _name, _body):
        after = self.query.get("continuation-token") or self.query.get("start-after", "")
        names, more = self.listed(objects, self.query.get("prefix", ""), after)
        found = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(objects[name])}</Size>"
            f"<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>{escape(store.digits(objects[name]))}</ETag>"
            "</Contents>"
            for name in names
        )
        more = f"<NextContinuationToken>{escape(more)}</NextContinuationToken>" if more else ""
        self.answer(200, f"<ListBucketResult>{found}{more}</ListBucketResult>".encode())

    def put_object(self, objects, name, body):
        self.server.generation += 1
        about = {"ETag": store.digits(body), "x_goog_generation": str(self.server.generation)}
        if upload := self.query.get("uploadId"):
            if upload not in self.server.uploads:
                return self.fail(404, "NoSuchUpload")
            self.server.uploads[upload][int(self.query["partNumber"])] = body
            return self.answer(200, **about)
        if self.headers.get("x-goog-if-generation-match") == "0" and name in objects:
            return self.fail(412, "PreconditionFailed")
        if source := self.headers.get("x-goog-copy-source"):
            bucket, _, other = source.partition("/")
            body = self.server.buckets[urllib.parse.unquote(bucket)][urllib.parse.unquote(other)]
        objects[name] = body
        return self.answer(200, **about)

    def post_object(self, objects, name, body):
        if "uploads" in self.query:
            self.server.generation += 1
            upload = f"upload-{self.server.generation}"
            self.server.uploads[upload] = {}
            begun = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, begun.encode())
        parts = self.server.uploads.pop(self.query.get("uploadId"), None)
        if parts is None:
            return self.fail(404, "NoSuchUpload")
        numbers = [int(part.findtext("PartNumber")) for part in ElementTree.fromstring(body)]
        objects[name] = b"".join(parts[number] for number in numbers)
        etag = escape(store.digits(objects[name]))
        done = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>"
        return self.answer(200, done.encode(), x_goog_generation=str(self.server.generation))

    def delete_object(self, objects, name, _body):
        if upload := self.query.get("uploadId"):
            self.server.uploads.pop(upload, None)
        elif objects.pop(name, None) is None:
            return self.fail(404, "NoSuchKey")
        return self.answer(204)
