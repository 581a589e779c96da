"""Declares the packages and compiles the data path. pyproject.toml has everything else.

The folder configs/ ships as the package `cuvee_configs`, data only: planner/shipped.py finds it.

With CUVEE_COMPILE=1 the data path is compiled, and a failure is an error; with 0 it is interpreted.
Unset, a wheel (what `pip install .` makes) is compiled if mypyc, a C compiler and Python's headers
are there; an editable install is not: extension modules would shadow the sources that are edited.
"""

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

PACKAGES = ["planner*", "gateway*", "loadtest*", "cuvee*"]
DATA = "cuvee_configs"
WISH = os.environ.get("CUVEE_COMPILE", "")
LIBRARY = "cuvee"  # gateway/runtime.py knows the name: cuvee__mypyc
LEVEL = "3"
FLAGS = ["-Wno-error"]
if sys.platform == "linux":
    # Calls inside the library are then direct instead of by way of the procedure linkage table.
    FLAGS.append("-fno-semantic-interposition")
REASON_CHARS = 100
# None that defines a msgspec.Struct, or a dataclass that travels: see gateway/proxy/README.md.
MODULES = {
    "gateway/access": [
        "callers", "charge", "gate", "key", "key_board", "key_meter", "key_ring",
    ],
    "gateway/workers": ["records", "request_lines", "request_log", "span_recorder", "worker"],
    "gateway/proxy": [
        "active", "answer_homes", "answers", "arrival", "attempts", "beginning", "charges",
        "context_refusal", "dispatch", "engines", "events", "exchange", "framing", "judge",
        "list_cut", "list_split", "names", "receipt", "relay", "renaming", "responses", "retry",
        "slo_header", "sse", "stored_responses", "targets", "timeouts", "token_counter",
        "trace_sampler", "trails",
        "usage_memory",
    ],
    "gateway/proxy/http": [
        "answer", "backend", "body_budget", "chunked", "client", "content_coding", "cors",
        "fiber", "head_memo", "headers", "host", "incoming", "phase", "pool", "reply",
        "request", "request_parser", "server", "tls", "upload",
    ],
    "gateway/routing": [
        "abridgement", "admission", "affinity", "backend", "body", "breaker", "class_names",
        "elements", "eligibility", "endpoints", "estimate", "estimator", "failure_rate", "fleet",
        "form", "large_body", "lengths", "llm_request", "observation", "pairs", "payload_tokens",
        "prefix_index", "prefix_trail", "pressure", "prompt_text", "ramp", "rotation", "router",
        "selection", "shared_queue", "ticket", "token_fit", "tokens", "trace_context", "turns",
    ],
    "gateway/telemetry": ["request_records", "sampler", "stats"],
    "gateway/otel": ["attributes", "spans", "wire"],
    "gateway/rehearsal": ["estimates", "gateway"],
    "planner": ["cells"],
    "planner/engine": ["batching", "iteration", "sequence"],
    "planner/proof": ["timeline"],
}  # fmt: skip


def wanted() -> bool:
    """Whether this run of setup.py compiles the data path."""
    builds = {"bdist_wheel", "build", "build_ext", "install"}
    if WISH == "1":
        builds |= {"editable_wheel", "develop"}
    return WISH != "0" and not builds.isdisjoint(sys.argv)


def extensions() -> list[Extension]:
    """The extension modules of the data path; none where they cannot be made."""
    paths = [f"{folder}/{name}.py" for folder, names in MODULES.items() for name in names]
    options = [
        "--config-file=",  # [tool.mypy] names other files
        "--no-site-packages",  # what is installed must not change what is compiled
        "--ignore-missing-imports",
        "--follow-imports=silent",
    ]
    try:
        from mypyc.build import mypycify

        modules = mypycify([*options, *paths], opt_level=LEVEL, group_name=LIBRARY)
    except (Exception, SystemExit) as error:  # mypyc exits when it finds mistakes
        interpreted(error)
        return []
    for extension in modules:
        extension.extra_compile_args += FLAGS
    return modules


def interpreted(error: BaseException) -> None:
    """Report that the data path stays interpreted; raise the error if CUVEE_COMPILE is 1."""
    if WISH == "1":
        raise error
    reason = f"{type(error).__name__}: {error}".splitlines()[0][:REASON_CHARS]
    print(f"cuvee: the data path is not compiled and will run interpreted ({reason})")


class Data(build_py):  # type: ignore[misc]  # setuptools has no types
    """Completes the package made of configs/, a folder without Python."""

    def run(self) -> None:
        if not self.editable_mode:
            # setuptools keeps what an earlier build left here: a price list that was deleted since
            # would be installed, and found by its name.
            for package in self.distribution.packages:
                shutil.rmtree(Path(self.build_lib, package.partition(".")[0]), ignore_errors=True)
        super().run()
        if not self.editable_mode:
            # A package without this file would be merged with, and shadowed by, a folder of the
            # same name in the working directory (PEP 420).
            text = '"""The data that ships with Cuvée."""\n'
            Path(self.build_lib, DATA, "__init__.py").write_text(text, encoding="utf-8")


class Build(build_ext):  # type: ignore[misc]  # setuptools has no types
    """Compiles all modules of the data path or, where one fails, none."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # compilers fail in many ways
            interpreted(error)
            for extension in self.extensions:
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            self.extensions.clear()
            self.distribution.ext_modules = None
            wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
            if wheel is not None:
                # Otherwise the name of the wheel would claim this machine's platform.
                wheel.root_is_pure = True


setup(
    packages=[*find_packages(include=PACKAGES), DATA],
    package_dir={DATA: "configs"},
    package_data={"": ["py.typed"], "gateway.admin": ["page/*"], DATA: ["**/*"]},
    include_package_data=False,  # the folders inside configs/ are no packages
    ext_modules=extensions() if wanted() else [],
    cmdclass={"build_ext": Build, "build_py": Data},
)
