"""The table of endpoints: one row each."""

from gateway.routing.body_schema import BodyFields
from gateway.routing.endpoints import ALL, BY_PATH, ENDPOINTS


def test_every_prompt_is_a_field_that_is_decoded():
    """A row's prompt field is one of the body's, so that its bytes can be counted."""
    assert {e.prompt for e in ENDPOINTS.values()} <= set(BodyFields.__struct_fields__)


def test_no_two_endpoints_share_a_name_or_a_path():
    """A path means one endpoint, and a learned length is of one."""
    assert len({e.path for e in ALL}) == len(ENDPOINTS) == len(ALL)
    assert all(BY_PATH[endpoint.path] is endpoint for endpoint in ALL)
    assert all(ENDPOINTS[endpoint.name] is endpoint for endpoint in BY_PATH.values())


def test_a_path_is_known_with_the_version_and_without():
    """Base URLs of clients have it or not."""
    for path in ("chat/completions", "rerank", "tokenize", "messages/count_tokens", "pooling"):
        assert BY_PATH[f"/v1/{path}"] is BY_PATH[f"/{path}"]
    assert BY_PATH["/v2/rerank"] is BY_PATH["/v1/rerank"]


def test_only_generations_stream():
    """Two of choices, whose usage is asked for; two whose events say their kind; and audio."""
    assert {e.path: e.usage_option for e in ALL if e.generates} == {
        "/v1/chat/completions": True,
        "/v1/completions": True,
        "/v1/responses": False,
        "/v1/messages": False,
        "/v1/audio/transcriptions": False,
        "/v1/audio/translations": False,
    }
