"""Pulumi gets the user's backend and passphrase, and the project's own where there is none."""

import json
import os
import shlex
import stat

import pytest

from tools import environment, project
from tools.__main__ import main


def test_by_default_the_state_lies_in_the_project(machine):
    variables = environment.for_pulumi({"PATH": "/usr/bin"})
    assert variables["PULUMI_BACKEND_URL"] == f"file://{machine.root}/.tandem/state?metadata=skip"
    assert project.STATE.is_dir()


@pytest.mark.parametrize(
    "user",
    [{"PULUMI_BACKEND_URL": "s3://state"}, {"PULUMI_ACCESS_TOKEN": "pul-0"}],
)
@pytest.mark.usefixtures("machine")
def test_a_backend_that_the_user_names_is_left_alone(user):
    assert environment.for_pulumi(user).keys() == {"PATH", "PULUMI_SKIP_UPDATE_CHECK"}
    assert environment.chosen_backend(user)
    assert not project.RUNTIME.exists()


@pytest.mark.parametrize("variable", [None, "PULUMI_HOME", "PULUMI_CREDENTIALS_PATH"])
@pytest.mark.parametrize(("current", "theirs"), [("https://api.pulumi.com", True), ("", False)])
@pytest.mark.usefixtures("machine")
def test_a_login_elsewhere_is_kept(tmp_path, variable, current, theirs):
    folder = tmp_path / "home" / ".pulumi"
    folder.mkdir(parents=True)
    (folder / "credentials.json").write_text(json.dumps({"current": current}))
    user = {variable: str(folder)} if variable else {}
    assert ("PULUMI_BACKEND_URL" not in environment.for_pulumi(user)) == theirs


@pytest.mark.usefixtures("machine")
def test_the_passphrase_is_made_once_and_for_its_owner_alone():
    first = environment.for_pulumi({})["PULUMI_CONFIG_PASSPHRASE_FILE"]
    made = project.PASSPHRASE.read_text()
    assert environment.for_pulumi({})["PULUMI_CONFIG_PASSPHRASE_FILE"] == first
    assert project.PASSPHRASE.read_text() == made
    assert len(made.strip()) >= 32
    assert stat.S_IMODE(project.PASSPHRASE.stat().st_mode) == 0o600
    assert [file.name for file in project.RUNTIME.iterdir() if file.is_file()] == ["passphrase"]


@pytest.mark.parametrize("variable", ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"])
@pytest.mark.usefixtures("machine")
def test_a_passphrase_of_the_users_is_kept_even_when_empty(variable):
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment.for_pulumi({variable: ""})
    assert not project.PASSPHRASE.exists()


def test_the_path_begins_with_the_projects_python_and_the_cached_tools(machine):
    machine.program("minio", "print('minio version X')")
    mc = machine.cache / "mc" / "0.0.0-20250313080218-cf909e1063a9" / "mc"
    mc.parent.mkdir(parents=True)
    mc.touch()
    path = environment.for_pulumi(os.environ)["PATH"].split(os.pathsep)
    assert path == [str(project.VENV / "bin"), str(mc.parent), str(machine.bin)]


@pytest.mark.usefixtures("machine")
def test_env_prints_what_a_shell_can_read_and_reading_it_changes_nothing(monkeypatch, capsys):
    assert main(["env"]) == 0
    first = capsys.readouterr().out
    assert "export PULUMI_STACK=local\n" in first
    for line in first.splitlines():
        name, value = shlex.split(line.removeprefix("export "))[0].split("=", 1)
        monkeypatch.setenv(name, value)
    assert environment.chosen_backend(os.environ) is None
    assert main(["env"]) == 0
    again = capsys.readouterr().out
    assert [line for line in first.splitlines() if "PASSPHRASE" not in line] == again.splitlines()
