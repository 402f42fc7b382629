"""Profiles that change while the controller runs, as a mounted ConfigMap does."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from scaler.kube.profile_files import ProfileFiles
from scaler.kube.profiles import read_library, settings_for
from scaler.profile import Profile
from scaler.settings import Settings
from tests.scaler.kube.moments import accepted
from tests.scaler.made_up import profile

T4 = profile(model="support-text", device="T4")
A100 = profile(model="support-text", device="A100")


class Mounted:
    """A ConfigMap as the kubelet mounts it: the names lead through `..data`, which is swapped in one step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._revision = 0

    def swap(self, **files: Profile | str) -> None:
        self._revision += 1
        revision = self.path / f"..2026_11_22_{self._revision}"
        revision.mkdir()
        for name, content in files.items():
            text = (
                content
                if isinstance(content, str)
                else yaml.safe_dump(content.model_dump(mode="json", by_alias=True))
            )
            (revision / f"{name}.yaml").write_text(text)
        new = self.path / "..data_tmp"
        new.symlink_to(revision.name)
        os.replace(new, self.path / "..data")
        for name in files:
            if not (self.path / f"{name}.yaml").is_symlink():
                (self.path / f"{name}.yaml").symlink_to(f"..data/{name}.yaml")
        for link in self.path.glob("*.yaml"):
            if link.stem not in files:
                link.unlink()

    def followed(self) -> ProfileFiles:
        return ProfileFiles(read_library(self.path), self.path)


async def looked(files: ProfileFiles) -> list[str]:
    """Once they have stood still."""
    return [*await files.look(), *await files.look()]


async def test_what_is_swapped_is_read_again_and_said(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.swap(text=T4)
    files = mounted.followed()
    assert await looked(files) == []
    assert files.revision == 0
    mounted.swap(text=A100, other=profile(model="other", device="T4"))
    assert await files.look() == (), "it may be in the middle of its change"
    assert await files.look() == (
        "profile other.yaml: other on T4",
        "profile text.yaml: support-text on A100",
    )
    assert files.revision == 1
    assert files.library.profiles["text.yaml"].device == "A100"
    mounted.swap(text=A100)
    assert await looked(files) == ["profile other.yaml: gone"]
    assert list(files.library.profiles) == ["text.yaml"]


async def test_a_file_that_became_no_profile_leaves_the_one_it_was(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.swap(text=T4)
    files = mounted.followed()
    settings = settings_for(accepted(slo={"latency": "200ms"}, power={}), files.library)
    assert isinstance(settings, Settings)
    assert files.library.complaint(settings) is None
    mounted.swap(text="kind: Profile")
    (line,) = await looked(files)
    assert line.startswith("not used: ")
    assert line.endswith("; as it was before it stays in use")
    assert files.library.profiles == {"text.yaml": T4}
    complaint = files.library.complaint(settings)
    assert complaint is not None
    assert complaint.reason == "ProfileUnreadable"
    assert "text.yaml" in complaint.message
    mounted.swap(text="kind: Nonsense")
    assert len(await looked(files)) == 1
    assert files.library.profiles == {"text.yaml": T4}
    mounted.swap(text=T4)
    assert await looked(files) == ["profile text.yaml: support-text on T4"], "well again"
    assert files.library.complaint(settings) is None


async def test_a_file_that_never_was_a_profile_takes_nothing_away(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.swap(text=T4)
    files = mounted.followed()
    mounted.swap(text=T4, new="{")
    (line,) = await looked(files)
    assert line.startswith("not used: ")
    assert "stays in use" not in line
    assert files.library.profiles == {"text.yaml": T4}


async def test_a_directory_that_is_gone_leaves_all_in_use(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path / "profiles")
    mounted.path.mkdir()
    mounted.swap(text=T4)
    files = mounted.followed()
    mounted.path.rename(tmp_path / "elsewhere")
    (line,) = await looked(files)
    assert "No such file or directory" in line
    assert line.endswith("; the profiles that were read before stay in use")
    assert files.library.profiles == {"text.yaml": T4}
    assert await looked(files) == [], "said once"
    (tmp_path / "elsewhere").rename(mounted.path)
    mounted.swap(text=A100)
    assert await looked(files) == ["profile text.yaml: support-text on A100"]


async def test_the_shipped_profile_is_not_looked_for(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.swap(text=T4)
    files = ProfileFiles(read_library(tmp_path), None)
    mounted.swap(text=A100)
    assert await looked(files) == []
