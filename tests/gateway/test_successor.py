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
    """The log says that it has ended; another one may be started."""
    successor = Successor(lambda: (sys.executable, "-c", "raise SystemExit(3)"))
    for _ in range(2):
        await asyncio.wait_for(successor.start(), 30)

    assert caplog.text.count("did not take over: it has ended") == 2


async def test_it_is_no_child_and_one_at_a_time(tmp_path, caplog):
    """Its parent is whoever adopts orphans, so that a service manager waits for it as for its own.
    A second signal while one starts does nothing."""
    told = tmp_path / "parent"
    code = f"import os; open({str(told)!r}, 'w').write(str(os.getppid()) + '.'); input()"
    own, its = os.pipe()
    os.set_inheritable(own, True)
    keyboard = os.dup(0)
    os.dup2(own, 0)  # it ends when nobody can write any more
    try:
        successor = Successor(lambda: (sys.executable, "-c", code))
        starting = asyncio.create_task(successor.start())
        while not (told.exists() and told.read_text().endswith(".")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await successor.start()
    finally:
        os.dup2(keyboard, 0)
        for number in (own, its, keyboard):
            os.close(number)
    await asyncio.wait_for(starting, 30)

    assert int(told.read_text().rstrip(".")) != os.getpid()
    assert "is starting already" in caplog.text


async def test_one_that_cannot_be_started_is_told(caplog):
    """With the command."""
    await Successor(lambda: ("/nowhere/cuvee", "serve")).start()

    assert "No such file or directory" in caplog.text
    assert "/nowhere/cuvee serve" in caplog.text
