"""A stack is shown once it is up, and taken down without a trace of it."""

import json

import pytest

from tools import environment, project, stack
from tools.steps import ToolError


@pytest.mark.usefixtures("machine")
def test_taking_down_what_was_never_up_says_so(capsys):
    stack.down("local")
    assert capsys.readouterr().err == "Stack local is not up: there is nothing to take down.\n"


@pytest.mark.usefixtures("machine")
def test_kept_data_is_named_and_all_else_is_removed(capsys):
    runtime = project.RUNTIME / "local"
    (runtime / "metrics").mkdir(parents=True)
    (runtime / "empty" / "deep").mkdir(parents=True)
    (runtime / "source" / "bucket").mkdir(parents=True)
    (runtime / "source" / "bucket" / "object").touch()
    for name in ("worker.log", "worker.log.1", "worker.pid", "tandem.json"):
        (runtime / name).touch()
    stack._clear(runtime)
    assert [file.name for file in runtime.iterdir()] == ["source"]
    assert "Kept in" in capsys.readouterr().err


def show(machine, rule, code=0):
    runtime = project.RUNTIME / "local"
    runtime.mkdir(parents=True)
    rules = [rule] if rule else []
    settings = {"rules": rules, "service_url": "http://127.0.0.1:9"}
    (runtime / "tandem.json").write_text(json.dumps(settings))
    (project.VENV / "bin").mkdir(parents=True)
    machine.program("tandem", f"sys.exit({code})").rename(project.VENV / "bin" / "tandem")
    stack._show("local")


def test_the_first_object_is_one_that_the_first_rule_carries(machine, capsys):
    show(machine, {"source": "here", "prefix": "reports/", "suffix": ".csv"})
    (call,) = machine.calls("tandem")
    assert call.startswith("tandem --stack local put here reports/hello/")
    assert call.endswith(".csv - --wait")
    said = capsys.readouterr().err
    assert "http://127.0.0.1:9" in said
    assert said.count("    .venv/bin/tandem ") == 3


def test_a_first_object_that_does_not_arrive_is_an_error(machine):
    with pytest.raises(ToolError, match=r"is up, but hello/.* did not reach its targets"):
        show(machine, {"source": "here", "prefix": "", "suffix": ""}, code=1)


def test_a_stack_without_rules_has_nothing_to_show(machine):
    show(machine, None)
    assert not machine.calls("tandem")


@pytest.mark.parametrize("secret", [False, True])
def test_the_passphrase_goes_with_the_state_unless_a_stack_file_needs_it(machine, secret):
    (machine.root / "stacks").mkdir()
    text = "config:\n  tandem:token:\n    secure: v1:x\n" if secret else "encryptionsalt: v1:x\n"
    (machine.root / "stacks" / "Pulumi.local.yaml").write_text(text)
    environment.for_pulumi({})
    other = project.STATE / ".pulumi" / "stacks" / "tandem" / "other.json"
    other.parent.mkdir(parents=True)
    other.touch()
    stack._clear_state()
    assert project.PASSPHRASE.exists()
    other.unlink()
    stack._clear_state()
    assert not project.STATE.exists()
    assert project.PASSPHRASE.exists() == secret
