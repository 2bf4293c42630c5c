"""The virtual environment follows the requirement files, and survives being interrupted."""

import pytest

from tools import project, requirements
from tools.steps import ToolError

PYTHON = """
if os.path.exists({failing!r}):
    sys.exit("ERROR: no matching distribution")
if sys.argv[1:3] == ["-m", "venv"]:
    python = pathlib.Path(sys.argv[3], "bin", "python")
    python.parent.mkdir()
    shutil.copy(__file__, python)
"""


@pytest.fixture
def python(machine, tmp_path):
    for name in ("requirements.txt", "requirements-dev.txt"):
        (machine.root / name).write_text(f"{name}\n")
    (machine.root / "pyproject.toml").write_text("[build-system]\n[project]\n[tool.ruff]\n")
    return machine.program("python3", PYTHON.format(failing=str(tmp_path / "failing")))


def installed(machine) -> list[str]:
    return [line.rsplit("/", 1)[-1] for line in machine.calls("python3 -m pip")]


def test_the_second_time_nothing_is_done(machine, python, capsys):
    requirements.install(dev=False, python=python)
    assert installed(machine) == ["requirements.txt", "project"]
    assert "--require-hashes" in machine.calls("python3 -m pip")[0]
    capsys.readouterr()
    requirements.install(dev=False, python=python)
    assert len(installed(machine)) == 2
    assert capsys.readouterr().err == ""


def test_the_developers_requirements_include_the_runtimes(machine, python):
    requirements.install(dev=True, python=python)
    requirements.install(dev=False, python=python)
    assert installed(machine) == ["requirements-dev.txt", "project"]
    requirements.install(dev=True, python=python)
    assert len(installed(machine)) == 2


@pytest.mark.parametrize(
    ("file", "text", "again"),
    [
        ("requirements.txt", "another==1\n", True),
        ("pyproject.toml", "[build-system]\n[project]\nname = 'other'\n", True),
        ("pyproject.toml", "[build-system]\n[project]\n[tool.ruff]\nline-length = 1\n", False),
    ],
)
def test_what_changes_the_environment_installs_again(machine, python, file, text, again):
    requirements.install(dev=False, python=python)
    (machine.root / file).write_text(text)
    requirements.install(dev=False, python=python)
    assert len(installed(machine)) == (4 if again else 2)
    assert len(machine.calls("python3 -m venv")) == 1


def test_an_interrupted_installation_is_begun_afresh(machine, python, tmp_path):
    (tmp_path / "failing").touch()
    project.VENV_PYTHON.parent.mkdir(parents=True)
    project.VENV_PYTHON.symlink_to(python)
    with pytest.raises(ToolError, match="no matching distribution"):
        requirements.install(dev=False, python=python)
    half = project.VENV / "half-copied"
    half.touch()
    (tmp_path / "failing").unlink()
    requirements.install(dev=False, python=python)
    assert not half.exists()
    assert len(machine.calls("python3 -m venv")) == 1


def test_an_environment_that_the_user_made_is_kept(machine, python):
    project.VENV_PYTHON.parent.mkdir(parents=True)
    project.VENV_PYTHON.symlink_to(python)
    theirs = project.VENV / "theirs"
    theirs.touch()
    requirements.install(dev=False, python=python)
    assert theirs.exists()
    assert installed(machine) == ["requirements.txt", "project"]


def test_a_project_that_was_moved_gets_a_new_environment(machine, python, monkeypatch):
    requirements.install(dev=False, python=python)
    moved = machine.root.rename(machine.root.with_name("moved"))
    monkeypatch.setattr(project, "ROOT", moved)
    monkeypatch.setattr(project, "VENV", moved / ".venv")
    monkeypatch.setattr(project, "VENV_PYTHON", moved / ".venv" / "bin" / "python")
    requirements.install(dev=False, python=python)
    assert len(machine.calls("python3 -m venv")) == 2


@pytest.mark.usefixtures("machine")
def test_a_python_without_venv_is_told_what_to_do(python, tmp_path):
    (tmp_path / "failing").touch()
    with pytest.raises(ToolError, match="python3-venv"):
        requirements.install(dev=False, python=python)
