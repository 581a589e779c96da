"""Wishes are carried out by programs: their words, time, output, and what they leave."""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from gateway.actuation.actuator import ActuationError
from gateway.actuation.command import Command, leaving_first
from gateway.actuation.program import ProgramFault, last_line, run
from gateway.config.scale_schema import CommandSection

PYTHON = sys.executable
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "SECRET": "s", "WANTED": "w", "HOME": "/"}
# A cloud: a folder with a file for each machine.
CLOUD = """\
import os, sys, pathlib
verb, *names = sys.argv[1:]
folder = pathlib.Path("machines")
folder.mkdir(exist_ok=True)
with open("calls", "a") as calls:
    print(" ".join(sys.argv[1:]), file=calls)
if pathlib.Path("stock").exists() and verb == "launch":
    if len(list(folder.iterdir())) >= int(pathlib.Path("stock").read_text()):
        print("no capacity in any zone", file=sys.stderr)
        sys.exit(75)
if verb == "launch":
    (folder / names[0]).write_text("10.0.0." + names[0].rpartition("-")[2])
elif verb == "stop":
    (folder / names[0]).unlink()
else:
    print("NAME   ADDRESS")
    for one in sorted(folder.iterdir()):
        print(one.name, " UP  ", f"http://{one.read_text()}:8000")
"""


def shell(script: str) -> list[str]:
    """The words of a script."""
    return ["sh", "-c", script, "sh"]


@pytest.fixture
def command(pool, tmp_path):
    """Makes actuators of these keys, in `tmp_path`."""

    def make(**keys) -> Command:
        return Command(pool, msgspec.convert(keys, CommandSection), tmp_path, ENVIRONMENT)

    return make


@pytest.fixture
def cloud(command, tmp_path: Path):
    """An actuator of a cloud; `cloud.folder` has what runs, `cloud.calls()` what was asked."""
    (tmp_path / "cloud.py").write_text(CLOUD)
    program = [PYTHON, "cloud.py"]
    actuator = command(
        list=[*program, "list"],
        launch=[*program, "launch", "{name}", "{gpu}"],
        stop=[*program, "stop", "{name}"],
        final_codes=[75],
    )

    class Cloud:
        apply = actuator.apply
        name = actuator.name

        @staticmethod
        def names() -> set[str]:
            return {one.name for one in (tmp_path / "machines").iterdir()}

        @staticmethod
        def calls() -> list[str]:
            return (tmp_path / "calls").read_text().splitlines()

        @staticmethod
        def stock(count: int) -> None:
            (tmp_path / "stock").write_text(str(count))

    return Cloud()


async def refused(actuator, order) -> ActuationError:
    """Why a wish was refused."""
    with pytest.raises(ActuationError) as caught:
        await actuator.apply(order)
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_program_gets_the_count_and_few_variables(command, order, tmp_path):
    """Words are filled and not split; braces that are no placeholder stay; it runs in the folder
    of the configuration and knows no secret."""
    script = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open('out', 'w'))"
    words = ["{pool}:{model}", "{gpu}", "{backends}", "{running}", "{leaving}", "{key}", '{"a": 1}']
    actuator = command(run=[PYTHON, "-c", script, *words], environment=["WANTED", "MISSING"])
    await actuator.apply(order(key="k; rm *", leaving=("http://a:1", "http://b:1")))
    arguments, environment = json.loads((tmp_path / "out").read_text())

    assert arguments == [
        "a100:llama-3-8b", "A100-80G", "5", "3", "http://a:1,http://b:1", "k; rm *", '{"a": 1}'
    ]  # fmt: skip
    environment.pop("LC_CTYPE", None)  # Python sets it itself
    assert environment == {"PATH": "/usr/bin:/bin", "HOME": "/", "WANTED": "w"}
    assert actuator.name == f"command {PYTHON}"


async def test_a_program_beside_the_file_is_found(command, order, tmp_path):
    """By its path from there."""
    (tmp_path / "scale.sh").write_text("#!/bin/sh\necho $1 > count\n")
    (tmp_path / "scale.sh").chmod(0o755)
    await command(run=["./scale.sh", "{backends}"]).apply(order())

    assert (tmp_path / "count").read_text() == "5\n"


async def test_failures_have_the_programs_last_words(command, order):
    """Exit code and last line of standard error, or of output; codes that are final are."""
    failing = command(run=shell("echo one >&2; echo two >&2; exit 3"), final_codes=[4])
    error = await refused(failing, order())
    assert (str(error), error.final) == ("sh failed (exit code 3): two", False)

    final = command(run=shell("echo out of stock; exit 4"), final_codes=[4])
    error = await refused(final, order())
    assert (str(error), error.final) == ("sh failed (exit code 4): out of stock", True)

    killed = command(run=shell("kill -9 $$"))
    assert str(await refused(killed, order())) == "sh failed (signal 9)"
    absent = command(run=["./none.sh", "{backends}"])
    assert str(await refused(absent, order())) == (
        "./none.sh cannot be started: No such file or directory"
    )


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def until_written(path: Path) -> int:
    """The number in a file, once it is there."""
    async with asyncio.timeout(20):
        while not path.exists() or not path.read_text().strip():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.005)
    return int(path.read_text())  # noqa: ASYNC240


async def until_gone(pid: int) -> None:
    """Wait until a process has ended."""
    async with asyncio.timeout(20):
        while alive(pid):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_program_that_does_not_end_is_ended_with_all_it_started(command, order, tmp_path):
    """After its time; its last words are told."""
    script = "sleep 600 & echo $! > child; echo still waiting >&2; wait"
    error = await refused(command(run=shell(script), timeout_s=0.5), order())

    assert str(error) == "sh has not ended within 0.5 s: still waiting"
    assert not error.final
    await until_gone(int((tmp_path / "child").read_text()))


async def test_what_a_program_leaves_behind_is_ended(command, order, tmp_path):
    """Also where that holds its output open, which is not waited for."""
    script = "sleep 600 & echo $! > child"
    await command(run=shell(script), timeout_s=60).apply(order())

    await until_gone(int((tmp_path / "child").read_text()))


async def test_the_end_of_the_actuator_ends_its_program(command, order, tmp_path):
    """The wish fails with a line, and no later one starts a program."""
    actuator = command(run=shell("echo $$ > pid; sleep 600"))
    wish = asyncio.ensure_future(refused(actuator, order()))
    pid = await until_written(tmp_path / "pid")
    await actuator.aclose()

    assert str(await wish) == "sh was ended: the gateway does not order this way any more"
    assert not alive(pid)
    assert "any more" in str(await refused(actuator, order()))


async def test_a_wish_that_is_cancelled_ends_its_program(command, order, tmp_path):
    """As where the gateway stops."""
    actuator = command(run=shell("echo $$ > pid; sleep 600"))
    wish = asyncio.ensure_future(actuator.apply(order()))
    pid = await until_written(tmp_path / "pid")
    wish.cancel()
    await asyncio.wait([wish])

    assert wish.cancelled()
    await until_gone(pid)


async def test_a_program_that_is_just_being_started_is_ended(tmp_path):
    """However early it is cancelled, nothing runs afterwards, and nothing waits for it."""
    words = shell("echo $$ >> pids; sleep 600 & echo $! >> pids; wait")
    for turns in range(6):
        task = asyncio.ensure_future(run(words, folder=tmp_path, environ=ENVIRONMENT, timeout_s=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    file = tmp_path / "pids"
    for pid in file.read_text().split() if file.exists() else ():
        await until_gone(int(pid))


async def test_output_is_bounded(tmp_path):
    """Of much output the beginning is kept, of errors the end; the program is not held up."""
    script = "import sys; sys.stdout.write('a' * 3_000_000); sys.stderr.write('b\\n' * 300_000)"
    end = await run([PYTHON, "-c", script], folder=tmp_path, environ={}, timeout_s=60)

    assert (end.code, len(end.output), end.last_line) == (0, 1 << 20, "b")
    assert last_line("x\n\n \n") == "x"
    assert last_line("\x1b[31mred") == "\ufffd[31mred"
    assert len(last_line("y" * 1000)) == 201


async def test_no_descriptor_is_left(tmp_path):
    """Of programs that end, that do not, and that are none."""
    await run(["true"], folder=tmp_path, environ=ENVIRONMENT, timeout_s=60)  # the loop's own
    before = len(os.listdir("/proc/self/fd"))
    for words in (["true"], ["./none"], ["sleep", "600"]) * 3:
        with suppress(ProgramFault):
            await run(words, folder=tmp_path, environ=ENVIRONMENT, timeout_s=0.02)
    async with asyncio.timeout(20):
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_one_program_at_a_time(command, order, tmp_path):
    """Wishes for one pool wait for one another."""
    script = "mkdir busy && echo $1 >> done && rmdir busy"
    actuator = command(run=[*shell(script), "{backends}"])
    await asyncio.gather(*(actuator.apply(order(n)) for n in range(4)))

    assert (tmp_path / "done").read_text().split() == ["0", "1", "2", "3"]


async def test_single_backends_are_launched_and_stopped(cloud, order):
    """By names that are the same at each try: what is there is counted, not what was wished."""
    await cloud.apply(order(3))
    assert cloud.names() == {"cuvee-a100-1", "cuvee-a100-2", "cuvee-a100-3"}
    await cloud.apply(order(3))
    assert cloud.calls() == [
        "list", *(f"launch cuvee-a100-{n} A100-80G" for n in (1, 2, 3)), "list"
    ]  # fmt: skip
    await cloud.apply(order(2, leaving=("http://10.0.0.2:8000",)))
    assert cloud.names() == {"cuvee-a100-1", "cuvee-a100-3"}
    await cloud.apply(order(3))
    assert cloud.names() == {"cuvee-a100-1", "cuvee-a100-2", "cuvee-a100-3"}
    await cloud.apply(order(1))
    assert cloud.names() == {"cuvee-a100-1"}
    await cloud.apply(order(0))
    assert cloud.names() == set()


async def test_what_others_run_there_is_left_alone(cloud, order, tmp_path):
    """Names of other pools, of people, and such that only look like ours."""
    await cloud.apply(order(1))
    for name in ("mine", "cuvee-a100-1-1", "cuvee-a100-01", "cuvee-a100-x", "cuvee-h100-1"):
        (tmp_path / "machines" / name).write_text("10.9.9.9")
    await cloud.apply(order(0))

    assert len(cloud.names()) == 5
    assert cloud.calls()[-1] == "stop cuvee-a100-1"


async def test_a_launch_that_fails_is_told_with_what_was_launched(cloud, order):
    """What was launched stays and counts at the next try."""
    await cloud.apply(order(1))
    cloud.stock(2)
    error = await refused(cloud, order(4))
    assert str(error) == (
        f"launched 1 of 3, then cuvee-a100-3: {PYTHON} failed (exit code 75): "
        "no capacity in any zone"
    )
    assert error.final
    cloud.stock(9)
    await cloud.apply(order(4))

    assert cloud.names() == {f"cuvee-a100-{n}" for n in (1, 2, 3, 4)}


def test_who_leaves_goes_first():
    """By any form of address in the line; then the highest numbers."""
    listed = {
        1: "c-1 UP",
        2: "c-2 10.0.0.2",
        3: "c-3 host-3:8000 UP",
        4: "c-4 | (http://10.0.0.4:8000/x)",
        5: "c-5 [fd00::5]:80",
    }
    urls = ("http://host-3:9", "http://10.0.0.4:8000", "http://10.0.0.2:8000")

    assert leaving_first(listed, urls) == [4, 3, 2, 5, 1]
    assert leaving_first(listed, ("http://[fd00::5]:8000",)) == [5, 4, 3, 2, 1]
    assert leaving_first(listed, ()) == [5, 4, 3, 2, 1]
