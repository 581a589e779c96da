"""The Markdown tables of docs/performance.md."""

from dataclasses import replace

from loadtest.overhead import markdown
from loadtest.overhead.results import MedianRange, ResultRow

TEN = MedianRange(median=10.0, low=9.0, high=11.0)
ROW = ResultRow(
    scenario="1 KiB × 64",
    unit="request",
    setup="cuvee",
    rounds=3,
    cpu_us=TEN,
    kernel=None,
    background=None,
    ratio=0.5,
    rate=MedianRange(median=12_345.0, low=1.0, high=99_999.0),
    added_p50_ms=TEN,
    added_p99_ms=TEN,
    memory_mib=None,
    kib_per_stream=None,
    limited=True,
    errors={},
)
STREAMS = replace(ROW, scenario="9 streams", unit="chunk", memory_mib=TEN, kib_per_stream=10.0)


def test_every_figure_has_a_table_with_a_column_for_each_set_up():
    """Tables are whole: as many cells in every line as in its head."""
    other = replace(ROW, setup="nginx", cpu_us=None)

    text = markdown.to_markdown(
        [ROW, other, STREAMS], {"cuvee": 41.0}, {"nginx": "1.2", "cuvee": ""}
    )

    for part in ("10.0 (9.0–11.0)", "0.50", "10.00 / 10.00", "< 12,345", "10 (10.0)"):
        assert part in text
    assert "| idle | 41 | – |" in text
    assert "Versions: nginx 1.2." in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 5
    assert all(len({line.count("|") for line in lines[1:]}) == 1 for lines in tables)


def test_a_wrong_reply_marks_its_figures():
    """Every figure of such a run carries a mark that is explained below."""
    text = markdown.to_markdown([replace(ROW, errors={"status 503": 3})], {}, {})

    assert "10.0 (9.0–11.0)†" in text
    assert "† cuvee, 1 KiB × 64: 3 × status 503" in text
