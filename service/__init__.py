"""The inference server: one process, one resident model, answers over gRPC.

A request goes `rpc` -> `inference` -> `dispatch` and `queue` (under `batcher`) -> `engine`, and back up the
same future. `assembly` puts the parts together, `server` opens them, `cli` is `minwatt serve`; reports
leave through `fleet`.
"""
