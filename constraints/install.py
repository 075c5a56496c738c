"""Install the project into .venv: `python3 constraints/install.py`. Does nothing when nothing changed.

Picks the CPU or the GPU stack by looking for an NVIDIA driver (STACK=cpu or STACK=gpu overrides it) and installs the
versions pinned in constraints/{cpu,gpu}.txt with uv. Only the standard library is used: this runs before anything is
installed.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
MARKER = VENV / "installed"
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def stop(message: str) -> None:
    """End with a message and status 2."""
    print(f"install: {message}", file=sys.stderr)
    raise SystemExit(2)


def check_platform() -> None:
    """Refuse platforms without wheels before the long part begins."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this file runs on whatever Python there is)
        stop(
            f"Python {platform.python_version()} is too old: 3.11 or newer is needed (try `make PYTHON=python3.11 …`)."
        )
    if sys.platform != "linux" or platform.machine() != "x86_64":
        stop(
            f"{platform.system()} on {platform.machine()} has no wheels for the pinned vLLM. Use the container: "
            "`docker build --platform linux/amd64 -f clusters/Dockerfile -t orchestrator .` and then "
            "`docker run --platform linux/amd64 --shm-size 4g orchestrator make demo`."
        )


def find_stack() -> str:
    """`gpu` where an NVIDIA driver answers, else `cpu`."""
    stack = os.environ.get("STACK") or ("gpu" if Path("/proc/driver/nvidia/version").exists() else "cpu")
    if stack not in ("cpu", "gpu"):
        stop(f"STACK={stack!r} is unknown: use cpu or gpu.")
    return stack


def package_sources(stack: str) -> list[str]:
    """uv does not read pip's configuration, so a folder of wheels named there is passed on.

    The CPU build of torch comes from that folder, or else from PyTorch's own CPU index.
    """
    folders = (
        os.environ.get("PIP_FIND_LINKS", "") + " " + os.environ.get("UV_FIND_LINKS", "").replace(",", " ")
    ).split()
    cpu_torch = [folder for folder in folders if Path(folder).is_dir() and list(Path(folder).glob("torch-*+cpu*"))]
    if stack == "gpu":
        # A local +cpu version would outrank the registry's build of the same torch.
        folders = [folder for folder in folders if folder not in cpu_torch]
    sources = [argument for folder in folders for argument in ("--find-links", folder)]
    if stack == "cpu" and not cpu_torch:
        sources += ["--extra-index-url", TORCH_CPU_INDEX, "--index-strategy", "unsafe-best-match"]
    return sources


def run(*command: str | Path) -> None:
    """Run a command; its failure ends the install."""
    status = subprocess.run([str(part) for part in command], cwd=ROOT, check=False).returncode
    if status:
        stop(f"`{' '.join(str(part) for part in command)}` failed with status {status}.")


def fingerprint(stack: str) -> str:
    """Changes when what is to be installed changes."""
    parts = [ROOT / "pyproject.toml", *sorted((ROOT / "constraints").iterdir())]
    digest = hashlib.sha256(f"{stack} {sys.version} {ROOT}".encode())
    for part in parts:
        if part.is_file():
            digest.update(part.read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Create .venv and install into it, unless the marker says that this was done already."""
    check_platform()
    stack = find_stack()
    wanted = fingerprint(stack)
    if MARKER.exists() and MARKER.read_text() == wanted:
        return
    started = time.monotonic()
    print(f"install: the {stack.upper()} stack into {VENV} (about a minute)", flush=True)
    run(sys.executable, "-m", "venv", "--clear", VENV)
    python = VENV / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv")
    command = [
        VENV / "bin" / "uv",
        "pip",
        "install",
        "--quiet",
        # Every process of a run imports thousands of files. Where nobody may write beside them (PYTHONDONTWRITEBYTECODE, a read-only
        # image), each would be compiled anew each time, which makes imports three times as long.
        "--compile-bytecode",
        "--python",
        python,
        "--constraint",
        f"constraints/{stack}.txt",
    ]
    command += ["--override", "constraints/overrides-cpu.txt"] if stack == "cpu" else []
    run(*command, *package_sources(stack), "--editable", f".[{stack},test]")
    (VENV / "stack").write_text(stack)
    MARKER.write_text(wanted)
    print(f"install: done in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
