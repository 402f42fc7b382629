"""gRPC over HTTP/2 on the event loop: connections, framing, calls, TLS. Opened by `service.door`."""
