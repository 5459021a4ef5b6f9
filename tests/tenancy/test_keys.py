"""Keys reach as far as they were made for: project, role, models, networks, time; and are rotated without a gap."""

import datetime
import pathlib
import re
import time

import pytest

from conftest import LOCATION, Server


def made(server, *options) -> dict:
    return server.json("keys", "create", *options)


def test_roles_reach_what_their_table_says(server, topics, tmp_path):
    server.call("POST", "/storage/v1/b?project=default", body={"name": "role-data"})
    server.call("POST", "/upload/storage/v1/b/role-data/o?uploadType=media&name=x", body=b"content")
    questions = {
        "read": ("GET", f"/v1/projects/default/locations/{LOCATION}/models"),
        "look": ("GET", "/v1/models"),
        "invoke": ("POST", f"/v1/projects/default/locations/{LOCATION}/endpoints/{topics}:predict"),
        "fetch": ("GET", "/download/storage/v1/b/role-data/o/x?alt=media"),
        "store": ("POST", "/upload/storage/v1/b/role-data/o?uploadType=media&name=y"),
        "write": ("POST", f"/v1/projects/default/locations/{LOCATION}/endpoints"),
        "administer": ("GET", "/admin/v1/keys"),
        "audit": ("GET", "/admin/v1/audit"),
    }
    bodies = {"invoke": {"instances": ["a wren"]}, "write": {"displayName": "made"}}
    granted = {
        "viewer": {"read", "look"},
        "invoker": {"read", "look", "invoke"},
        "deployer": {"read", "look", "invoke", "fetch", "store", "write"},
        "admin": set(questions),
        "auditor": {"audit"},
    }
    for role, rights in granted.items():
        key = server.new_key(role)
        for right, (method, path) in questions.items():
            status = server.call(method, path, key, bodies.get(right, {})).status_code
            assert status == (200 if right in rights else 403), (role, right, status)


def test_a_key_bound_to_models_asks_these_and_knows_of_no_others(server, topics, smol, tmp_path):
    server.train(tmp_path, "others")
    key = made(server, "--role", "invoker", "--model", topics)["key"]
    both = made(server, "--role", "invoker", "--model", topics, "--model", smol)["key"]
    assert server.predict(topics, key).status_code == 200
    assert server.call("GET", f"/v1/projects/default/locations/{LOCATION}/endpoints/{topics}", key).status_code == 200
    # What is there and what is not are refused alike.
    tensors = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["x"]}]}
    for path in (f"/v1/projects/default/locations/{LOCATION}/endpoints/NAME:predict", "/v2/models/NAME/infer",
                 "/v1/models/NAME:predict", "/mlflow/NAME/invocations"):
        body = tensors if "/v2/" in path else {"instances": ["x"]}
        json_body = {"content-type": "application/json"}
        there = server.call("POST", path.replace("NAME", "others"), key, body, headers=json_body)
        gone = server.call("POST", path.replace("NAME", "absent"), key, body, headers=json_body)
        assert there.status_code == gone.status_code and there.status_code in (403, 404), there.text
        assert there.text.replace("others", "absent") == gone.text
    there, gone = server.chat(smol, "x", key), server.chat("absent", "x", key)
    assert there.status_code == gone.status_code == 404 and there.text.replace(smol, "absent") == gone.text
    assert server.chat(smol, "x", both).status_code == 200
    listed = lambda key: {model["id"] for model in server.call("GET", "/v1/models", key).json()["data"]}  # noqa: E731
    assert (listed(key), listed(both)) == (set(), {smol})
    names = [model["name"] for model in server.call("GET", "/api/tags", key).json()["models"]]
    assert names == []
    for method, path in (("GET", f"/v1/projects/default/locations/{LOCATION}/models"), ("GET", "/storage/v1/b"),
                         ("GET", "/v1/files"), ("POST", "/v2/repository/index"),
                         # A location that is called like a collection leads nowhere else.
                         ("GET", f"/v1/projects/default/locations/endpoints/models/{topics}x"),
                         ("GET", f"/v1/projects/default/locations/models/{topics}/others")):
        assert server.call(method, path, key).status_code in (403, 404), path
    refused = server.command("keys", "create", "--role", "deployer", "--model", topics, code=1)
    assert "only an invoker" in refused.stderr


def test_a_key_bound_to_networks_comes_from_there(server):
    near = made(server, "--role", "viewer", "--from", "127.0.0.0/8", "--from", "2001:db8::/32")["key"]
    afar = made(server, "--role", "viewer", "--from", "203.0.113.0/24")["key"]
    assert server.call("GET", "/v1/models", near).status_code == 200
    refused = server.call("GET", "/v1/models", afar)
    assert refused.status_code == 401
    # What a client says of itself changes nothing.
    for header in ("x-forwarded-for", "forwarded", "x-real-ip"):
        assert server.call("GET", "/v1/models", afar, headers={header: "203.0.113.7"}).status_code == 401
    assert "no network" in server.command("keys", "create", "--role", "viewer", "--from", "10.1.0.0/8", code=2).stderr


def test_a_rotated_key_works_on_for_the_overlap_and_no_longer(server):
    key = made(server, "--role", "viewer")
    works = lambda secret: server.call("GET", "/v1/models", secret).status_code == 200  # noqa: E731
    second = server.json("keys", "rotate", key["id"], "--overlap", "2s")
    assert second["id"] == key["id"] and second["key"] != key["key"]
    assert works(key["key"]) and works(second["key"])
    # Rotated again, the first secret is over at once, whatever was said of it.
    third = server.json("keys", "rotate", key["id"], "--overlap", "2s")
    assert not works(key["key"]) and works(second["key"]) and works(third["key"])
    time.sleep(2.1)
    assert not works(second["key"]) and works(third["key"])
    fourth = server.json("keys", "rotate", key["id"])
    assert not works(third["key"]) and works(fourth["key"])
    server.command("keys", "delete", key["id"])
    assert not works(fourth["key"])
    assert "no key" in server.command("keys", "rotate", "0123456789abcdef", code=1).stderr
    assert "30 days" in server.command("keys", "rotate", made(server, "--role", "viewer")["id"], "--overlap", "60d", code=1).stderr


def test_keys_outlive_the_process_and_are_nowhere_on_disk(tmp_path):
    server = Server(tmp_path / "data")
    key = made(server, "--role", "invoker", "--model", "m")
    rotated = server.json("keys", "rotate", key["id"], "--overlap", "1h")
    assert server.call("GET", "/v1/models", rotated["key"]).status_code == 200
    before = {info["id"]: info for info in server.json("keys", "list")["keys"]}[key["id"]]
    used = datetime.datetime.fromisoformat(before["lastUsed"])
    assert abs((datetime.datetime.now(datetime.UTC) - used).total_seconds()) < 130
    assert server.stop() == 0
    server.start()
    after = {info["id"]: info for info in server.json("keys", "list")["keys"]}[key["id"]]
    assert after == before and after["models"] == ["m"]
    for secret in (key["key"], rotated["key"]):
        assert server.call("GET", "/v1/models", secret).status_code == 200
    server.kill()
    secrets = [secret.split("_", 2)[2].encode() for secret in (key["key"], rotated["key"])]
    for path in [*server.data.rglob("*"), tmp_path / "data.log"]:
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret in content for secret in secrets), path


def test_projects_admins_handle_their_own_keys_only(server):
    own = made(server, "--role", "admin", "--project", "guild")
    stranger = made(server, "--role", "viewer", "--project", "elsewhere")
    assert server.call("POST", "/admin/v1/keys", own["key"], {"project": "guild", "role": "viewer"}).status_code == 200
    for project in ("elsewhere", "nobodys", "*"):
        assert server.call("POST", "/admin/v1/keys", own["key"], {"project": project, "role": "viewer"}).status_code == 403
    listed = server.call("GET", "/admin/v1/keys", own["key"]).json()["keys"]
    assert {key["project"] for key in listed} == {"guild"}
    for method, verb in (("DELETE", ""), ("POST", ":rotate")):
        there = server.call(method, f"/admin/v1/keys/{stranger['id']}{verb}", own["key"])
        gone = server.call(method, f"/admin/v1/keys/0123456789abcdef{verb}", own["key"])
        assert there.status_code == gone.status_code == 404
        assert re.sub("[0-9a-f]{16}", "ID", there.text) == re.sub("[0-9a-f]{16}", "ID", gone.text)


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", {"project": "p"}, {"project": "p", "role": "root"}, {"project": "../p", "role": "viewer"},
    {"project": "p", "role": "viewer", "networks": ["10.0.0.0/99"]}, {"project": "p", "role": "viewer", "networks": "10.0.0.1"},
    {"project": "p", "role": "invoker", "models": ["a/b"]}, {"project": "p", "role": "invoker", "models": ["m"] * 1000},
    {"project": "p", "role": "viewer", "expires": "yesterday"}, {"project": "p", "role": "viewer", "expires": "2001-01-01T00:00:00Z"},
    {"project": "p", "role": "viewer", "scopes": []}, {"project": "p", "role": "viewer", "models": [1]},
])
def test_what_describes_no_key_is_refused(server, body):
    before = len(server.json("keys", "list")["keys"])
    answer = server.call("POST", "/admin/v1/keys", body=body)
    assert answer.status_code == 400 and answer.json()["error"]["message"], answer.text
    assert len(server.json("keys", "list")["keys"]) == before


def test_keys_are_in_no_argument_no_environment_and_no_help(server):
    """The program makes its keys itself and keeps them in a file; what it prints of settings leaves them out."""
    secret = server.key.rsplit("_", 1)[1]
    for file in ("cmdline", "environ"):
        assert secret not in pathlib.Path(f"/proc/{server.process.pid}/{file}").read_text()
    for command in (["--help"], ["predict", "--help"], ["serve", "--help"], ["doctor"], ["doctor", "--json"]):
        # With the key in the command's own environment.
        done = server.command(*command)
        assert secret not in done.stdout + done.stderr, command
