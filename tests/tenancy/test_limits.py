"""The table of limits says what the code says."""

import re

from served import ROOT

ROW = re.compile(r"^\| (?P<what>[^|*]+) \| (?P<limit>[^|]+) \| \[`(?P<code>[^`]+)`\]\(\.\./(?P<path>[^)]+)\) \|$", re.MULTILINE)


def test_the_table_of_limits_says_what_the_code_says():
    rows = list(ROW.finditer((ROOT / "docs" / "limits.md").read_text()))
    assert len(rows) > 40
    for row in rows:
        assert row["code"] in (ROOT / row["path"]).read_text(), row["what"]


def test_every_limit_of_requests_is_in_the_table():
    code = (ROOT / "crates" / "api" / "src" / "http" / "limits.rs").read_text()
    fields = re.findall(r"^    pub (\w+):", code, re.MULTILINE)
    table = (ROOT / "docs" / "limits.md").read_text()
    assert len(fields) > 10
    assert [field for field in fields if f"`{field}: " not in table] == []
