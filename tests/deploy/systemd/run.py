"""Tries the units of deploy/systemd under a real systemd: `make test-systemd`, on Linux, as root.

systemd-nspawn (Debian: systemd-container) boots this machine's own root as a container, with
everything that is written kept in memory; `inside.py` runs in it as a service, and what it prints
comes out. The ports are this machine's: 18970 to 18973.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
LIMIT_S = 300
PACKAGES = "/packages"  # in the container, whose /tmp is its own: the environment may stand there
UNIT = """[Unit]
DefaultDependencies=no
After=basic.target
Requires=basic.target
[Service]
Type=oneshot
StandardOutput=file:/try/output
StandardError=inherit
ExecStart={python} /try/inside.py
ExecStopPost=systemctl poweroff --force
"""
PROGRAM = """#!{python} -P
import sys

sys.path[:0] = ["/opt/cuvee/{version}"]
sys.path.append("{packages}")

from cuvee import main

if __name__ == "__main__":  # the solver's process imports this file, too
    print("this is installation {version}", file=sys.stderr)
    main()
"""


def interpreter() -> Path:
    """A Python of this one's version outside of /root and /home, which ProtectHome hides."""
    name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/cuvee/bin"):
        found = Path(folder, name).resolve()
        if found.is_file() and not str(found).startswith(("/root", "/home")):
            return found
    raise SystemExit(f"no {name} outside of /root and /home")


def packages() -> Path:
    """Where this environment has its packages."""
    import aiohttp

    return Path(aiohttp.__file__).resolve().parents[1]


def prepare(folder: Path, python: Path) -> None:
    """Fill the folder that the container has as /try."""
    for name in ("cuvee.service", "cuvee.socket", "cuvee.sysusers"):
        shutil.copy(ROOT / "deploy" / "systemd" / name, folder)
    shutil.copy(HERE / "inside.py", folder)
    shutil.copy(HERE.parent / "steady_load.py", folder)
    for version in ("1", "2"):  # two installations, of their own files
        home = folder / "opt" / version
        for package in ("gateway", "planner", "cuvee", "loadtest", "configs"):
            shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("*.so"))
        program = home / "bin" / "cuvee"
        program.parent.mkdir()
        program.write_text(PROGRAM.format(python=python, version=version, packages=PACKAGES))
        program.chmod(0o755)
    (folder / "try.service").write_text(UNIT.format(python=python))
    folder.chmod(0o755)


def main() -> int:
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        print("needs root and systemd-nspawn (Debian: systemd-container)")
        return 77
    python = interpreter()
    with tempfile.TemporaryDirectory(prefix="cuvee-systemd-", dir="/var/tmp") as name:
        folder, mount = Path(name) / "try", Path(name) / "root"
        folder.mkdir()
        mount.mkdir()
        prepare(folder, python)
        subprocess.run(["mount", "--bind", "/", mount], check=True)
        try:
            subprocess.run(["mount", "--make-private", mount], check=True)
            console = subprocess.run(
                [
                    "systemd-nspawn", "--quiet", "--register=no", "--keep-unit",
                    f"--directory={mount}", "--volatile=overlay", f"--bind={folder}:/try",
                    f"--bind-ro={folder / 'try.service'}:/run/systemd/system/try.service",
                    f"--bind-ro={packages()}:{PACKAGES}", f"--setenv=PACKAGES={PACKAGES}",
                    "--boot", "systemd.unit=try.service",
                ],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True, timeout=LIMIT_S, check=False,
            ).stdout  # fmt: skip
        finally:
            subprocess.run(["umount", "--lazy", mount], check=True)
        output = folder / "output"
        text = output.read_text() if output.exists() else f"it did not boot:\n{console[-4000:]}"
    print(text)
    return 0 if text.rstrip().endswith("all is well") else 1


if __name__ == "__main__":
    raise SystemExit(main())
