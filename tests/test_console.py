"""The terminal: cleaned lines, tables, progress, one-line errors, exit codes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import framecnn
from framecnn.cli import console, main
from framecnn.errors import DataError, FormatError, MissingExtraError, SettingError, ShapeError


def python(code, **options):
    """Start Python on a few lines; its output is piped."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", code], **options)


def test_control_characters_are_printed_as_escapes():
    hostile = "a\x1b[2J\r\nb\x07\x9b31m\u202ecod\u2066\udcff\x00é日🎬"
    assert console.clean(hostile) == r"a\x1b[2J\r\nb\x07\x9b31m\u202ecod\u2066\udcff\x00é日🎬"


def test_printed_lines_are_cleaned(capsys):
    console.say("movie\x1b[31m")
    console.warn("odd\nname")
    assert capsys.readouterr() == ("movie\\x1b[31m\n", "warning: odd\\nname\n")


def test_a_table_is_aligned_with_numbers_to_the_right(capsys):
    console.table([("orion", 7), ("日本\n", 123)], head=("film", "frames"))
    assert capsys.readouterr().out == "film    frames\norion        7\n日本\\n     123\n"


def test_numbers_with_a_unit_are_right_aligned_too(capsys):
    console.table([("a", "9.8 s", "4,046", "-"), ("b", "17.7 s", "26", "100.0 %")])
    assert capsys.readouterr().out == "a   9.8 s  4,046        -\nb  17.7 s     26  100.0 %\n"


def test_a_table_may_have_no_rows(capsys):
    console.table([], head=("film", "frames"))
    assert capsys.readouterr().out == "film  frames\n"


def test_successful_work_exits_with_zero():
    assert console.run(lambda: None) == 0


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("folder 'x': empty; add pictures"), "error: folder 'x': empty; add pictures"),
        (FormatError("no model"), "error: no model"),
        (ShapeError("expected (3,)"), "error: expected (3,)"),
        (SettingError("FRAMECNN_ISA: odd"), "error: FRAMECNN_ISA: odd"),
        (MissingExtraError("framecnn frames", "av", "video"), "pip install 'framecnn[video]'"),
        (FileNotFoundError(2, "No such file or directory", "x\x1b"), r"error: No such file or directory: 'x\x1b'"),
        (OSError("odd"), "error: odd"),
        (OSError(28, "Full", "m"), "error: Full: 'm'; free space there, or write to another disk"),
        (OSError(27, "File too large", "m"), "error: File too large: 'm'; raise the limit of file sizes"),
        (PermissionError(13, "Denied", "m"), "error: Denied: 'm'; change the permissions so that you may read"),
        (typer.BadParameter("must be even"), "error: Invalid value: must be even (see framecnn --help)"),
        (DataError("first\nsecond \x1b[1m"), "error: first\nsecond \\x1b[1m"),
    ],
)
def test_expected_errors_are_one_line_and_exit_code_two(capsys, error, line):
    def work():
        raise error

    assert console.run(work) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err
    assert "Traceback" not in err


def test_unexpected_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        console.run(lambda: print(1 / 0))


def test_a_command_may_choose_its_exit_code():
    def work():
        raise typer.Exit(5)

    assert console.run(work) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, typer.Abort])
def test_interrupted_work_exits_with_130(capsys, error):
    def work():
        raise error

    assert console.run(work) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("name", "said"), [("SIGINT", b"interrupted"), ("SIGTERM", b"terminated"), ("SIGHUP", b"hung up")]
)
def test_a_signal_ends_the_process_with_its_own_exit_code_and_no_traceback(name, said):
    process = python(
        "import sys, time\n"
        "from framecnn.cli import console\n"
        "def work():\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('cleaned up', flush=True)\n"
        "sys.exit(console.run(work))"
    )
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (
        *(128 + getattr(signal, name), b"cleaned up\n"),
        said + b"\n",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_signal_that_nohup_ignores_stays_ignored(capsys):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert console.run(lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_of_signals_are_restored():
    before = signal.getsignal(signal.SIGTERM)
    inside = []
    assert console.run(lambda: inside.append(signal.getsignal(signal.SIGTERM))) == 0
    assert inside != [before]
    assert signal.getsignal(signal.SIGTERM) == before


def test_closed_output_exits_with_141_and_prints_nothing():
    reading, writing = os.pipe()
    os.close(reading)
    process = python("from framecnn.cli import main; main(['--help'])", stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 141


def test_a_closed_standard_error_is_not_an_error():
    reading, writing = os.pipe()
    os.close(reading)
    process = python("from framecnn.cli import main; main(['nonsense'])", stderr=writing)
    os.close(writing)
    assert process.communicate(timeout=30)[0] == b""
    assert process.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_an_error():
    with open("/dev/full", "wb") as full:
        process = python("from framecnn.cli import main; main(['--help'])", stdout=full)
        assert process.communicate(timeout=30)[1] == (
            b"error: [Errno 28] No space left on device; free space there, or write to another disk\n"
        )
    assert process.returncode == 2


def test_commands_run_without_standard_streams(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def work():
        console.say("nobody hears")
        raise DataError("nobody reads")

    assert console.run(work) == 2


def test_any_name_can_be_printed_in_the_c_locale():
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    process = python(
        "import sys\n"
        "from framecnn.cli import console\n"
        "sys.exit(console.run(lambda: console.table([('pel\\xedcula \\U0001f3ac', 1)])))",
        env=environment,
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, b"pel\\xedcula \\U0001f3ac  1\n", b"")


def test_quick_work_shows_no_progress(capfd):
    with console.progress("reading") as update:
        update(1, 2)
    assert capfd.readouterr() == ("", "")


def test_progress_is_plain_lines_without_a_terminal(capsys):
    view = console._Lines("cut\x1b", every=0.0)
    view.update(1, 4)
    view.start()
    view.update(2, 4, "orion")
    view.update(3)
    view.stop()
    view.update(4, 4)
    view.start()
    assert capsys.readouterr() == ("", "cut\\x1b: 25 %\norion: 50 %\norion ...\n")


def test_lines_of_progress_are_rare(capsys):
    view = console._Lines("cutting")
    view.start()
    for i in range(100):
        view.update(i, 100)
    view.stop()
    assert capsys.readouterr().err == "cutting ...\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("term", "is_live"), [("xterm", True), ("dumb", False)])
def test_a_terminal_shows_a_bar_unless_it_is_dumb(term, is_live):
    code = (
        "from framecnn.cli import console\n"
        "import sys\n"
        "live = console._is_live(sys.stderr)\n"
        "view = (console._Bar if live else console._Lines)('cut [red]orion\\x1b')\n"
        "view.start(); view.update(1, 2); view.stop()"
    )
    terminal, end = os.openpty()
    process = python(code, stderr=end, env=os.environ | {"TERM": term, "COLUMNS": "100"})
    assert process.communicate(timeout=30)[0] == b""
    os.close(end)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert process.returncode == 0
    assert "cut [red]orion\\x1b" in shown
    assert ("\x1b[" in shown) is is_live


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_bar_has_no_percentage_if_the_total_is_unknown():
    code = (
        "from framecnn.cli import console\n"
        "view = console._Bar('writing'); view.start(); view.update(3); view.stop()\n"
        "view = console._Bar('reading'); view.start(); view.update(1, 4); view.stop()"
    )
    terminal, end = os.openpty()
    process = python(code, stderr=end, env=os.environ | {"TERM": "xterm", "COLUMNS": "100"})
    process.communicate(timeout=30)
    os.close(end)
    writing, reading = os.read(terminal, 100_000).decode().split("reading", 1)
    os.close(terminal)
    assert "writing" in writing
    assert "%" not in writing
    assert "25 %" in reading


def test_progress_appears_without_an_update(capsys, monkeypatch):
    shown = []
    monkeypatch.setattr(console._Lines, "_show", lambda self: shown.append(self._title))
    with console.progress("fitting", show_after=0.0):
        while not shown:
            pass
    assert shown == ["fitting"]


def test_help_names_every_command_and_loads_none(capsys):
    code = (
        "import sys\n"
        "from framecnn.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    heavy = {'numpy', 'numba', 'sklearn', 'av', 'PIL', 'rich', 'framecnn.cli.frames', 'framecnn.data'}\n"
        "    sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    process = python(code)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert all(name in out.decode() for name in ("frames", "doctor"))


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["frames", "--help"], ["doctor", "--help"]])
def test_help_and_version_exit_with_zero(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, err) == (0, "")
    assert "framecnn" in out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["frame"], "error: No such command 'frame'. Did you mean 'frames'? (see framecnn --help)\n"),
        (["--nonsense"], "error: No such option: --nonsense"),
        (["frames", "x.mp4"], "error: Missing option '--out' / '-o'. (see framecnn frames --help)\n"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_names_the_help(capsys, arguments, line):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_python_m_framecnn_is_the_command_line():
    command = [sys.executable, "-m", "framecnn", "--version"]
    assert subprocess.run(command, capture_output=True, check=True).stdout.startswith(b"framecnn ")


def test_no_command_imports_from_the_working_directory(tmp_path):
    for name in [*sys.stdlib_module_names, "numba", "numpy", "packaging", "PIL", "rich", "sklearn", "typer"]:
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(3)\n")
    environment = os.environ | {"PYTHONPATH": str(Path(framecnn.__file__).parents[1])}
    command = [sys.executable, "-m", "framecnn", "doctor"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"framecnn ")
