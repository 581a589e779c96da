"""Buckets describe themselves."""

from planner.model.buckets import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

BUCKETS = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 256, 4096), output_edges=(1, 64, 1024)),
)


def test_a_bucket_describes_itself():
    """Reports name a bucket by model and ranges; the last cells have all that is larger."""
    assert BUCKETS.describe(0) == "m in 1–256 out 1–64"
    assert BUCKETS.describe(3) == "m in 256+ out 64+"


def test_a_bucket_of_a_named_class_says_so():
    """Two promises for one model are told apart in words too."""
    batch = SloClass(model="m", slo=Slo(ttft_s=9, tpot_s=1), name="batch")
    buckets = Buckets(classes=(*BUCKETS.classes, batch), grid=BUCKETS.grid)

    assert buckets.describe(3 + BUCKETS.grid.cells) == "m batch in 256+ out 64+"
