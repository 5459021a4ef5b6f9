"""A line without end, from a real file of two gigabytes."""

import re

LINE_BYTES = 2 << 30


def test_a_line_of_two_gigabytes_costs_one_row(cli, server, model, tmp_path):
    """Its row is named as failed, the rows around it are predicted, and the server's memory stays small."""
    big = tmp_path / "big.csv"
    with open(big, "wb") as file:
        file.write(b"text\na bee makes honey\n")
        file.seek(LINE_BYTES, 1)
        file.write(b"\nthe capital of France\n")
    cli.run("batch", model, "--input", big, "--output", tmp_path / "out", timeout_s=600)
    results = {path.name: path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    predicted = "".join(text for name, text in results.items() if "results" in name)
    failed = "".join(text for name, text in results.items() if "error" in name)
    assert "a bee makes honey" in predicted and "the capital of France" in predicted, results
    assert '"row":1' in failed.replace(" ", "") and "16777216" in failed.replace(",", ""), failed
    status = open(f"/proc/{server.process.pid}/status").read()
    assert int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) < 1 << 20, "more than a gigabyte of memory"
