"""The command `samjax` itself: its help, version and completion, and what it does with a name that is no command."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import samjax
from samjax.cli.main import COMMANDS, dispatch
from samjax.errors import UserError

PACKAGE = Path(samjax.__file__).parent
NAMES = (
    "train",
    "eval",
    "predict",
    "serve",
    "prepare",
    "check",
    "convert",
    "export",
    "pack",
    "push",
    "nnunet",
    "completion",
)


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What the command prints before it ends with code 0."""
    code = None
    try:
        dispatch(arguments)
    except SystemExit as end:
        code = end.code
    assert not code, arguments
    return capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ()])
def test_help_lists_every_command_in_one_line(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(capsys, *arguments).splitlines()
    assert tuple(COMMANDS) == NAMES
    for name in NAMES:
        (line,) = (line for line in lines if f"• {name} " in line)
        assert COMMANDS[name].summary in line  # whole, so that nothing of it is on a second line


def test_a_reader_that_has_seen_enough_ends_the_command_quietly():
    process = subprocess.Popen(
        [sys.executable, "-m", "samjax", "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.communicate()[1] == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("name", NAMES)
def test_every_command_has_help_and_a_function(name, capsys):
    from pkgutil import resolve_name

    text = shown(capsys, name, "--help")
    assert f"usage: samjax {name} " in text
    assert COMMANDS[name].summary in text
    assert callable(resolve_name(COMMANDS[name].function))


def test_version(capsys):
    assert shown(capsys, "--version") == f"samjax {samjax.__version__}\n"


def test_help_and_wrong_options_do_not_wait_for_jax():
    program = """
import sys
from samjax.cli.main import dispatch
for arguments in ([], ["--help"], ["train", "--help"], ["eval", "--no-such-option"], ["completion", "bash"]):
    try:
        dispatch(arguments)
    except SystemExit:
        pass
print(sorted({"jax", "flax", "scipy", "matplotlib"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_an_unknown_command_is_one_line_and_code_two():
    with pytest.raises(UserError) as caught:
        dispatch(["trian"])
    assert str(caught.value) == f"samjax trian: no such command; expected one of {', '.join(NAMES)}"
    done = subprocess.run([sys.executable, "-m", "samjax", "trian"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {caught.value}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_commands_and_their_options(shell, capsys):
    text = shown(capsys, "completion", shell)
    assert "samjax" in text
    for part in (*NAMES, "--strategy", "--save-predictions", "--boxes", "--download", "--platforms"):
        assert part in text, part


def test_bash_completes_a_command(capsys, tmp_path):
    """As bash would: it sources the script and asks for what `samjax con` may become."""
    script = tmp_path / "completion.bash"
    script.write_text(shown(capsys, "completion", "bash"))
    ask = f"source {script}; COMP_WORDS=(samjax con); COMP_CWORD=1; _tyro_samjax; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True)
    assert done.stdout.split() == ["convert"], done.stderr


def test_what_a_whole_process_shares_is_set_in_one_place():
    """Assignments to the environment, and calls that change warnings, garbage collection or JAX's settings."""
    setters = ("warnings.filterwarnings", "warnings.simplefilter", "gc.set_threshold", "gc.disable", "gc.freeze")
    setters += ("os.putenv", "os.environ.setdefault", "os.environ.update", "jax.config.update", "matplotlib.use")
    # Joining several processes needs one setting of JAX's at that moment, whoever joins them.
    allowed = {"cli/process.py", "training/distributed.py"}
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assigned = node.targets if isinstance(node, ast.Assign) else []
            if (isinstance(node, ast.Call) and ast.unparse(node.func) in setters) or any(
                ast.unparse(target).startswith("os.environ[") for target in assigned
            ):
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == allowed


def test_no_module_locks_files_by_itself():
    """Locks are filelock's: there is no fcntl on Windows."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {"fcntl", "msvcrt"} & set(names), path
