"""`/openapi.json` as a client of it sees the server: what schemathesis makes of it is refused or answered, never a failure."""

import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RUN_SECONDS = 110
OPERATIONS_MIN = 200


def test_roles_that_read_have_it(server):
    assert server.ask("GET", "/openapi.json", key="mk_0_0").status_code == 401
    assert server.ask("GET", "/openapi.json", key=server.new_key("auditor")).status_code == 403
    document = server.ask("GET", "/openapi.json", key=server.new_key("viewer")).json()
    assert document["openapi"].startswith("3.1")
    predict = document["paths"]["/v1/projects/{project}/locations/{location}/endpoints/{endpoint}:predict"]["post"]
    assert predict["x-permission"] == "invoke"
    assert document["paths"]["/health/live"]["get"]["security"] == []


def test_what_is_described_is_taken_and_nothing_else(server):
    document = server.ask("GET", "/openapi.json").json()
    bodies = 0
    for path, item in document["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {})
        schema = content.get("application/json", {}).get("schema", {})
        for example in schema.get("examples", []):
            bodies += 1
            # Read as a whole: what is missing is the model.
            assert server.ask("POST", path, json=example).status_code == 404, (path, example)
            assert set(example) <= set(schema["properties"])
            for name in schema["required"]:
                without = {key: value for key, value in example.items() if key != name}
                assert server.ask("POST", path, json=without).status_code == 400, (path, name)
            refused = server.ask("POST", path, json=example | {"frobnicate": 1})
            assert refused.status_code == 400 and "frobnicate" in refused.text
    assert bodies >= 12
    usage = document["paths"]["/admin/v1/usage"]["get"]["parameters"]
    ask = lambda name: server.ask("GET", f"/admin/v1/usage?{name}=x").text  # noqa: E731
    assert len(usage) == 5 and not any("are known here" in ask(parameter["name"]) for parameter in usage)
    assert "are known here" in ask("frobnicate")
    upload = document["paths"]["/v1/projects/{project}/locations/{location}/models:upload"]["post"]["requestBody"]
    assert "artifactUri" in upload["content"]["application/json"]["schema"]["properties"]["model"]["properties"]


def test_nothing_that_is_asked_makes_the_server_fail(server, tmp_path):
    done = subprocess.run(
        [
            pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml",
            "run", f"{server.url}/openapi.json", "--header", f"authorization: Bearer {server.key}",
            "--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--seed", "1",
            "--workers", "1", "--no-shrink", "--continue-on-failure", "--suppress-health-check", "all",
            "--warnings", "off", "--request-timeout", "20",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.stderr()}"
    assert int(re.search(r"Tested: (\d+)", done.stdout)[1]) > OPERATIONS_MIN, done.stdout
    assert "panicked" not in server.stderr()
    # It still serves.
    assert server.ask("GET", "/health/ready").status_code == 200
