"""Does without a builder of images what the Dockerfile does, in a chroot, and tries the result.

As a user without rights, with a root that is read-only:

    sudo python3 deploy/image/try.py /var/tmp/cuvee-image

Makes the root in the folder if it is not there, which is half an hour of the compiler on a busy
machine; another folder makes it anew. Needs Linux, root, debootstrap and the network. Imports only
the standard library. Ports: 18990 and 18991.
"""

import contextlib
import ctypes
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2]
SHIPPED = (
    "pyproject.toml", "setup.py", "building.py", "MANIFEST.in", "README.md", "LICENSE", "NOTICE",
    "configs", "planner", "gateway", "loadtest", "cuvee", "deploy/image",
)  # fmt: skip
MIRROR = "http://deb.debian.org/debian"
USER = 65532  # as in the Dockerfile
PORT, ENGINE = 18990, 18991
LIMIT_S = 60.0
MOST_BYTES = 150_000_000
NO_NEW_PRIVS = 38  # of prctl(2)
ENVIRONMENT = {
    "PATH": "/usr/bin", "LANG": "C.UTF-8", "HOME": "/var/lib/cuvee", "PYTHONDONTWRITEBYTECODE": "1"
}  # fmt: skip
BUILD = "cd /src && sh deploy/image/build.sh /image && sh deploy/image/trim.sh /image"
# What the kernel forbids to the user is not told apart from what the root's being read-only does.
WRITES = "open('/usr/tried', 'w')"
HEALTHCHECK = f"""from urllib.request import urlopen
urlopen('http://127.0.0.1:{PORT}/livez', timeout=2)"""
CONFIG = f"""
gateway:
  port: {PORT}
  admin_port: 0
  workers: 2
  drain_delay_s: 0
  journal: {{path: /var/lib/cuvee/journal.jsonl}}
models:
  llama-3-8b: {{slo: {{ttft_s: 2.0, tpot_s: 0.12}}}}
prices: aws-2026-07
pools:
  h100: {{model: llama-3-8b, profile: llama-3-8b/H100, backends: ["http://127.0.0.1:{ENGINE}"]}}
"""


def run(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True)


def make(base: Path) -> None:
    """The root below `base`/image, as the first stage of the Dockerfile makes it."""
    if not (base / "usr").exists():
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", "trixie", base, MIRROR)
    for name in SHIPPED:
        source, to = SOURCES / name, base / "src" / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            leave = shutil.ignore_patterns("*.so", "__pycache__")
            shutil.copytree(source, to, ignore=leave, dirs_exist_ok=True)
        else:
            shutil.copy(source, to)
    for name in ("resolv.conf", "ssl/certs/ca-certificates.crt"):
        shutil.copy(Path("/etc", name), base / "etc" / name)
    run("mount", "-t", "proc", "proc", base / "proc")
    run("mount", "--rbind", "/dev", base / "dev")
    run("chroot", base, "/bin/sh", "-c", BUILD)


def measured(image: Path) -> int:
    """Bytes of the files, as `docker image ls` counts them; printed, also as a registry has them:
    one compressed archive."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as layer:
        layer.add(image, ".")
        size = sum(member.size for member in layer.getmembers())
    packed = len(gzip.compress(whole.getbuffer(), 6))
    print(f"size: {size / 1e6:.1f} MB, compressed {packed / 1e6:.1f} MB")
    return size


def mount(image: Path, etc: Path) -> None:
    """The image as a container has it: its root read-only, /tmp and /var/lib/cuvee in memory."""
    run("mount", "--bind", image, image)
    run("mount", "-o", "remount,bind,ro", image)
    run("mount", "-t", "proc", "proc", image / "proc")
    run("mount", "--rbind", "/dev", image / "dev")
    run("mount", "-t", "tmpfs", "tmpfs", image / "tmp")
    run("mount", "-t", "tmpfs", "-o", f"uid={USER},mode=750", "tmpfs", image / "var/lib/cuvee")
    run("mount", "--bind", etc, image / "etc/cuvee")


@contextlib.contextmanager
def begun(image: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process of the image, as its user."""

    def enter() -> None:
        os.chroot(image)
        os.chdir("/var/lib/cuvee")
        os.setgroups([])
        os.setgid(USER)
        os.setuid(USER)
        ctypes.CDLL(None).prctl(NO_NEW_PRIVS, 1, 0, 0, 0)

    process = subprocess.Popen(
        words, preexec_fn=enter, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def answered(url: str, body: object = None) -> bytes:
    """What a URL answers, as soon as it does."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            return bytes(urllib.request.urlopen(request, timeout=10).read())
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def code_of(image: Path, *words: str) -> int:
    with begun(image, *words) as process:
        process.communicate(timeout=LIMIT_S)
        return int(process.returncode)


def try_out(image: Path) -> None:
    """Serve requests from it, and end."""
    python = ("/usr/bin/python3", "-P", "-S", "-c")
    assert code_of(image, *python, WRITES) != 0
    engine = ("emulate", "--profile", "llama-3-8b/H100", "--served-model-name", "llama-3-8b")
    serve = ("serve", "--config", "/etc/cuvee/cuvee.yaml")
    with (
        begun(image, "/usr/bin/cuvee", *engine, "--port", str(ENGINE)),
        begun(image, "/usr/bin/cuvee", *serve) as gateway,
    ):
        began = time.monotonic()
        print("ready:", answered(f"http://127.0.0.1:{PORT}/readyz").decode()[:60])
        print(f"after {time.monotonic() - began:.1f} s")
        said = {"role": "user", "content": "hello"}
        body = {"model": "llama-3-8b", "messages": [said], "max_tokens": 8}
        answer = answered(f"http://127.0.0.1:{PORT}/v1/chat/completions", body)
        print("answer:", json.loads(answer)["usage"])
        assert code_of(image, *python, HEALTHCHECK) == 0
        gateway.send_signal(signal.SIGTERM)
        _, log = gateway.communicate(timeout=LIMIT_S)
    assert code_of(image, *python, HEALTHCHECK) != 0
    assert "data path: compiled" in log, log
    assert "Traceback" not in log, log
    assert gateway.returncode == 0, (gateway.returncode, log)
    print("data path: compiled; ended with code 0")


def main() -> int:
    if len(sys.argv) == 2:  # what is mounted ends with this process
        inner = ["unshare", "--mount", sys.executable, __file__, sys.argv[1], "inner"]
        return subprocess.run(inner, check=False).returncode
    base = Path(sys.argv[1]).resolve()
    image, etc = base / "image", base / "try"
    if not (image / "usr/bin/cuvee").exists():
        make(base)
    size = measured(image)
    etc.mkdir(exist_ok=True)
    (etc / "cuvee.yaml").write_text(CONFIG)
    mount(image, etc)
    try_out(image)
    assert size <= MOST_BYTES, f"{size} bytes are more than {MOST_BYTES}"
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
