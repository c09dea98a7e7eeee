"""The command tree, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from illada_cli import ui
from illada_cli.chat.verb import chat
from illada_cli.convert.verb import convert
from illada_cli.eval.verb import evaluate
from illada_cli.generate.verb import generate
from illada_cli.help.verb import show_help
from illada_cli.pack.verb import pack
from illada_cli.runs.verb import runs
from illada_cli.score.verb import score
from illada_cli.serve.verb import serve
from illada_cli.tokenize.verb import tokenize
from illada_cli.train.pretrain import pretrain
from illada_cli.train.sft import sft
from illada_core.errors import SIGNAL_EXIT_BASE, IlladaError

HELP = "Train, run, score, chat with and serve masked-diffusion language models."
EPILOG = "illada VERB --help has examples and options, illada help the documentation."
# The verbs in the order of the work: each has a folder of its own.
VERBS: dict[str, Callable[..., Any]] = {
    "tokenize": tokenize,
    "pack": pack,
    "pretrain": pretrain,
    "sft": sft,
    "runs": runs,
    "generate": generate,
    "score": score,
    "eval": evaluate,
    "convert": convert,
    "chat": chat,
    "serve": serve,
    "help": show_help,
}
# The page of docs/ that says more of a verb.
PAGES = {
    "tokenize": "tutorial",
    "pack": "tutorial",
    "pretrain": "recipes",
    "sft": "recipes",
    "runs": "tutorial",
    "generate": "generation",
    "score": "scoring",
    "eval": "evaluation",
    "convert": "families",
    "chat": "generation",
    "serve": "serving",
}
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def build_app(panels: bool) -> typer.Typer:
    """Return the command tree; `panels` draws help in boxes (terminals), else it is plain text."""
    app = typer.Typer(
        help=HELP,
        epilog=EPILOG,
        add_completion=False,
        no_args_is_help=False,
        invoke_without_command=True,
        rich_markup_mode="rich" if panels else None,
        pretty_exceptions_enable=False,
        context_settings=CONTEXT,
    )
    app.callback()(root)
    for name, function in VERBS.items():
        more = f"More: illada help {PAGES[name]}" if name in PAGES else None
        app.command(name, context_settings=CONTEXT, epilog=more)(function)
    return app


def hide_types(command: Any) -> None:
    """Keep typer from showing Python types beside what has no value that help could name."""
    for verb in command.commands.values():
        context = verb.make_context(verb.name, [], resilient_parsing=True)
        for parameter in (*verb.params, verb.get_help_option(context)):
            if parameter.param_type_name == "argument" or parameter.is_flag:
                parameter.display_type_rich = lambda *_, **__: ""


def escape_help(command: Any) -> None:
    """Keep rich from taking `[default: …]` in help texts for markup, which it would not print."""
    from rich.markup import escape

    for verb in command.commands.values():
        for parameter in verb.params:
            parameter.help = parameter.help and escape(parameter.help)


def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With --version: torch and CUDA too.")
    ] = False,
) -> None:
    if version:
        print_version(verbose)
    elif context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def print_version(verbose: bool) -> None:
    from illada_core import __version__

    print(f"illada {__version__}")
    if verbose:
        import platform

        import torch

        print(f"python {platform.python_version()}")
        print(f"torch {torch.__version__}")
        print(f"cuda {torch.version.cuda or 'not in this build of torch'}")


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code; nothing but a bug gives a traceback."""
    if isinstance(sys.stdout, TextIOWrapper):
        # Not every locale has every character; a text must not end in the middle for that.
        sys.stdout.reconfigure(errors="backslashreplace")
    panels = ui.is_rich_terminal(sys.stdout)
    command = typer.main.get_command(build_app(panels))
    hide_types(command)
    if panels:
        escape_help(command)
    try:
        result = command.main(
            with_help_of_verb(arguments), prog_name="illada", standalone_mode=False
        )
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:
        return closed_pipe()
    except SystemExit as leaving:
        # typer meets a pipe that closed while the verb ran, and turns it into an exit with 1.
        if isinstance(leaving.__context__, BrokenPipeError):
            return closed_pipe()
        raise
    except KeyboardInterrupt:
        return SIGNAL_EXIT_BASE + signal.SIGINT
    except typer.Abort:
        return SIGNAL_EXIT_BASE + signal.SIGINT
    except Exception as error:
        return report(error)


def with_help_of_verb(arguments: list[str]) -> list[str]:
    """Return the arguments, `help VERB` as `VERB --help`."""
    is_verb = len(arguments) == 2 and arguments[0] == "help" and arguments[1] in VERBS
    return [arguments[1], "--help"] if is_verb else arguments


def closed_pipe() -> int:
    """Return the code of a closed pipe, and keep the interpreter from writing to it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return SIGNAL_EXIT_BASE + signal.SIGPIPE


def report(error: Exception) -> int:
    """Tell an error in one sentence and a hint, and return its exit code."""
    if os.environ.get("ILLADA_DEBUG"):
        traceback.print_exception(error)
    if isinstance(error, IlladaError):
        ui.complain(error.sentence, error.hint)
        return error.code
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "illada"
        ui.complain(error.format_message().rstrip("."), f"see {path} --help")
        return error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        ui.complain(ui.os_error_sentence(error), OS_ERROR_HINTS.get(error.errno))
        return 1
    if is_out_of_memory(error):
        ui.complain(f"out of memory{on_rank()}: {first_line(error)}", OUT_OF_MEMORY_HINT)
        return 1
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        ui.complain("the machine allows no more threads", NO_MORE_HINT)
        return 1
    ui.complain(
        f"internal error: {type(error).__name__}: {error}",
        "this is a bug: run again with ILLADA_DEBUG=1 for a traceback",
    )
    return 1


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether the memory of the machine or of a GPU was not enough."""
    said = str(error)  # a RuntimeError of torch's allocators, or of CUDA's libraries
    is_told = any(words in said for words in ("can't allocate memory", "out of memory"))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and is_told)


def on_rank() -> str:
    """Return which of several ranks this process is, and where; nothing if it is alone."""
    rank = os.environ.get("RANK")
    return f" on rank {rank} on {socket.gethostname()}" if rank else ""


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its name where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


OUT_OF_MEMORY_HINT = (
    "generate, score and chat need less with --dtype bfloat16 or a smaller --batch-tokens; "
    "training with run.recompute=full, fewer batch.micro_rows or lora.rank"
)
NO_MORE_HINT = "raise the limit (ulimit -u), end other processes, or use fewer --workers"
OS_ERROR_HINTS = {
    errno.EAGAIN: NO_MORE_HINT,
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENOSPC: "free some space and run the same command again: finished parts are kept",
    errno.EDQUOT: "free some space and run the same command again: finished parts are kept",
    errno.EACCES: "check the permissions of the file and of the folders above it",
}
