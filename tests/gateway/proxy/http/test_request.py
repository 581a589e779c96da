"""How targets are read."""

import pytest

from gateway.proxy.http.request import canonical_path


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/模型".encode(),
        b"/v1/models/%E6%A8%A1%E5%9E%8B",
        b"//v1/models//%e6%a8%a1%e5%9e%8b/?x=/y",
    ],
)
def test_a_path_is_the_same_however_it_is_written(target):
    """As UTF-8 or escaped, with slashes too many, with a query."""
    assert canonical_path(target) == "/v1/models/模型"


@pytest.mark.parametrize("target", [b"/\xff", b"/%ff", b"/%", b"/%zz", b"?", b"", b"/\xe6%A8\xa1"])
def test_no_target_is_an_error(target):
    """What is no path is found nowhere."""
    assert canonical_path(target).startswith("/") or target in (b"?", b"")
