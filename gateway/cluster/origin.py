"""What a plan is made from, as a digest by which gateways know whether they can share one. Pure."""

from hashlib import blake2b

from gateway.cluster.codec import encode
from gateway.config.load import Loaded


def made_from(loaded: Loaded) -> str:
    """The digest: of all that plans and the numbers of buckets and classes depend on, beside demand
    and fleet."""
    parts = loaded.pools, loaded.buckets, loaded.limits, loaded.config.planner.objective
    return blake2b(encode(parts), digest_size=8).hexdigest()
