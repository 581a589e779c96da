"""Buckets describe themselves."""

from planner.model.space import Buckets, SloClass
from planner.sizes import Grid
from planner.slo import Slo

SPACE = Buckets(
    classes=(SloClass(model="m", slo=Slo(ttft_s=1, tpot_s=0.1)),),
    grid=Grid(input_edges=(1, 256, 4096), output_edges=(1, 64, 1024)),
)


def test_a_bucket_describes_itself():
    """Reports name a bucket by model and ranges."""
    assert SPACE.describe(3) == "m in 256–4096 out 64–1024"


def test_a_bucket_of_a_named_class_says_so():
    """Two promises for one model are told apart in words too."""
    batch = SloClass(model="m", slo=Slo(ttft_s=9, tpot_s=1), name="batch")
    space = Buckets(classes=(*SPACE.classes, batch), grid=SPACE.grid)

    assert space.describe(3 + SPACE.grid.cells) == "m batch in 256–4096 out 64–1024"
