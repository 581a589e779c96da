"""What takes over is the command that is installed now."""

import asyncio
import os
import sys

from gateway.successor import Successor, command


def test_a_program_is_started_by_its_own_path(tmp_path):
    """Behind a link there may be another version by now, with an interpreter of its own."""
    program = tmp_path / "cuvee"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    words = [str(program), "serve", "--config", "c.yaml"]

    assert command(words, ["/old/python", *words]) == (*words, "--replace")


def test_a_module_is_started_as_it_was(tmp_path):
    """By its interpreter; a successor is asked once to replace."""
    module = tmp_path / "__main__.py"
    module.write_text("")
    original = ["/usr/bin/python3", "-m", "cuvee", "serve", "--replace"]

    assert command([str(module), "serve", "--replace"], original) == tuple(original)


async def test_one_that_fails_changes_nothing(caplog):
    """The log says how it ended; another one may be started."""
    successor = Successor(lambda: (sys.executable, "-c", "raise SystemExit(3)"))
    for _ in range(2):
        await asyncio.wait_for(successor.start(), 30)

    assert caplog.text.count("ended with code 3") == 2


async def test_one_at_a_time(caplog):
    """A second signal while one starts is told, and does nothing."""
    successor = Successor(lambda: ("/bin/sleep", "60"))
    starting = asyncio.create_task(successor.start())
    await asyncio.sleep(0)
    await successor.start()
    starting.cancel()
    words = next(r.args for r in caplog.records if "is starting already" in r.getMessage())
    process = int(str(words[0])) if isinstance(words, tuple) else 0
    os.kill(process, 9)
    await asyncio.to_thread(os.waitpid, process, 0)

    assert process > 0


async def test_one_that_cannot_be_started_is_told(caplog):
    """With the command."""
    await Successor(lambda: ("/nowhere/cuvee", "serve")).start()

    assert "/nowhere/cuvee serve" in caplog.text
