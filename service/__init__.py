"""The inference server: one process, one resident model, answers over gRPC.

A request goes `rpc` -> `inference` -> `dispatch` and `queue` (under `batcher`) -> `engine`, and back up the
same future. `server` puts the parts together; `cli` is `minwatt serve`; reports leave through `fleet`.
"""
