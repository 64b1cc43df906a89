"""The command ``imbalanceseg``: its commands, its errors and its exit codes.

Exit codes: 0 done, 1 something unexpected or not usable, 2 the request cannot be fulfilled as
given, 130 stopped by the user.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

import imbalanceseg
from imbalanceseg.cli import (
    benchmark,
    data,
    demo,
    doctor,
    finetune,
    hard,
    models,
    pacs,
    phantom,
    plan,
    segment,
    series,
    serve,
    suggest,
    train,
)
from imbalanceseg.errors import Cancelled, ImbalanceSegError
from imbalanceseg.privacy import DEIDENTIFY_VARIABLE

EXIT_UNEXPECTED, EXIT_REFUSED, EXIT_STOPPED = 1, 2, 130

app = typer.Typer(
    name="imbalanceseg",
    help="Segment what is small, rare and scattered in medical images. Not for clinical use.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("segment")(segment.segment)
app.command("finetune")(finetune.finetune)
app.command("suggest")(suggest.suggest)
app.command("demo")(demo.demo)
app.command("plan")(plan.plan)
app.command("train")(train.train)
app.command("hard")(hard.hard)
app.command("series")(series.series)
app.command("evaluate")(data.evaluate)
app.command("dicom-seg")(data.dicom_seg)
app.command("read-seg")(data.read_seg)
app.command("dicom-report")(data.dicom_report)
app.add_typer(models.app, name="models")
app.add_typer(phantom.app, name="phantom")
app.add_typer(pacs.app, name="pacs")
app.add_typer(benchmark.app, name="benchmark")
app.command("serve")(serve.serve)
app.command("pseudonyms")(data.pseudonyms)
app.command("doctor")(doctor.doctor)


class _Interrupted(BaseException):
    """Ctrl-C or a termination signal; no library that catches ``Exception`` can swallow it."""


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show warnings and the full trace of an error.")
    ] = False,
    deidentify: Annotated[
        bool,
        typer.Option(
            "--deidentify", help="Call cases by pseudonyms in all that is written and shown."
        ),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; nothing is raised.

    Args:
        arguments: what stands after the program's name; ``sys.argv[1:]`` when None.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    given, debug = _take(given, "--debug")
    given, deidentify = _take(given, "--deidentify")
    if deidentify:
        # Processes that are started inherit it.
        os.environ[DEIDENTIFY_VARIABLE] = "1"
    if given == ["--version"]:
        print(f"imbalanceseg {imbalanceseg.__version__}")
        return 0
    _set_up_messages(debug)
    try:
        _handle_signals()
        return _run(given)
    except (_Interrupted, KeyboardInterrupt, Cancelled):
        _print_error("error[cancelled]: Stopped; nothing half-written is left behind.")
        return EXIT_STOPPED
    except ImbalanceSegError as error:
        if debug:
            traceback.print_exc()
        _print_error(str(error))
        return EXIT_REFUSED
    except BrokenPipeError:
        # Python would complain once more when it flushes the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNEXPECTED
    except Exception as error:
        return _unexpected(error, debug)


def _take(arguments: list[str], option: str) -> tuple[list[str], bool]:
    """The arguments without an option that counts wherever it stands before a ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [a for a in arguments[:end] if a != option]
    return kept + arguments[end:], len(kept) < end


def _run(arguments: list[str]) -> int:
    try:
        app(args=arguments, prog_name="imbalanceseg")
    except SystemExit as leaving:
        code = leaving.code
        return code if isinstance(code, int) else int(code is not None)
    return 0


def _set_up_messages(debug: bool) -> None:
    if debug:
        logging.basicConfig(level=logging.INFO)
        return
    warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())


def _handle_signals() -> None:
    def stop(number: int, frame: FrameType | None) -> None:
        # A second signal ends the process at once, for whoever cannot wait.
        signal.signal(number, signal.SIG_DFL)
        raise _Interrupted

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _unexpected(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    lines = str(error).strip().splitlines()
    what = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    _print_error(
        f"error[internal]: Something unexpected happened ({what}).\n"
        "hint: Run the command again with --debug and report what it prints."
    )
    return EXIT_UNEXPECTED


def _print_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
