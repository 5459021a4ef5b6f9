"""Whoever forges a statement, asks for another host, or comes from elsewhere."""

import base64
import hashlib
import hmac
import json
import pathlib
import socket
import ssl
import time

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from conftest import PROJECT
from served import Server

SECONDS = 20
API = "https://aiplatform.googleapis.com/"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


def part(data: bytes | dict) -> str:
    data = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """Makes statements of a service account, right ones and others."""

    def __init__(self, account: dict[str, str]):
        self.account = account
        self.key = serialization.load_pem_private_key(account["private_key"].encode(), None)

    def header(self, **changes) -> dict:
        return {"alg": "RS256", "typ": "JWT", "kid": self.account["private_key_id"]} | changes

    def claims(self, **changes) -> dict:
        now, email = int(time.time()), self.account["client_email"]
        claims = {"iss": email, "sub": email, "aud": API, "iat": now, "exp": now + 3600} | changes
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, text: str, key=None) -> str:
        signature = (key or self.key).sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{part(signature)}"

    def statement(self, key=None, **changes) -> str:
        return self.sign(f"{part(self.header())}.{part(self.claims(**changes))}", key)


@pytest.fixture(scope="module")
def signer(account) -> Signer:
    return Signer(account)


@pytest.fixture
def opens(server):
    """The status with which a credential is answered."""
    path = f"/v1/projects/{PROJECT}/locations/us-central1/models"
    return lambda credential: server.ask("GET", path, key=credential).status_code


def test_a_statement_opens_its_project(server, signer, opens):
    assert opens(signer.statement()) == 200
    assert opens(signer.statement(aud=None, scope="https://www.googleapis.com/auth/cloud-platform")) == 200
    other = server.ask("GET", "/v1/projects/other/locations/us-central1/models", key=signer.statement())
    assert other.status_code == 403


def test_a_forged_statement_opens_nothing(signer, opens):
    now = int(time.time())
    claims = part(signer.claims())
    public = signer.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    keyed = f"{part(signer.header(alg='HS256'))}.{claims}"
    good = signer.statement()
    wrong = {
        "no signature": f"{part(signer.header(alg='none'))}.{claims}.",
        "the public key as a secret": f"{keyed}.{part(hmac.digest(public, keyed.encode(), hashlib.sha256))}",
        "another algorithm's name": signer.sign(f"{part(signer.header(alg='RS512'))}.{claims}"),
        "an extension that must be understood": signer.sign(f"{part(signer.header(crit=['b64'], b64=False))}.{claims}"),
        "another key": signer.statement(key=rsa.generate_private_key(65537, 2048)),
        "an unknown key": signer.sign(f"{part(signer.header(kid='0123456789abcdef'))}.{claims}"),
        "no key": signer.sign(f"{part(signer.header(kid=''))}.{claims}"),
        "changed claims": ".".join([good.split(".")[0], part(signer.claims(sub="x")), good.split(".")[2]]),
        "another issuer": signer.statement(iss="admin@meuse.invalid"),
        "another subject": signer.statement(sub="admin@meuse.invalid"),
        "no issuer": signer.statement(iss=None),
        "another audience": signer.statement(aud="https://example.com/"),
        "an audience that looks like one": signer.statement(aud="https://evil.org/.googleapis.com/"),
        "a list of audiences": signer.statement(aud=[API]),
        "neither audience nor scope": signer.statement(aud=None),
        "meant for a token": signer.statement(aud=f"{signer.account['token_uri']}"),
        "a target": signer.statement(target_audience="https://example.com"),
        "expired": signer.statement(iat=now - 3700, exp=now - 100),
        "too long": signer.statement(exp=now + 7200),
        "not yet": signer.statement(iat=now + 600, exp=now + 1200),
        "for ever": signer.statement(iat=now, exp=1e300),
        "of no time": signer.statement(exp=None),
        "no JSON": signer.sign(f"{part(b'x')}.{part(b'x')}"),
        "long": signer.statement(aud=None, scope="x" * 20_000),
        "dots": "...",
    }
    assert {name: opens(text) for name, text in wrong.items()} == dict.fromkeys(wrong, 401)


def token(server, assertion: str, grant: str = GRANT) -> requests.Response:
    return requests.post(f"{server.url}/token", data={"grant_type": grant, "assertion": assertion}, timeout=SECONDS)


def test_a_token_is_given_for_a_statement_that_asks_for_one(server, signer, opens):
    given = token(server, signer.statement(aud=signer.account["token_uri"], scope="x"))
    assert given.status_code == 200 and given.headers["cache-control"] == "no-store", given.text
    reply = given.json()
    assert reply["token_type"] == "Bearer" and 60 < reply["expires_in"] <= 3600
    assert opens(reply["access_token"]) == 200
    assert opens(reply["access_token"][:-2] + "xx") == 401
    for assertion, grant in [
        (signer.statement(), GRANT),
        (signer.statement(aud="https://example.com/token"), GRANT),
        (signer.statement(aud=signer.account["token_uri"], exp=int(time.time()) - 1), GRANT),
        ("", GRANT),
        (signer.statement(aud=signer.account["token_uri"]), "client_credentials"),
    ]:
        refused = token(server, assertion, grant)
        assert refused.status_code == 400 and refused.json()["error"] in ("invalid_grant", "unsupported_grant_type")
        assert "access_token" not in refused.json()
    assert requests.post(f"{server.url}/token", data=b"\xff", timeout=SECONDS).status_code == 400
    pieces = iter([b"x" * 1000] * 1000)
    for large in (b"x" * (1 << 20), pieces):
        assert requests.post(f"{server.url}/token", data=large, timeout=SECONDS).status_code == 413


def test_a_withdrawn_account_opens_nothing(server, opens):
    path = server.json("env", "vertex", "--data-dir", server.data, "--project", "gone")
    account = json.loads(pathlib.Path(path["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())
    signer = Signer(account)
    given = token(server, signer.statement(aud=account["token_uri"])).json()["access_token"]
    reach = lambda credential: server.ask(  # noqa: E731
        "GET", "/v1/projects/gone/locations/us-central1/models", key=credential
    ).status_code
    assert reach(signer.statement()) == reach(given) == 200
    server.command("keys", "delete", account["private_key_id"])
    assert reach(signer.statement()) == reach(given) == 401
    assert token(server, signer.statement(aud=account["token_uri"])).status_code == 400


def connect(server, sent: bytes, address: str = "127.0.0.1") -> bytes:
    """What is answered first to these bytes."""
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection((address, port), timeout=SECONDS) as stream:
        try:
            stream.sendall(sent)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return stream.recv(4096)


def asks(host: str) -> bytes:
    return f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def test_other_hosts_are_refused_by_name(server, variables):
    assert connect(server, asks("storage.googleapis.com:443")).startswith(b"HTTP/1.1 200 ")
    for host in [
        "example.com:443", "169.254.169.254:80", "127.0.0.1:22", "storage.googleapis.com:22",
        "googleapis.com.example.com:443", "xgoogleapis.com:443",
    ]:
        said = connect(server, asks(host))
        assert said.startswith(b"HTTP/1.1 403 ") and host.encode() in said, said
    for sent, code in [
        (b"CONNECT " + b"a" * (1 << 20) + b".googleapis.com:443 HTTP/1.1\r\n\r\n", b"431"),
        (asks("storage.googleapis.com:443") + b"\x16\x03\x01", b"400"),
        (b"CONNECT / HTTP/1.1\r\n\r\n", b"400"),
        (b"COPY / HTTP/1.1\r\n\r\n", b"400"),
    ]:
        said = connect(server, sent)
        assert said.startswith(b"HTTP/1.1 " + code), (sent[:60], said)
    assert server.ask("GET", "/health/live").status_code == 200


def test_a_program_is_told_which_host_it_may_not_reach(server, variables):
    proxies = {"https": server.url}
    with pytest.raises(requests.exceptions.ProxyError, match="example.com.*--direct"):
        requests.get("https://example.com/", proxies=proxies, timeout=SECONDS)


def test_without_a_key_the_other_side_is_as_closed_as_ever(server, variables):
    """The proxy leads to the same server: a route needs the same key."""
    ask = lambda **options: requests.get(  # noqa: E731
        f"https://us-central1-aiplatform.googleapis.com/v1/projects/{PROJECT}/locations/us-central1/models",
        proxies={"https": server.url}, verify=variables["REQUESTS_CA_BUNDLE"], timeout=SECONDS, **options,
    )
    assert ask().status_code == 401
    assert ask(headers={"authorization": f"Bearer {server.key}"}).status_code == 200


class Everywhere(Server):
    listen = "0.0.0.0:0"


def test_from_elsewhere_nobody_is_led(tmp_path):
    """On an address that other machines reach, CONNECT leads nowhere for who comes by it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        own = probe.getsockname()[0]
    if own.startswith("127."):
        pytest.skip("this machine has no address but its own")
    server = Everywhere(tmp_path / "data", "--insecure-listen")
    try:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        server.json("env", "vertex", "--data-dir", server.data)
        wanted = asks("storage.googleapis.com:443")
        assert connect(server, wanted).startswith(b"HTTP/1.1 200 ")
        assert not connect(server, wanted, own).startswith(b"HTTP/1.1 200 ")
    finally:
        assert server.stop() == 0, server.stderr()


def test_the_authority_vouches_for_nobody_else(server, variables, tmp_path):
    pem = pathlib.Path(variables["REQUESTS_CA_BUNDLE"]).read_bytes()
    (authority,) = x509.load_pem_x509_certificates(pem)
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    names = [name.value for name in limits.value.permitted_subtrees if isinstance(name, x509.DNSName)]
    assert sorted(names) == ["googleapis.com", "localhost", "pkg.dev"]
    blocks = [str(name.value) for name in limits.value.permitted_subtrees if isinstance(name, x509.IPAddress)]
    assert sorted(blocks) == ["127.0.0.0/8", "::1/128"]
    basic = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert basic.ca and basic.path_length == 0

    # Whoever has stolen its key can still not be another host for a program that trusts it.
    key = serialization.load_pem_private_key((server.data / "cloud" / "ca.key").read_bytes(), None)
    for name, believed in [("storage.googleapis.com", True), ("example.com", False)]:
        theirs = rsa.generate_private_key(65537, 2048)
        forged = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([])).issuer_name(authority.subject).public_key(theirs.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(authority.not_valid_before_utc).not_valid_after(authority.not_valid_after_utc)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
            .sign(key, hashes.SHA256())
        )
        assert is_believed(name, forged, theirs, variables["SSL_CERT_FILE"], tmp_path) == believed, name


def is_believed(name: str, certificate: x509.Certificate, key, trusted: str, directory: pathlib.Path) -> bool:
    """Whether a program that trusts these authorities speaks to a server of this name with this certificate."""
    pem, file = serialization.Encoding.PEM, directory / f"{name}.pem"
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + certificate.public_bytes(pem))
    ours, theirs = ssl.create_default_context(cafile=trusted), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Newer rules want more of a certificate than is forged here.
    ours.verify_flags &= ~ssl.VERIFY_X509_STRICT
    theirs.load_cert_chain(file)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ours.wrap_bio(back, there, server_hostname=name)
    server = theirs.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                assert "subtree" in str(error), error
                return False
    return client.version() is not None


def test_names_choose_certificates(server, variables):
    context = ssl.create_default_context(cafile=variables["SSL_CERT_FILE"])
    port = int(server.url.rsplit(":", 1)[1])
    for name in ["localhost", "127.0.0.1", "us-kfp.pkg.dev", "a.b.googleapis.com"]:
        with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as raw:
            with context.wrap_socket(raw, server_hostname=name) as secure:
                assert secure.getpeercert()
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as raw:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(raw, server_hostname="example.com")
