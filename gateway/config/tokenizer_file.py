"""A model's tokenizer, by which its prompts are counted: a `tokenizer.json`, in the format of the
package `tokenizers`, which is an extra.

Knows no request.
"""

import importlib
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from gateway.config.findings import Findings
from gateway.config.schema import Config
from planner.document import note, shown, under

PACKAGE = "tokenizers"
MISSING = (
    f"needs the package {PACKAGE}, which is not installed: pip install 'cuvee[{PACKAGE}]', or take "
    "the key away: prompts are then estimated by their bytes"
)


class TokenizerFile(msgspec.Struct, frozen=True):
    """One file. path: absolute. print: a digest of what is in it, so that a file with another
    content makes another value."""

    path: str
    print: str


def tokenizer_files(config: Config, root: Path, findings: Findings) -> dict[str, TokenizerFile]:
    """The file of each model that names one; findings hear of what cannot be used. root: the folder
    that paths are relative to."""
    found = dict[str, TokenizerFile]()
    for model, section in config.models.items():
        if section.tokenizer is None:
            continue
        key, path = f"{under('models', model)}.tokenizer", (root / section.tokenizer).absolute()
        note(path)  # it is watched like the configuration
        try:
            content = path.read_bytes()
            usable(content)
        except OSError as error:
            findings.problem(key, f"{shown(path)} cannot be read: {error.strerror}")
        except ImportError:
            findings.problem(key, MISSING)
        except ValueError as error:
            findings.problem(key, f"{shown(path)} is no tokenizer: {shown(str(error))}")
        else:
            found[model] = TokenizerFile(str(path), sha256(content).hexdigest())
    return found


def usable(content: bytes) -> Any:
    """A tokenizer made of the content of a file, which counts all of a text. Raises ImportError
    without the package, and ValueError if it cannot be made."""
    # What is counted at one time is one prompt, in a thread of its own: more threads would take the
    # cores of other workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    package = importlib.import_module(PACKAGE)
    try:
        tokenizer = package.Tokenizer.from_buffer(content)
        # Files of embedding models cut a text at their context, and fill it up to that.
        tokenizer.no_truncation()
        tokenizer.no_padding()
    except Exception as error:  # the package has no class of its own for it
        raise ValueError(str(error)) from error
    return tokenizer
