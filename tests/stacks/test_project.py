"""The project file, the program and the documentation agree with the model of the settings."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stacks.settings import Configuration
from tests.stack import Stack

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text(encoding="utf-8"))
KINDS = {bool: "boolean", int: "integer", str: "string"}


def sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """Give the models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections(part)


def keys(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Give every key with its path, such as `sites.*.bucket`."""
    for field in model.model_fields.values():
        key = f"{path}{field.alias}"
        yield key, field
        inside = {"dict": ".*.", "tuple": "[*]."}.get(
            getattr(field.annotation, "__origin__", type(None)).__name__, "."
        )
        for section in sections(field.annotation):
            yield from keys(section, f"{key}{inside}")


def test_the_projects_schema_is_the_models():
    scalar = {
        field.alias: field
        for field in Configuration.model_fields.values()
        if not list(sections(field.annotation))
    }
    assert set(PROJECT["config"]) == set(scalar)
    for key, field in scalar.items():
        told = PROJECT["config"][key]
        assert told["type"] == KINDS[type(field.default)]
        assert told["default"] == field.default
        assert told["description"].endswith(".")


def test_the_template_asks_only_for_what_the_schema_knows():
    asked = PROJECT["template"]["config"]
    for key, prompt in asked.items():
        assert prompt["default"] == PROJECT["config"][key]["default"]


def test_stacks_lie_where_the_project_says():
    assert (ROOT / PROJECT["stackConfigDir"] / "Pulumi.local.yaml").exists()


def test_the_program_only_wires():
    assert len((ROOT / "__main__.py").read_text(encoding="utf-8").splitlines()) <= 30


def test_every_topology_of_the_model_has_a_class():
    program = (ROOT / "__main__.py").read_text(encoding="utf-8")
    for topology in get_args(Configuration.model_fields["topology"].annotation):
        assert f'"{topology}": "stacks.{topology}:' in program


# What it means not to set a key that has no default.
UNSET = {
    "rules[*].storageClass": "the target's",
    "rules[*].deletesPerHour": "no bound",
    "rules[*].groups": "none",
    "rules[*].whereTags": "none",
    "rules[*].targetPrefix": "same as `prefix`",
}


def default(key: str, field: FieldInfo) -> str:
    """Give a key's default as the documentation writes it."""
    if key == "sites.*.bucket":
        return "`<stack>-<site>`"
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel):
        return "see below"
    if not field.default and key in UNSET:
        return UNSET[key]
    if field.default is None:
        return "a free one"
    written = field.default if field.default != "" else '""'
    return f"`{str(written).lower()}`"


def test_every_key_is_documented_with_its_default():
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", page, re.MULTILINE)
    assert dict(rows) == {key: default(key, field) for key, field in keys(Configuration)}


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def test_pulumi_shows_all_mistakes_and_no_traceback(stack: Stack):
    file = stack.folder / "stacks" / "Pulumi.local.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace("server: target", "server: backup").replace("name: everything", "nam: all"),
        encoding="utf-8",
    )
    told = stack.pulumi("preview", check=False)
    assert "3 mistakes in the settings of stack local; nothing was changed" in told
    assert 'tandem:sites.target.server is "backup": use source or target' in told
    assert "tandem:rules[0].name is missing: use a name that no other rule has" in told
    assert "tandem:rules[0].nam is unknown: did you mean name?" in told
    assert "Traceback" not in told
    assert "settings.py" not in told


def test_pulumi_new_makes_a_project_of_another_name(stack: Stack, tmp_path: Path):
    template, made = tmp_path / "template", tmp_path / "made"
    template.mkdir()
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy(ROOT / name, template)
    shutil.copytree(ROOT / "stacks", template / "stacks")
    stack.run(
        *("pulumi", "new", str(template), "--dir", str(made), "--generate-only", "--yes"),
        *("--name", "mirror", "--description", "Ours", "--non-interactive"),
    )
    project = yaml.safe_load((made / "Pulumi.yaml").read_text(encoding="utf-8"))
    assert (project["name"], project["description"]) == ("mirror", "Ours")
    assert project["stackConfigDir"] == "stacks"
    # Keys without a namespace belong to whatever the project is called.
    settings = yaml.safe_load((made / "stacks" / "Pulumi.local.yaml").read_text(encoding="utf-8"))
    assert {"topology", "forceDestroy", "sites", "rules"} == set(settings["config"])
