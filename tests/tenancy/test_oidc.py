"""Tokens of an identity provider stand for what their claims grant, and for nothing else."""

import base64
import hashlib
import hmac
import http.server
import json
import threading
import time

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from conftest import Server

ISSUER, AUDIENCE = "https://login.example", "meuse"


def part(content: bytes | dict) -> str:
    data = json.dumps(content).encode() if isinstance(content, dict) else content
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, length: int) -> str:
    return part(value.to_bytes(length, "big"))


class Signer:
    """A key pair of an issuer."""

    def __init__(self, key_id: str, algorithm: str = "RS256"):
        self.key_id, self.algorithm = key_id, algorithm
        self.key = rsa.generate_private_key(65537, 2048) if algorithm == "RS256" else ec.generate_private_key(ec.SECP256R1())

    def jwk(self) -> dict:
        public = self.key.public_key().public_numbers()
        if self.algorithm == "RS256":
            return {"kty": "RSA", "use": "sig", "kid": self.key_id, "n": number(public.n, 256), "e": number(public.e, 3)}
        return {"kty": "EC", "crv": "P-256", "kid": self.key_id, "x": number(public.x, 32), "y": number(public.y, 32)}

    def token(self, header: dict | None = None, **claims) -> str:
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 600} | claims
        said = {name: claim for name, claim in said.items() if claim is not None}
        text = f"{part({'alg': self.algorithm, 'kid': self.key_id} | (header or {}))}.{part(said)}"
        if self.algorithm == "RS256":
            signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        else:
            r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
            signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{text}.{part(signature)}"


def settings(keys: str, algorithm: str = "RS256") -> str:
    return f"""
[[issuer]]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithm = "{algorithm}"
keys = "{keys}"
[[issuer.grant]]
claims = {{ groups = "platform", tenant = "acme" }}
project = "*"
role = "admin"
[[issuer.grant]]
claims = {{ groups = "science" }}
project = "lab"
role = "deployer"
[[issuer.grant]]
claims = {{ department = "audit" }}
project = "lab"
role = "auditor"
"""


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("first")


@pytest.fixture(scope="module")
def keys(tmp_path_factory, signer):
    path = tmp_path_factory.mktemp("oidc") / "keys.json"
    path.write_text(json.dumps({"keys": [signer.jwk(), {"kty": "oct", "kid": "x", "k": "AAAA"}]}))
    return path


@pytest.fixture(scope="module")
def trusting(tmp_path_factory, keys):
    (keys.parent / "oidc.toml").write_text(settings("keys.json"))
    server = Server(tmp_path_factory.mktemp("trusting") / "data", "--oidc", str(keys.parent / "oidc.toml"))
    yield server
    assert server.stop() == 0, server.stderr()


def status(server, token: str, path: str = "/v1/projects/lab/locations/us-central1/models", method: str = "GET") -> int:
    return server.call(method, path, token).status_code


def test_claims_grant_a_project_and_a_role(trusting, signer):
    member, auditor, admin = (signer.token(groups=["x", "science"]), signer.token(department="audit"),
                              signer.token(groups=["platform"], tenant="acme"))
    assert status(trusting, member) == 200
    assert status(trusting, member, "/v1/projects/other/locations/us-central1/models") == 403
    assert status(trusting, member, "/admin/v1/keys") == 403
    assert status(trusting, auditor, "/admin/v1/audit") == 200 and status(trusting, auditor) == 403
    assert status(trusting, admin, "/admin/v1/keys") == 200
    made = trusting.call("POST", "/v1/projects/lab/locations/us-central1/endpoints", member, {"displayName": "e"})
    assert made.status_code == 200
    act = [entry for entry in trusting.entries() if entry["event"] == "act" and "endpoints" in entry["what"]][-1]
    assert (act["key"], act["role"], act["project"]) == (f"{ISSUER}#ada", "deployer", "lab")
    # Two claims of one grant are both needed; what grants nothing opens nothing.
    assert status(trusting, signer.token(groups="platform")) == 401
    assert status(trusting, signer.token()) == 401
    assert status(trusting, trusting.key) == 200


def test_what_nobody_vouches_for_is_refused(trusting, signer):
    member, now, other = {"groups": ["science"]}, int(time.time()), Signer("first")
    good = signer.token(**member)
    head, body, signature = good.split(".")
    public = signer.key.public_key().public_numbers()
    confused = f"{part({'alg': 'HS256', 'kid': 'first'})}.{body}"
    confused += "." + part(hmac.new(number(public.n, 256).encode(), confused.encode(), hashlib.sha256).digest())
    wrong = {
        "another's signature": other.token(**member),
        "no signature": f"{part({'alg': 'none', 'kid': 'first'})}.{body}.",
        "an empty signature": f"{head}.{body}.",
        "the public key as a secret": confused,
        "another algorithm": Signer("first", "ES256").token(**member),
        "an unknown key": signer.token({"kid": "second"}, **member),
        "no key": signer.token({"kid": ""}, **member),
        "a key in the header": other.token({"jwk": other.jwk()}, **member),
        "an address in the header": other.token({"jku": "https://evil.example/keys"}, **member),
        "a critical extension": signer.token({"crit": ["b64"], "b64": False}, **member),
        "other claims": f"{head}.{part({'iss': ISSUER, 'aud': AUDIENCE, 'sub': 'ada', 'groups': ['platform'], 'tenant': 'acme', 'iat': now, 'exp': now + 600})}.{signature}",
        "another audience": signer.token(aud="elsewhere", **member),
        "no audience": signer.token(aud=None, **member),
        "another issuer": signer.token(iss="https://evil.example", **member),
        "an issuer with a slash": signer.token(iss=ISSUER + "/", **member),
        "no subject": signer.token(sub=None, **member),
        "a long subject": signer.token(sub="a" * 200, **member),
        "expired": signer.token(exp=now - 1, **member),
        "no end": signer.token(exp=None, **member),
        "no beginning": signer.token(iat=None, **member),
        "for ever": signer.token(exp=now + 10**9, **member),
        "not yet": signer.token(nbf=now + 3600, **member),
        "a text as time": signer.token(exp=str(now + 600), **member),
        "longer than any": signer.token(padding="a" * 20_000, **member),
    }
    assert status(trusting, good) == 200
    for what, token in wrong.items():
        assert status(trusting, token) == 401, what
    for audience in (["a", AUDIENCE], AUDIENCE):
        assert status(trusting, signer.token(aud=audience, **member)) == 200
    assert signer.token(**member).split(".")[2] not in trusting.stderr()


def test_the_issuers_keys_may_change(tmp_path, signer):
    """At an address, as issuers do it: the new key counts soon after it is first seen, the old one no longer."""
    published = {"keys": [signer.jwk()]}

    class Host(http.server.BaseHTTPRequestHandler):
        asked = 0

        def do_GET(self):
            Host.asked += 1
            body = json.dumps(published).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host)
    threading.Thread(target=host.serve_forever, daemon=True).start()
    (tmp_path / "oidc.toml").write_text(settings(f"http://127.0.0.1:{host.server_port}/keys", "RS256"))
    server = Server(tmp_path / "data", "--oidc", str(tmp_path / "oidc.toml"))
    member = {"groups": ["science"]}
    assert status(server, signer.token(**member)) == 200
    second = Signer("second")
    published["keys"] = [second.jwk()]
    deadline = time.monotonic() + 30
    while status(server, second.token(**member)) != 200:
        assert time.monotonic() < deadline, server.stderr()
        time.sleep(0.2)
    assert status(server, signer.token(**member)) == 401
    # Many tokens with keys that nobody knows ask the issuer no more often.
    asked = Host.asked
    for i in range(50):
        assert status(server, second.token({"kid": f"unknown{i}"}, **member)) == 401
    assert Host.asked - asked <= 2
    # While the issuer is out of reach, the keys that are known go on to count.
    host.shutdown()
    host.server_close()
    status(server, second.token({"kid": "unknown"}, **member))
    time.sleep(6)
    assert status(server, second.token(**member)) == 200
    assert server.stop() == 0


@pytest.mark.parametrize("text", [
    "issuer = 1", "", "[[issuer]]\nissuer = \"x\"", settings("keys.json", "HS256"), settings("keys.json", "none"),
    settings("keys.json").replace('role = "admin"', 'role = "root"'), settings("keys.json").replace('"lab"', '"../lab"'),
    settings("keys.json") + "extra = 1", settings("ftp:// x"),
])
def test_a_file_that_says_something_else_is_refused(tmp_path, text):
    (tmp_path / "oidc.toml").write_text(text)
    with pytest.raises(AssertionError, match="oidc.toml"):
        Server(tmp_path / "data", "--oidc", str(tmp_path / "oidc.toml"))
