"""The quickstart does all it says, and again on the same directory."""

import json

from conftest import Cli


def test_quickstart_twice(tmp_path):
    cli = Cli(tmp_path)
    text = cli.run("quickstart", "--exit", "--listen", "127.0.0.1:0").stdout
    for step in ("server", "data", "train", "deploy", "evaluate", "batch", "predict", "explain"):
        assert f" {step} " in text
    assert "always the commonest class" in text and "Everything worked" in text
    assert "curl -s http://127.0.0.1:" in text and "aiplatform.init(" in text

    again = json.loads(cli.run("quickstart", "--exit", "--listen", "127.0.0.1:0", "--json").stdout)
    assert again["versions"] == ["3", "4"]
    assert sorted(again["trafficSplit"].values()) == [10, 90]
    assert again["batch"]["rows"] == 1000
    assert again["majorityBaseline"] == 0.1
    assert all(accuracy > 0.5 for accuracy in again["accuracy"].values())
    assert again["prediction"]["label"] == "animal"
    assert again["explanation"]["label"] == "animal"
