"""The domains of numbers and names in the configuration file. Data only."""

import sys
from typing import Annotated

from msgspec import Meta

LARGEST = sys.float_info.max  # so that infinity is outside; a comparison with NaN fails as well

Positive = Annotated[float, Meta(gt=0.0, le=LARGEST, description="positive and finite")]
NotNegative = Annotated[float, Meta(ge=0.0, le=LARGEST, description="not negative and finite")]
Count = Annotated[int, Meta(ge=1, description="positive")]
CountOrZero = Annotated[int, Meta(ge=0, description="not negative")]
Share = Annotated[float, Meta(ge=0.0, le=1.0, description="between 0 and 1")]
# Finer or wider grids have more buckets than a plan can be made for.
Edge = Annotated[int, Meta(ge=1, le=10_000_000, description="in tokens, 1 to ten million")]
# Prometheus' list of default ports gives exporters 9090 to 9999 and goes on from 10000; engines and
# proxies have 8000 to 8002, 8080, 9901 and 30000; from 32768 on Linux takes ports for outgoing
# connections. 8790 is in none of these, and IANA has not assigned it.
ADMIN_PORT = 8790

Port = Annotated[int, Meta(ge=0, le=65535, description="between 0 and 65535")]
HostName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,253}\Z", description="a name of DNS")]
Origin = Annotated[str, Meta(pattern=r"^(\*|\w[\w+.-]*://[^/\s]+)\Z", description="an origin")]
HeaderName = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", description="the name of a header")
]
HeaderValue = Annotated[
    str,
    Meta(
        pattern=r"^[!-~]([ -~]*[!-~])?\Z",
        description="printable ASCII without outer blanks",
        extra={"secret": True},
    ),
]
UrlPath = Annotated[
    str, Meta(pattern=r"^/[!-~]*\Z", description="a path that begins with a slash, in ASCII")
]
