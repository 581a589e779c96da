"""The section about the loop that starts and stops backends: keys, types, domains, defaults and
meanings.

As in `schema`, the text below each key is its documentation.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.config.domains import NotNegative, Positive

Quantile = Annotated[float, Meta(gt=0.0, lt=1.0, description="inside 0 and 1")]
Factor = Annotated[float, Meta(ge=1.0, le=100.0, description="1 to 100")]


class ScalingSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the pools that have `scale` get more or fewer backends
    ([the fleet moves](fleet.md)).
    """

    dry_run: bool = False
    """Whether nothing is ordered: the loop decides, and log, journal and `/cuvee/scaling` say what
    it would do.
    """
    interval_s: Positive = 15.0
    """Seconds between two looks at how many backends there should be. A launch that failed, a
    backend that drains and a model without any are looked at at once.
    """
    quantile: Quantile = 0.95
    """Probability with which the demand of the next minutes, as long as a start takes, is to stay
    below what the fleet is made for. No more is ordered while the present fleet lets three times as
    many surprises pass.
    """
    horizon_quantile: Quantile = 0.9
    """Of all starts, the share that is to be over within that time."""
    hold_s: NotNegative = 600.0
    """Nothing is stopped that was needed within so many seconds, nor before the demand was observed
    for so long.
    """
    silence_s: NotNegative = 1800.0
    """Where not one request comes any more, this may be a fault in front of the gateway: nothing is
    stopped for so many seconds.
    """
    lost_s: NotNegative = 60.0
    """A backend that is down for so long counts as gone, and is replaced."""
    timeout_factor: Factor = 3.0
    """A launch hangs, and is given up, when it takes so many times what 95 % of the starts take."""
    retry_s: Positive = 300.0
    """After a launch failed or hangs, its GPU type is limited to what is there. So many seconds
    later one backend more is tried; after each further failure it is twice as long, an hour at
    most.
    """
    state: str | None = None
    """File, relative to this file, with what was learned of the demand and of starts, and with the
    drains that were asked for, so that they survive a restart; written every five minutes and at
    each drain. Default: it is learned anew, and drains end with the gateway.
    """
    day_s: Positive = 86400.0
    """Length of a day, whose pattern is learned; a week is seven. Shorter ones are for
    demonstrations, in which a day passes in minutes.
    """
    drain_s: NotNegative = 300.0
    """A backend that is to be stopped gets no new requests; it is stopped when it has none left, or
    after so many seconds.
    """
