"""The command line: ``framecnn COMMAND``. A command's module is loaded when the command runs, not before."""

import os
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from framecnn.cli import console
from framecnn.version import __version__

__all__ = ["app", "main"]

# by name: the module, which holds a function of that name, and the line in `framecnn --help`
_COMMANDS = {
    "demo": ("framecnn.cli.demo", "Run all steps on three short clips, in the folder demo."),
    "frames": ("framecnn.cli.frames", "Cut movies into a folder of frames per class."),
    "scan": ("framecnn.cli.scan", "List classes, groups and unusable files of a folder of frames."),
    "train": ("framecnn.cli.train", "Train on a folder of frames; write a model and a report."),
    "evaluate": ("framecnn.cli.evaluate", "Measure the accuracy of a model on frames that it was not trained on."),
    "compare": (
        "framecnn.cli.compare",
        "Compare framecnn's classifier with networks trained by framecnn and by Keras.",
    ),
    "predict": ("framecnn.cli.predict", "Predict the class of pictures."),
    "export": ("framecnn.cli.export", "Write a model as an ONNX file."),
    "summary": ("framecnn.cli.summary", "Print the contents of a model file."),
    "warmup": ("framecnn.cli.warmup", "Compile all kernels, so that later runs start without a delay."),
    "doctor": ("framecnn.cli.doctor", "Show what is installed, what is missing, and where kernels are cached."),
}

_COMPLETION = "_FRAMECNN_COMPLETE"
_HELP = {"help_option_names": ["-h", "--help"]}


class _LazyGroup(TyperGroup):
    """Commands by name; each is built from its function when it is first used."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.commands = dict.fromkeys(_COMMANDS)  # type: ignore[assignment]  # for suggestions after a misspelling

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        command = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings=_HELP)
        command.command(cmd_name, cls=_TitledCommand)(getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name))
        return typer.main.get_command(command)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the names of commands without loading their modules."""
        options = typer.core.TyperCommand.shell_complete(self, ctx, incomplete)
        item: Any = typer.core.CompletionItem  # type: ignore[attr-defined]
        return [item(name, help=text) for name, (_, text) in _COMMANDS.items() if name.startswith(incomplete)] + options

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


class _TitledCommand(typer.core.TyperCommand):
    """A command whose help lists options below titles: the ``rich_help_panel`` of each option."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            if record := parameter.get_help_record(ctx):
                is_argument = parameter.param_type_name == "argument"
                title = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or "Options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


app = typer.Typer(
    name="framecnn",
    cls=_LazyGroup,
    help="Classify movie frames, or any folder of pictures, on an ordinary CPU, and explain the result.",
    context_settings=_HELP,
    rich_markup_mode=None,  # plain help is fast and readable on any terminal
)


@app.callback(invoke_without_command=True)
def _without_command(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(f"framecnn {__version__}" if version else context.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run a command line and exit with its exit code.

    Parameters
    ----------
    arguments : list of str, optional
        The arguments after ``framecnn``. If None, those with which this process was started.

    Raises
    ------
    SystemExit
        Always. The code is 0 after success; 1 if some of the given files could not be used and others were; 2 after an
        error of the user, the files or the machine, which is one line on standard error; 130 when interrupted, 143 when
        terminated, 129 when the terminal hung up; 141 when standard output was closed.
    """

    def work() -> None:
        command = typer.main.get_command(app)
        if _COMPLETION in os.environ:  # the shell asks how the command line might go on
            command.main(prog_name="framecnn", complete_var=_COMPLETION)
        with command.make_context("framecnn", list(sys.argv[1:] if arguments is None else arguments)) as context:
            command.invoke(context)

    sys.exit(console.run(work))
