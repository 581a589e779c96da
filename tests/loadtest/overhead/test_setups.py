import os
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway import runtime
from loadtest import process
from loadtest.overhead import setups
from loadtest.overhead.setups import Bench

CORES = process.assign_cores(tuple(os.sched_getaffinity(0)))


def test_a_process_that_never_answers_is_reported_with_its_last_words(tmp_path: Path):
    """A proxy that dies at its start is told by its own message."""
    argv = (sys.executable, "-c", "import sys; sys.exit('no such option')")

    with ExitStack() as stack, pytest.raises(setups.NotReady, match="no such option"):
        stack.enter_context(
            setups.answering("proxy", argv, process.free_port(), CORES.proxy, tmp_path)
        )


def test_each_set_up_has_a_backend_address_for_itself(tmp_path: Path):
    """Connections of one proxy do not use up the ports of another."""
    bench = Bench(folder=tmp_path, cores=CORES, backend_port=9000, files=20_000)

    places = [bench.place(name) for name in ("a", "b", "c")]

    assert len({place.backend for place in places}) == 3
    assert all(place.backend.startswith("127.0.0.") for place in places)
    assert len({place.folder for place in places}) == 3


def test_a_peer_that_does_not_start_is_left_out_with_the_reason(tmp_path: Path):
    """The others are measured all the same."""
    broken = tmp_path / "program"
    broken.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('broken')\n")
    broken.chmod(0o755)
    with ExitStack() as stack:
        bench = setups.backend(stack, tmp_path, CORES)

        found, skipped = setups.start(
            stack, bench, ("haproxy", "production-stack"), {"haproxy": broken}
        )

    assert [setup.name for setup in found] == ["direct", "cuvee"]
    assert "broken" in skipped["haproxy"]
    assert "--peer-path" in skipped["production-stack"]
    assert (found[1].idle_mib or 0.0) > 10
    assert found[1].version == runtime.runtime()
