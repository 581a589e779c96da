"""The sources that a configuration asks for. Knows every kind of source, and starts none."""

from gateway.config.load import Loaded
from gateway.discovery.file_source import FileSource
from gateway.discovery.source import Source


def wanted(loaded: Loaded) -> dict[object, Source]:
    """The sources of a configuration, each by what it is made from: a source that runs is kept
    where another configuration has the same."""
    return {**_files(loaded)}


def _files(loaded: Loaded) -> dict[object, Source]:
    """A source for each file, which several pools may share."""
    pools: dict[str, list[str]] = {}
    for name, section in loaded.config.pools.items():
        if section.discover is not None and section.discover.file is not None:
            pools.setdefault(section.discover.file, []).append(name)
    made = ((loaded.root / file, tuple(names)) for file, names in pools.items())
    return {("file", path, names): FileSource(path, names) for path, names in made}
