"""Certificates of an authority of their own, for tests of both sides."""

from __future__ import annotations

from pathlib import Path

import grpc
import trustme


class Certificates:
    """Of one authority: the server's for `localhost`, a client's; as files for the client."""

    def __init__(self, folder: Path, name: str = "localhost") -> None:
        authority = trustme.CA()
        self.server, client = authority.issue_cert(name), authority.issue_cert("app@example.org")
        self.root = authority.cert_pem.bytes()
        self.ca, self.cert, self.key = (folder / file for file in ("ca.pem", "client.pem", "client.key"))
        authority.cert_pem.write_to_path(self.ca)
        client.cert_chain_pems[0].write_to_path(self.cert)
        client.private_key_pem.write_to_path(self.key)

    def of_server(self, *, mutual: bool) -> grpc.ServerCredentials:
        chain = b"".join(pem.bytes() for pem in self.server.cert_chain_pems)
        pair = (self.server.private_key_pem.bytes(), chain)
        return grpc.ssl_server_credentials([pair], self.root if mutual else None, require_client_auth=mutual)
