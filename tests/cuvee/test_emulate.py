"""`cuvee emulate`: what it says of a wrong command line."""

import inspect

import pytest
from click.testing import CliRunner

from cuvee.emulate import SERVER_OPTIONS, emulate, emulated_profile
from loadtest.emulator.server import Emulator


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--model and --gpu"),
        (["--model", "Llama-3-70B", "--gpu", "L4"], "does not fit"),
        (["--model", "nope", "--gpu", "L4"], "Invalid value for '--model'"),
        (["--model", "Lama-3-8B", "--gpu", "L4"], "did you mean Llama-3-8B"),
        (["--model", "Llama-3-8B", "--gpu", "L44"], "Invalid value for '--gpu': unknown `L44`"),
        (["--model", "no.json", "--gpu", "L4"], "no.json: cannot be read"),
        (["--profile", "llama-3-8b/H1000"], "gpu: unknown `H1000`; did you mean H100"),
        (["--profile", "no.yaml"], "no.yaml: cannot be read"),
        (["--profile", "llama-3-8b/H100", "--gpu", "L4"], "--profile excludes gpu"),
        (["--profile", "llama-3-8b/H100", "--port", "99999"], "99999 is not in the range"),
    ],
)
def test_the_command_explains_what_is_wrong(arguments, words):
    """A wrong command line is one clear message and not a traceback."""
    result = CliRunner().invoke(emulate, arguments)

    assert result.exit_code != 0
    assert words in result.output


@pytest.mark.parametrize(
    ("profile", "given", "label"),
    [
        ("llama-3-8b/h100", {}, "H100"),
        (None, {"gpu": "own.yaml", "model": "Own/config.json"}, "Own-GPU"),
        (None, {"gpu": "mi300x", "model": "qwen3-30b-a3b"}, "MI300X"),
    ],
)
def test_names_and_files_are_emulated_alike(tmp_path, monkeypatch, profile, given, label):
    """Any GPU and model: a built-in name in any case, or a file of one's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(
        "format: cuvee-gpus/1\ngpus:\n  Own-GPU: {memory_gib: 40, bandwidth_gb_s: 900,"
        " tflops: {fp16: 300}}\n"
    )
    (tmp_path / "Own").mkdir()
    (tmp_path / "Own" / "config.json").write_text(
        '{"hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32,'
        ' "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000}'
    )
    context = emulate.make_context("emulate", [f"--{k}={v}" for k, v in given.items()])
    options = {name: context.params[name] for name in ("gpu", "model")}

    emulated = emulated_profile(profile, options)

    assert emulated.gpu_label == label


def test_events_are_of_a_prefix_cache():
    """Without one there would be none."""
    arguments = ["--profile", "llama-3-8b/H100", "--kv-events-port", "0"]

    result = CliRunner().invoke(emulate, arguments)

    assert result.exit_code == 2
    assert "--kv-events-port needs --prefix-cache" in result.output


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--served-model-name", "a", "--served-model-name", "b"], "served_names", ("a", "b")),
        (["--lora", "sql", "--lora", "law"], "loras", ("sql", "law")),
        (["--image-tokens", "576"], "image_tokens", 576),
        (["--enable-auto-tool-choice"], "tool_parser", True),
        (["--enable-force-include-usage"], "force_usage", True),
        (["--enable-server-load-tracking"], "load_tracking", True),
        (["--events-per-step", "8"], "events_per_step", 8),
    ],
)
def test_every_option_of_the_server_is_known_to_it(arguments, name, value):
    """What the command line says reaches the emulator under the same name."""
    context = emulate.make_context("emulate", arguments)

    assert context.params[name] == value
    assert name in {*SERVER_OPTIONS, "served_names"}
    assert set(SERVER_OPTIONS) < set(inspect.signature(Emulator).parameters)
