"""What is wrong with TLS files and keys is said in the words of the options."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from loadtest.identity import IdentityOptions
from minwatt.v1.errors import UsageError
from service.key_cli import app as key


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tls_ca": "absent"}, "--tls-ca = '{folder}/absent': No such file or directory"),
        ({"tls_ca": "empty"}, "--tls-ca = '{folder}/empty': no PEM certificate in it"),
        (
            {"tls_cert": "empty", "tls_key": "empty"},
            "--tls-cert = '{folder}/empty', --tls-key = '{folder}/empty': not a PEM certificate "
            "with its key, unencrypted",
        ),
    ],
)
def test_of_tls_files_the_option_is_named(options: dict[str, str], says: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    files = {name: tmp_path / file for name, file in options.items()}
    with pytest.raises(UsageError) as raised:
        IdentityOptions.model_validate(files).identity("127.0.0.1:1")
    assert str(raised.value) == says.format(folder=tmp_path)


def test_the_key_stands_alone_in_its_file(tmp_path: Path) -> None:
    printed = CliRunner().invoke(key, ["new"]).stdout
    line = printed.splitlines()[1]
    file = tmp_path / "key"
    file.write_text(printed)
    with pytest.raises(UsageError) as raised:
        IdentityOptions(api_key_file=file).identity("127.0.0.1:1")
    assert str(raised.value).endswith("allowed: a file with the API key alone")
    assert line.strip() not in str(raised.value)
    file.write_text(f"{line}\n")
    assert line.strip() in IdentityOptions(api_key_file=file).identity("127.0.0.1:1").metadata[0][1]
