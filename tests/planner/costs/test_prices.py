"""Prices of GPUs, and where they were read."""

from pathlib import Path

import pytest

from planner.costs import prices
from planner.errors import InvalidFile

PRICES = Path(__file__).resolve().parents[3] / "configs" / "prices" / "aws-2026-07.yaml"
GPUS = ("L4", "A10G", "A100-80G", "H100", "T4", "L40S", "A100-40G", "H200")


def test_the_shipped_prices_load_with_their_sources():
    """Every GPU that AWS rents out has a price, and every price a source with its notice."""
    usd_of = prices.read_prices(PRICES)

    assert set(usd_of) == set(GPUS)
    assert all(usd > 0 for usd in usd_of.values())
    notice = "Karpenter, Copyright Amazon.com, Inc. or its affiliates"
    assert (PRICES).read_text().count(notice) == len(usd_of)


@pytest.mark.parametrize(
    ("usd", "words"),
    [("-1", "usd_per_gpu_hour.H100.usd"), (".nan", "usd_per_gpu_hour.H100.usd"),
     (".inf", "H100.usd"), ("0", "nobody rents out GPUs for nothing"),
     ("1104", "dollars per GPU-hour"),
     ("cheap", "usd_per_gpu_hour.H100"), ("1\n    colour: red", "usd_per_gpu_hour.H100")],
)  # fmt: skip
def test_a_wrong_price_names_file_and_key(tmp_path: Path, usd: str, words: str):
    """One line says which file and which GPU's price is wrong."""
    path = tmp_path / "prices.yaml"
    path.write_text(
        "format: cuvee-prices/1\nusd_per_gpu_hour:\n  H100:\n    source: s\n    region: r\n"
        f"    date: 2026-01-01\n    usd: {usd}\n"
    )

    with pytest.raises(InvalidFile) as caught:
        prices.read_prices(path)

    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "format: other/1\nusd_per_gpu_hour: {}\n", "a: [", "x: 1\n"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, text: str):
    """Only a price file is read as one."""
    path = tmp_path / "prices.yaml"
    path.write_text(text)

    with pytest.raises(InvalidFile, match=r"prices\.yaml"):
        prices.read_prices(path)
    with pytest.raises(InvalidFile, match="absent"):
        prices.read_prices(tmp_path / "absent.yaml")
