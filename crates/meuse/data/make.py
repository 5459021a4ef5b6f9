#!/usr/bin/env python3
"""Makes the quickstart's data set out of WordNet 3.0: definitions of nouns, and what kind of thing each is.

    python3 make.py                    # fetches Debian's package wordnet-base (needs apt-get and dpkg-deb)
    python3 make.py path/to/data.noun  # or takes the file from where you have it

Writes train.csv (400 rows a class) and heldout.csv (100 rows a class), columns `text,class`, beside itself.
The same data.noun gives the same bytes: rows are drawn and shuffled by the SHA-256 of their text.

Source: WordNet 3.0, Princeton University (https://wordnet.princeton.edu), under the licence in
LICENSE.wordnet. Changes made: a sample of ten classes, each gloss cut before its first example sentence.
"""

import csv
import hashlib
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
DATA_NOUN_SHA256 = "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2"

# The class is the lexicographer file that the noun's sense was entered in (see lexnames(5WN)).
CLASSES = {
    5: "animal",
    6: "artifact",
    8: "body",
    13: "food",
    15: "location",
    18: "person",
    20: "plant",
    21: "possession",
    23: "quantity",
    28: "time",
}
TRAIN_PER_CLASS, HELDOUT_PER_CLASS = 400, 100
WORDS_MIN, WORDS_MAX = 6, 24

# A demonstration needs no slurs: senses that WordNet itself marks so, and their neighbours, are left out.
UNWANTED = re.compile(
    r"offensive|disparag|derogat|slur|obscen|vulgar|sex|prostitut|genital|penis|vagina|rape|nazi|negro|slave", re.I
)


def data_noun() -> bytes:
    """WordNet's noun file: the one named on the command line, or the one in Debian's package."""
    if len(sys.argv) > 1:
        return pathlib.Path(sys.argv[1]).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["apt-get", "download", "-q", "wordnet-base"], cwd=folder, check=True)
        package = next(pathlib.Path(folder).glob("wordnet-base*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, "."], cwd=folder, check=True)
        return (pathlib.Path(folder) / "usr/share/wordnet/data.noun").read_bytes()


def definition(gloss: str) -> str:
    """The gloss without its example sentences, which stand in quotes at its end."""
    return re.split(r'\s*;?\s*"', gloss.strip())[0].strip(" ;")


def rows_by_class(text: str) -> dict[str, set[str]]:
    """Usable definitions of every class; one that occurs in two classes belongs to neither."""
    found: dict[str, set[str]] = {name: set() for name in CLASSES.values()}
    owner: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith(" ") or " | " not in line:
            continue
        fields, gloss = line.split(" | ", 1)
        name = CLASSES.get(int(fields.split()[1]))
        row = definition(gloss)
        if name is None or not WORDS_MIN <= len(row.split()) <= WORDS_MAX or UNWANTED.search(row):
            continue
        if owner.setdefault(row, name) == name:
            found[name].add(row)
        else:
            found[owner[row]].discard(row)
    return found


def order(row: str) -> bytes:
    """A fixed shuffle: where `row` stands among the others."""
    return hashlib.sha256(row.encode()).digest()


def write(path: pathlib.Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["text", "class"])
        # Hashed with a suffix, so that the order in the file says nothing about the order of drawing.
        writer.writerows(sorted(rows, key=lambda row: order(row[0] + "#order")))
    print(f"{path.name}: {len(rows)} rows, {path.stat().st_size} bytes")


def main() -> None:
    noun = data_noun()
    digest = hashlib.sha256(noun).hexdigest()
    if digest != DATA_NOUN_SHA256:
        sys.exit(f"data.noun has SHA-256 {digest}, expected {DATA_NOUN_SHA256}: is it WordNet 3.0?")
    train, heldout = [], []
    for name, rows in rows_by_class(noun.decode("utf-8")).items():
        drawn = sorted(rows, key=order)[: TRAIN_PER_CLASS + HELDOUT_PER_CLASS]
        if len(drawn) < TRAIN_PER_CLASS + HELDOUT_PER_CLASS:
            sys.exit(f"{name}: only {len(drawn)} rows")
        train += [(row, name) for row in drawn[:TRAIN_PER_CLASS]]
        heldout += [(row, name) for row in drawn[TRAIN_PER_CLASS:]]
    write(HERE / "train.csv", train)
    write(HERE / "heldout.csv", heldout)


if __name__ == "__main__":
    main()
