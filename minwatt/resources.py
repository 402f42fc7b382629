"""Where the shipped model, profile and policy are: in an installed wheel, or in the checkout at work."""

from __future__ import annotations

from pathlib import Path

DEFAULT_MODEL = "support-text"


def resource(relative: str) -> Path:
    """The path of a shipped file or folder, e.g. `models/support-text`."""
    package = Path(__file__).parent
    installed = package / "resources"
    return (installed if installed.is_dir() else package.parent) / relative


def model_dir(path: Path) -> Path:
    """As it is; or the shipped model of that name, where it is a mere name and nothing lies there."""
    shipped = resource("models") / path
    is_name = path.name == str(path) and not path.exists()
    return shipped if is_name and (shipped / "model.yaml").is_file() else path


def default_model_dir() -> Path:
    return resource(f"models/{DEFAULT_MODEL}")


def default_profile() -> Path:
    return resource(f"profiles/{DEFAULT_MODEL}-cpu.yaml")


def default_policy() -> Path:
    return resource("examples/policy.yaml")
