"""The set-ups: started, known to answer, or left out with the reason."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway import runtime
from loadtest import process
from loadtest.overhead import setups
from loadtest.overhead.setups import BenchEnvironment

CORES = process.assign_cores(tuple(os.sched_getaffinity(0)))


def test_a_process_that_never_answers_is_reported_with_its_output(tmp_path: Path):
    """A proxy that dies at its start is reported by its own message."""
    argv = (sys.executable, "-c", "import sys; sys.exit('no such option')")

    with ExitStack() as stack, pytest.raises(setups.NotReady, match="no such option"):
        stack.enter_context(
            setups.answering_process("proxy", argv, process.free_port(), CORES.proxy, tmp_path)
        )


def test_each_set_up_has_a_backend_address_for_itself(tmp_path: Path):
    """Connections of one proxy do not use up the ports of another."""
    bench = BenchEnvironment(folder=tmp_path, cores=CORES, backend_port=9000, open_files=20_000)

    settings = [bench.settings_for(name) for name in ("a", "b", "c")]

    assert len({s.backend for s in settings}) == 3
    assert all(s.backend.startswith("127.0.0.") for s in settings)
    assert len({s.folder for s in settings}) == 3


@pytest.mark.long
def test_a_peer_that_does_not_start_is_left_out_with_the_reason(tmp_path: Path):
    """The others are measured all the same."""
    broken = tmp_path / "program"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('broken')\n")
    broken.chmod(0o755)
    with ExitStack() as stack:
        bench = setups.start_environment(stack, tmp_path, CORES)

        started, skipped = setups.start_setups(
            stack, bench, ("haproxy", "production-stack"), {"haproxy": broken}
        )

    assert [setup.name for setup in started] == ["direct", "cuvee"]
    assert "broken" in skipped["haproxy"]
    assert "--peer-path" in skipped["production-stack"]
    assert (started[1].idle_mib or 0.0) > 10
    assert started[1].version == runtime.runtime()
