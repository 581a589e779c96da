"""`cuvee emulate`: what it says of a wrong command line."""

import pytest
from click.testing import CliRunner

from cuvee.emulate import emulate


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model and --gpu"),
        (["--model", "Llama-3-70B", "--gpu", "L4"], "does not fit"),
        (["--model", "nope", "--gpu", "L4"], "Invalid value for '--model'"),
    ],
)
def test_the_command_explains_what_is_wrong(arguments, words):
    """A wrong command line is one clear message and not a traceback."""
    result = CliRunner().invoke(emulate, arguments)

    assert result.exit_code != 0
    assert words in result.output
