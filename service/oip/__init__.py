"""The Open Inference Protocol v2 (`inference.GRPCInferenceService`), for stock Triton and KServe clients.

Each task of the model directory is one model here, named `<model>.<task>`. Owns the translation to and from
`minwatt.v1`; what a request then gets is `service.inference`'s matter, as for every other request. Mounted by
`service.server`.

    bytes_tensor     BYTES and numbers as a tensor's raw contents
    models           names, tensors, metadata and configuration of the models
    infer_request    ModelInferRequest -> ClassifyRequest | ExtractEntitiesRequest
    infer_response   ... and back
    statistics       what ModelStatistics tells
    infer            one request from bytes to reply; the stream of many
    repository       models are loaded and unloaded, by admins
    service          the methods
    open_inference_pb2  the messages
"""
