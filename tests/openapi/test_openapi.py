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


def test_nothing_that_is_asked_makes_the_server_fail(server, tmp_path):
    done = subprocess.run(
        [
            pathlib.Path(sys.executable).parent / "schemathesis", "--config-file", HERE / "schemathesis.toml",
            "run", f"{server.url}/openapi.json", "--header", f"authorization: Bearer {server.key}",
            "--checks", "not_a_server_error", "--phases", "coverage,fuzzing", "--max-examples", "3", "--seed", "1",
            "--workers", "2", "--no-shrink", "--continue-on-failure", "--suppress-health-check", "all",
            "--warnings", "off", "--request-timeout", "20",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=RUN_SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{server.stderr()}"
    assert int(re.search(r"Tested: (\d+)", done.stdout)[1]) > OPERATIONS_MIN, done.stdout
    assert "panicked" not in server.stderr()
    # It still serves.
    assert server.ask("GET", "/health/ready").status_code == 200
