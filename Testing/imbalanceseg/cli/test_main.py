"""Start-up, help, usage errors and exit codes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

import imbalanceseg
from imbalanceseg.cli import main as main_module
from imbalanceseg.cli.main import main
from imbalanceseg.errors import Cancelled, InputError

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_help_answers_in_less_than_half_a_second(run_cli: Run) -> None:
    # Other work on the machine can slow any single run, not all of them.
    seconds: list[float] = []
    while len(seconds) < 10 and min(seconds, default=1.0) >= 0.5:
        start = time.perf_counter()
        assert run_cli("--help").returncode == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


@pytest.mark.parametrize("heavy", ["torch", "monai", "numpy", "SimpleITK", "rich", "matplotlib"])
def test_help_imports_nothing_heavy(process_environment: dict[str, str], heavy: str) -> None:
    code = f"import sys, imbalanceseg.cli.main; sys.exit({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=process_environment, timeout=60)
    assert done.returncode == 0


def test_help_lists_the_commands_that_work(run_cli: Run) -> None:
    listed = run_cli("--help").stdout.split("Commands:")[1].splitlines()
    names = {line.split()[0] for line in listed if line.strip()}
    assert names == {
        "segment",
        "finetune",
        "suggest",
        "demo",
        "evaluate",
        "series",
        "dicom-seg",
        "read-seg",
        "dicom-report",
        "pacs",
        "models",
        "phantom",
        "plan",
        "train",
        "hard",
        "benchmark",
        "serve",
        "pseudonyms",
        "doctor",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["segment", "-h"],
        ["demo", "-h"],
        ["train", "-h"],
        ["hard", "-h"],
        ["evaluate", "-h"],
        ["series", "-h"],
        ["dicom-seg", "-h"],
        ["read-seg", "-h"],
        ["dicom-report", "-h"],
        ["pacs", "find", "-h"],
        ["pacs", "get", "-h"],
        ["pacs", "send", "-h"],
        ["serve", "-h"],
        ["pseudonyms", "-h"],
        ["doctor", "-h"],
        ["plan", "-h"],
        ["models", "list", "-h"],
        ["models", "show", "-h"],
        ["models", "verify", "-h"],
        ["models", "export", "-h"],
        ["phantom", "airway", "-h"],
        ["phantom", "tumor", "-h"],
        ["phantom", "lesion", "-h"],
        ["benchmark", "losses", "-h"],
    ],
)
def test_every_command_explains_itself(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert "Usage: imbalanceseg " + " ".join(arguments[:-1]) in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"imbalanceseg {imbalanceseg.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nosuch"],
        ["segment"],
        ["segment", "a.nii", "--model", "airway"],
        ["segment", "a.nii", "--model", "airway", "-o", "out", "--maps", "hardnes"],
        ["segment", "a.nii", "--model", "airway", "-o", "out", "--device", "tpu"],
        ["segment", "a.nii", "--model", "airway", "-o", "out", "--progress", "loud"],
        ["phantom", "airway", "-o", "out", "--seed", "-1"],
        ["phantom", "tumor", "-o", "out", "--kind", "meningioma"],
        ["phantom", "tumor", "-o", "out", "--difficulty", "1.5"],
        ["phantom", "lesion", "-o", "out", "--cases", "0"],
        ["models", "nosuch"],
        ["plan", "dataset", "--preset", "v3"],
        ["benchmark", "losses", "-o", "out", "--seeds", "0"],
        ["serve", "--port", "70000"],
    ],
)
def test_usage_errors_are_plain_and_exit_with_2(run_cli: Run, arguments: list[str]) -> None:
    done = run_cli(*arguments)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert done.stdout == ""


def _failing(error: BaseException) -> Callable[[list[str]], int]:
    def fail(arguments: list[str]) -> int:
        raise error

    return fail


def test_an_expected_error_is_one_line_and_a_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        main_module, "_run", _failing(InputError("too-odd", "It is odd.", "Even it."))
    )
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "error[too-odd]: It is odd.\nhint: Even it.\n"


def test_an_unexpected_error_is_one_sentence_without_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module, "_run", _failing(ValueError("first line\nsecond line")))
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error[internal]: Something unexpected happened (ValueError: first line)."
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
def test_debug_shows_the_trace_wherever_it_stands(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module, "_run", _failing(ValueError("deep")))
    assert main(arguments) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_debug_after_two_dashes_is_an_argument() -> None:
    assert main_module._take(["segment", "--", "--debug"], "--debug") == (
        ["segment", "--", "--debug"],
        False,
    )


@pytest.mark.parametrize("stopped", [KeyboardInterrupt(), Cancelled()])
def test_being_stopped_exits_with_130(
    stopped: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main_module, "_run", _failing(stopped))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().err.startswith("error[cancelled]: ")


@pytest.fixture(autouse=True)
def _restore_signal_handlers() -> object:
    import signal

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(n) for n in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
