"""Whether the GPU that labels name is the one that a profile was made for.

Names are those of `gpus.yaml` on one side (`A100-80G`), and on the other those that NVIDIA's GPU
feature discovery makes of what the driver says (`NVIDIA-A100-SXM4-80GB`), AMD's node labeller
(`AMD_Instinct_MI300X_OAM`) and clouds (`nvidia-h100-80gb`).
"""

import re
from collections.abc import Mapping

# Of a product's name: the maker, how the board is mounted, its kind of memory. GKE's `mega` is
# about the network.
PLAIN = {
    "nvidia", "amd", "tesla", "instinct", "geforce", "gpu", "sxm", "sxm2", "sxm3", "sxm4", "sxm5",
    "sxm6", "oam", "hbm2", "hbm2e", "hbm3", "hbm3e", "mega", "vf",
}  # fmt: skip
MEMORY = re.compile(r"\d+gb?$")
# GKE's name of the A100 with 40 GB says no memory: that with 80 GB is `nvidia-a100-80gb`.
ALIASES = {"nvidia-tesla-a100": "A100-40G"}
PART = re.compile(r"-(SHARED$|MIG-.+)")


def same_gpu(product: str, gpu: str, products: Mapping[str, str]) -> bool:
    """Whether a product's name means a GPU type. products: GPU types by name of a product, from the
    configuration; they go before what is concluded here."""
    if product in products:
        return products[product] == gpu
    if product in ALIASES:
        return ALIASES[product] == gpu
    words, wanted = _words(product), _words(gpu)
    if wanted - words:
        return False
    # A PCIe card of Hopper has two thirds of the bandwidth; the PCIe A100s are near the others.
    plain = PLAIN | ({"pcie"} if "a100" in words else set())
    return all(word in plain or MEMORY.match(word) for word in words - wanted)


def part_of_gpu(product: str) -> str | None:
    """How a product's name says that its GPU is shared or cut into instances: `SHARED`, `MIG-…`."""
    found = PART.search(product)
    return found[1] if found else None


def _words(name: str) -> set[str]:
    """The words of a name in one spelling: `80GB` and `80G` are the same."""
    words = re.split(r"[-_ ]+", name.casefold())
    return {word[:-1] if MEMORY.match(word) and word.endswith("gb") else word for word in words}
