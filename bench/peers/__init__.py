"""Other servers with the same model, beside this one: `python -m bench.peers`, `make bench-peers`.

`mosec_app`, `triton_model`, `mlserver_runtime`, `support_text` and `oip_bodies` run in the peers' own
environments and import nothing of minwatt.
"""
