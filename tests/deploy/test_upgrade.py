"""Another version takes over, and the one before it again, while clients go on."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("upgrade.py")


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="sockets are passed on by Linux only")
async def test_no_request_is_lost_between_two_versions():
    """From the oldest version that promises it to this one and back: by a takeover of the port,
    and rolled behind a Service."""
    words = ["git", "log", "--diff-filter=A", "--format=%H", "--", str(PROGRAM)]
    log = await asyncio.create_subprocess_exec(*words, cwd=ROOT, stdout=subprocess.PIPE)
    found = (await log.communicate())[0].decode().split()
    if not found:
        pytest.skip("no history: there is no other version")
    tried = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), "--before", found[-1], stdout=asyncio.subprocess.PIPE
    )
    said, _ = await tried.communicate()

    assert tried.returncode == 0, said.decode()
    assert said.decode().count(" 0 lost") == 2
