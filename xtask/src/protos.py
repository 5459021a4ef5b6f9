"""Makes the descriptor set of the Vertex AI v1 API that `crates/api` embeds.

The protos come from the npm package @google-cloud/aiplatform (Apache-2.0), google/api and its like from the PyPI
package googleapis-common-protos; grpcio-tools compiles them. Run by `cargo xtask protos`, in a fresh virtual
environment that it makes for the purpose; needs `npm` on the path. Arguments: the work directory, the output file.
"""

import pathlib
import shutil
import subprocess
import sys
import tarfile
import venv

NPM_PACKAGE = "@google-cloud/aiplatform@7.4.0"
PYPI_PACKAGES = ["grpcio-tools==1.85.1", "googleapis-common-protos==1.76.0"]
VERTEX = "google/cloud/aiplatform/v1"
SERVICES = ["dataset", "endpoint", "job", "metadata", "model", "pipeline", "prediction", "tensorboard"]
TASKS = ["automl_tables", "automl_text_classification"]


def main(work: pathlib.Path, output: pathlib.Path) -> None:
    work.mkdir(parents=True, exist_ok=True)
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        venv.create(work / "venv", with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PYPI_PACKAGES], check=True)
    packed = subprocess.run(["npm", "pack", "--silent", NPM_PACKAGE], cwd=work, check=True, capture_output=True, text=True)
    with tarfile.open(work / packed.stdout.split()[-1]) as archive:
        archive.extractall(work, filter="data")
    vertex = work / "package" / "build" / "protos"

    common = subprocess.run(
        [python, "-c", "import google.rpc, os; print(os.path.dirname(os.path.dirname(list(google.rpc.__path__)[0])))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()
    # The wheel names this file differently from what the others import.
    renamed = work / "renamed"
    (renamed / "google/longrunning").mkdir(parents=True, exist_ok=True)
    shutil.copy(f"{common}/google/longrunning/operations_proto.proto", renamed / "google/longrunning/operations.proto")

    sources = [f"{VERTEX}/{name}_service.proto" for name in SERVICES]
    sources += [f"{VERTEX}/schema/trainingjob/definition/{name}.proto" for name in TASKS]
    sources += ["google/longrunning/operations.proto"]
    subprocess.run(
        [python, "-m", "grpc_tools.protoc", f"-I{renamed}", f"-I{vertex}", f"-I{common}", "--include_imports",
         f"--descriptor_set_out={output}", *sources],
        check=True,
    )


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).absolute(), pathlib.Path(sys.argv[2]).absolute())
