"""The tables of Mélange's paper and the instances behind them."""

from pathlib import Path

import numpy as np
import pytest

from planner.errors import InvalidFile
from planner.program import baselines
from planner.program.published import read_published
from planner.program.published_tables import instances, read_paper

FOLDER = Path(__file__).resolve().parents[3] / "configs" / "melange"
PAPER = FOLDER / "paper.yaml"
MADE = {made.table.number: made for made in instances(PAPER)}
HEADLINES = {3: 0.77, 4: 0.33, 5: 0.51, 6: 0.68, 7: 0.22, 8: 0.51}  # section 6.2: the most saved


def test_the_paper_s_claims_follow_from_its_tables():
    """The largest saving of every table is the one that its authors state."""
    for table in read_paper(PAPER).tables:
        savings = [
            1 - mix / single
            for singles in table.alone.values()
            for mix, single in zip(table.melange, singles, strict=True)
        ]
        assert max(savings) == pytest.approx(HEADLINES[table.number], abs=0.01)


def test_datasets_have_the_published_sizes():
    """Lower and upper corners enclose the means of figure 10; the mix is four to one."""
    paper = read_paper(PAPER)
    arena, pubmed = paper.histogram("arena"), paper.histogram("pubmed")
    inputs, outputs = baselines.CORNERS

    for shares, means in ((arena, (329, 196)), (pubmed, (4174, 314))):
        assert shares.sum() == pytest.approx(1)
        assert shares @ inputs >= means[0] >= shares @ inputs / 3
        assert shares @ outputs >= means[1] >= shares @ outputs / 3
    assert paper.histogram("mixed") == pytest.approx(0.8 * arena + 0.2 * pubmed)


def test_the_first_table_is_the_published_instance():
    """All sizes of Arena have a published throughput on all four types: the loads are the same."""
    published = read_published(FOLDER / "arena.yaml").instance(1.0)
    made = MADE[3]

    assert made.published == pytest.approx(dict.fromkeys(published.gpus, 1.0))
    load = np.nansum(np.where(made.instance.rate[:, None] > 0, made.instance.load, 0.0), axis=0)
    assert load == pytest.approx(published.load.sum(axis=0))


def test_what_was_not_published_is_analytic():
    """Nothing at 40 ms; of long prompts the throughputs of A100 and H100, not of the small GPUs."""
    assert all(share == 0 for n in (6, 7, 8) for share in MADE[n].published.values())
    assert MADE[4].published["A100"] == pytest.approx(1)
    assert 0 < MADE[4].published["L4"] < 0.2
    assert 0.8 < MADE[5].published["A10G"] < 1


def test_a_tighter_promise_costs_no_less():
    """The analytic throughput of every size is at most that under the looser promise."""
    loose, tight = MADE[4], MADE[7]
    small = [loose.instance.gpus.index(gpu) for gpu in ("L4", "A10G")]
    rows = np.repeat(np.array(baselines.INPUT_TOPS) > 2000, len(baselines.OUTPUT_TOPS))

    for p in small:
        assert np.all(tight.instance.tput[rows, p] <= loose.instance.tput[rows, p] + 1e-12)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("format: cuvee-paper/1", "format: other", "format"),
        ("melange: [1.71, ", "melange: [", "tables: 3: melange: must be 6 numbers"),
        ("      L4: [2.1,", "      L5: [2.1,", "unknown GPU `L5`"),
        ("dataset: mixed", "dataset: mixture", "unknown dataset `mixture`"),
        ("- [27, 2448,", "- [2448,", "datasets.pubmed.requests: at most 10 rows of 6"),
        ("- [2.77962, ", "- [", "gpus.A100: at most 10 rows of 6"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, old: str, new: str, text: str):
    """One line with the file and the place."""
    (tmp_path / "arena.yaml").write_text((FOLDER / "arena.yaml").read_text())
    path = tmp_path / "paper.yaml"
    path.write_text(PAPER.read_text().replace(old, new))

    with pytest.raises(InvalidFile, match=r"paper\.yaml: ") as refused:
        list(instances(path))
    assert text in str(refused.value)
