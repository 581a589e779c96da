"""What runs in the container: installs two versions, and tries each promise of the units.

Prints one line for each, and `all is well` at the end. The folder is /try; see `run`.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE)]
# `run` names the packages of its environment: this is another Python's process.
ENVIRONMENT = dict(
    line.split("=", 1)
    for line in Path("/proc/1/environ").read_bytes().decode().split("\0")
    if "=" in line
)
sys.path.append(ENVIRONMENT["PACKAGES"])

from steady_load import SteadyLoad  # noqa: E402  (beside this file, which is run as a program)

PORT, ADMIN, ENGINES = 18970, 18971, (18972, 18973)
BASE = f"http://127.0.0.1:{PORT}"
UNIT = "cuvee.service"
CONFIG = f"""
gateway:
  port: {PORT}
  admin_port: {ADMIN}
  workers: 2
  drain_delay_s: 5
  journal: {{path: /var/lib/cuvee/journal.jsonl}}
models:
  llama-3-8b: {{slo: {{ttft_s: 5.0, tpot_s: 0.5}}}}
prices: aws-2026-07
pools:
  a10g: {{model: llama-3-8b, profile: llama-3-8b/A10G, backends: ["http://127.0.0.1:{ENGINES[0]}"]}}
  h100: {{model: llama-3-8b, profile: llama-3-8b/H100, backends: ["http://127.0.0.1:{ENGINES[1]}"]}}
"""


def told(text: str) -> None:
    print(text, flush=True)


def run(*words: str, check: bool = True) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if check and done.returncode:
        log = subprocess.run(
            ["journalctl", "-b", "-n", "60", "--no-pager"], capture_output=True, text=True
        ).stdout
        raise SystemExit(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}\n{log}")
    return done.stdout + done.stderr


def show(name: str) -> str:
    return run("systemctl", "show", "--value", "--property", name, UNIT).strip()


def until(what: str, holds, limit_s: float = 60.0) -> None:
    """Wait until something holds."""
    end = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > end:
            log = run("journalctl", "-u", UNIT, "-n", "60", "--no-pager", check=False)
            raise SystemExit(f"not {what}\n{run('systemctl', 'status', UNIT, check=False)}\n{log}")
        time.sleep(0.1)
    told(f"{what}")


def install() -> None:
    """Two versions below /opt/cuvee, the units with the ports of this try, engines and a user."""
    shutil.copytree(HERE / "opt", "/opt/cuvee", dirs_exist_ok=True)
    os.symlink("1", "/opt/cuvee/current")
    Path("/etc/cuvee").mkdir(exist_ok=True)
    Path("/etc/cuvee/cuvee.yaml").write_text(CONFIG)
    Path("/etc/sysusers.d").mkdir(exist_ok=True)
    shutil.copy(HERE / "cuvee.sysusers", "/etc/sysusers.d/cuvee.conf")
    run("systemd-sysusers")
    units = Path("/etc/systemd/system")
    shutil.copy(HERE / "cuvee.service", units)
    text = (HERE / "cuvee.socket").read_text()
    lines = (
        f"ListenStream=0.0.0.0:{PORT}\n" * 2 + f"ReusePort=true\nListenStream=127.0.0.1:{ADMIN}\n"
    )
    text, count = re.subn(
        r"^ListenStream=0.0.0.0:8000\nListenStream=127.0.0.1:8790\n", lines, text, flags=re.M
    )
    assert count == 1
    (units / "cuvee.socket").write_text(text)
    for gpu, port in zip(("A10G", "H100"), ENGINES, strict=True):
        subprocess.Popen(
            [
                "/opt/cuvee/1/bin/cuvee", "emulate", "--profile", f"llama-3-8b/{gpu}",
                "--served-model-name", "llama-3-8b", "--port", str(port),
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    run("systemctl", "daemon-reload")


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=5).status == 200)
    except OSError:
        return False


async def under_load(what: str, change) -> None:
    """Make a change while clients go on, and say what they lost."""
    async with SteadyLoad(BASE) as load:
        await load.more(20)
        await asyncio.to_thread(change)
        await load.more(20)
    told(f"{what}: {load}")
    if load.lost:
        raise SystemExit(run("journalctl", "-u", UNIT, "-n", "60", "--no-pager"))


def upgraded() -> None:
    """The link leads to another version; SIGUSR2 to the main process."""
    before = show("MainPID")
    os.symlink("2", "/opt/cuvee/next")
    os.replace("/opt/cuvee/next", "/opt/cuvee/current")
    run("systemctl", "kill", "--kill-whom=main", "--signal=USR2", UNIT)
    until("another process is the main one", lambda: show("MainPID") not in (before, "0"))
    until("the old one has ended", lambda: not Path(f"/proc/{before}").exists())
    assert show("ActiveState") == "active"
    log = run("journalctl", f"_PID={show('MainPID')}", "-o", "cat", "--no-pager")
    assert "this is installation 2" in log


def hung() -> None:
    before, restarts = show("MainPID"), int(show("NRestarts"))
    os.kill(int(before), signal.SIGSTOP)
    until(
        "the watchdog has restarted a gateway that hung", lambda: int(show("NRestarts")) > restarts
    )
    until("it serves again", lambda: answers(f"{BASE}/readyz"))


def main() -> None:
    install()
    told(
        "verify: "
        + (
            run(
                "systemd-analyze",
                "verify",
                "/etc/systemd/system/cuvee.socket",
                f"/etc/systemd/system/{UNIT}",
            )
            or "nothing to say"
        )
    )
    score = run("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    told("security: " + score.encode("ascii", "ignore").decode().strip())
    until("engines", lambda: all(answers(f"http://127.0.0.1:{port}/health") for port in ENGINES))
    run("systemctl", "start", "cuvee.socket")
    assert show("ActiveState") == "inactive"
    told("the socket starts the gateway: " + str(answers(f"{BASE}/livez")))
    until("the unit is active", lambda: show("ActiveState") == "active")
    told(f"status: {show('StatusText')}")
    assert show("NotifyAccess") == "all"
    assert show("User") == "cuvee"
    until("it is ready", lambda: answers(f"{BASE}/readyz"))
    told(f"the admin port: {answers(f'http://127.0.0.1:{ADMIN}/readyz')}")
    pid = show("MainPID")
    run("systemctl", "reload", UNIT)
    until("it is ready again after a reload", lambda: show("ActiveState") == "active")
    assert show("MainPID") == pid
    asyncio.run(under_load("upgrade by SIGUSR2", upgraded))
    asyncio.run(under_load("restart", lambda: run("systemctl", "restart", UNIT)))
    Path("/run/systemd/system/cuvee.service.d").mkdir()
    Path("/run/systemd/system/cuvee.service.d/watchdog.conf").write_text(
        "[Service]\nWatchdogSec=3\n"
    )
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", UNIT)
    hung()
    run("systemctl", "stop", UNIT)
    told(f"stopped: {show('ActiveState')}, {show('Result')}")
    assert (show("ActiveState"), show("Result")) == ("inactive", "success")
    log = run("journalctl", "-u", UNIT, "-o", "cat", "--no-pager")
    assert "Traceback" not in log, log
    told("all is well")


if __name__ == "__main__":
    main()
