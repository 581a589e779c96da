"""The list of commands, completion, and what a command says without a configuration."""

import os
import shutil
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import cuvee
from cuvee.completion import SHELLS

SCRIPT = 'import sys; sys.argv[0] = "cuvee"; from cuvee import main; main(prog_name="cuvee")'


def completed(words: str, cursor: int) -> str:
    """What a shell would be told, by a process of its own as it starts one; and that it imported
    no command."""
    told = {"_CUVEE_COMPLETE": "zsh_complete", "COMP_WORDS": words, "COMP_CWORD": str(cursor)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | told, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize("name", sorted(cuvee.COMMANDS))
def test_the_list_says_of_each_command_what_its_own_help_says(name: str):
    """The lines of `cuvee --help` stand apart from the commands, so that it imports none."""
    command = cuvee.main.get_command(click.Context(cuvee.main), name)
    lines = {key: line for group in cuvee.GROUPS.values() for key, line in group.items()}

    assert command is not None
    assert lines[name] == command.get_short_help_str(limit=200).removesuffix("…")


def test_the_list_is_in_groups_with_those_for_research_last():
    """Who serves finds first what serves."""
    page = CliRunner().invoke(cuvee.main, ["--help"]).stdout
    titles = [line[:-1] for line in page.splitlines() if line[:1].isupper() and line[-1:] == ":"]

    assert titles[-1] == "For research"
    assert [title for title in titles if title in cuvee.GROUPS] == list(cuvee.GROUPS)
    assert all(f"\n  {name} " in page for name in cuvee.COMMANDS)


def test_help_and_completion_import_no_command():
    """Each TAB is a new process: it must not import the solver."""
    code = (
        "import sys, cuvee; from click.testing import CliRunner; "
        "CliRunner().invoke(cuvee.main, ['--help']); "
        "context = cuvee.click.Context(cuvee.main); cuvee.main.shell_complete(context, 'c'); "
        "print([name for name in sys.modules if name.split('.')[0] in ('gateway', 'planner')])"
    )

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == (
        "[]\n"
    )


def test_names_and_options_are_completed():
    """As the scripts of the shells ask for it."""
    assert completed("cuvee de", 1).splitlines()[1::3] == ["demo", "demo-scale"]
    assert completed("cuvee check --c", 2).splitlines()[1::3] == ["--config", "--connect"]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_for_each_shell(shell: str):
    """It asks this command, and a shell that is here finds no mistake in it."""
    result = CliRunner().invoke(cuvee.main, ["completion", shell])

    assert result.exit_code == 0
    assert f"_CUVEE_COMPLETE={shell}_complete" in result.stdout
    if found := shutil.which(shell):
        assert subprocess.run([found, "-n"], input=result.stdout, text=True).returncode == 0


@pytest.mark.parametrize(
    "words", ["check", "serve", "history", "certify --trace x", "dispatch --trace x"]
)
def test_without_a_file_a_command_says_how_to_get_one(words: str, tmp_path, monkeypatch):
    """One line with both ways, and exit code 2."""
    monkeypatch.chdir(tmp_path)

    result = CliRunner().invoke(cuvee.main, words.split())

    assert result.exit_code == 2
    assert "cuvee init" in result.stderr
    assert "--config" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", ["schema", "history --file /dev/null", "completion bash"])
@pytest.mark.parametrize("into", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_is_one_line(words: str, into: str):
    """A full disk, and an output that is closed."""
    line = f'"{sys.executable}" -m cuvee {words} {into}'
    ended = subprocess.run(line, shell=True, capture_output=True, text=True)

    assert ended.returncode == 1
    assert ended.stderr.startswith("Error: the output cannot be written: ")
    assert len(ended.stderr.splitlines()) == 1
