"""The build backend: setuptools, with mypy only where the data path is compiled. See setup.py."""

import os

from setuptools.build_meta import *  # noqa: F403

MYPY = "mypy>=1.20"  # contains mypyc; older versions were not tried
WISH = os.environ.get("CUVEE_COMPILE", "")


def get_requires_for_build_wheel(config_settings: object = None) -> list[str]:
    return [] if WISH == "0" else [MYPY]


def get_requires_for_build_editable(config_settings: object = None) -> list[str]:
    return [MYPY] if WISH == "1" else []
