"""The table of endpoints: one row each."""

from gateway.routing.body_schema import BodyFields
from gateway.routing.endpoints import BY_PATH, ENDPOINTS


def test_every_prompt_is_a_field_that_is_decoded():
    """A row's prompt field is one of the body's, so that its bytes can be counted."""
    assert {e.prompt for e in ENDPOINTS.values()} <= set(BodyFields.__struct_fields__)


def test_no_two_endpoints_share_a_name_or_a_path():
    """A path means one endpoint, and a learned length is of one."""
    assert len(BY_PATH) == len(ENDPOINTS)
    assert all(ENDPOINTS[endpoint.name] is endpoint for endpoint in BY_PATH.values())


def test_only_generations_stream():
    """OpenAI's three paths, of which embeddings decode nothing."""
    assert {e.path: e.generates for e in ENDPOINTS.values()} == {
        "/v1/chat/completions": True,
        "/v1/completions": True,
        "/v1/embeddings": False,
    }
