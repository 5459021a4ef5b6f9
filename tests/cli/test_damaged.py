"""A model whose stored bytes have changed: never served, and its endpoint says why."""

from conftest import DATA, Cli, Server


def test_a_damaged_model_is_not_served_and_the_client_hears_why(tmp_path):
    cli = Cli(tmp_path)
    server = Server(tmp_path)
    try:
        cli.run("train", DATA / "train.csv", "--name", "frail", "--label", "class", "--text", "text", "--epochs", 1)
        cli.run("deploy", "frail")
        assert "LABEL" in cli.run("predict", "frail", "a bee").stdout
        assert server.stop() == 0
        (model,) = (tmp_path / "meuse-data" / "artifacts").glob("*/files/model.onnx")
        model.chmod(0o644)
        stored = bytearray(model.read_bytes())
        stored[len(stored) // 2] ^= 1
        model.write_bytes(stored)
        server = Server(tmp_path)
        for command in ("predict", "explain"):
            text = cli.error(command, "frail", "a bee")
            assert "damaged" in text and "upload or train the version again" in text, text
        assert cli.run("models").stdout
    finally:
        server.stop()
