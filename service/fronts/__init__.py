"""Front-end processes: N processes speak gRPC and tokenise, one computes (`minwatt serve --front-ends N`).

    supervisor ─┬─ front end 1 ─┐  submissions: token ids in a ring of shared memory
                ├─ front end 2 ─┼─▶ engine process ─▶ answers, packed, in a ring the other way
                └─ engine       ┘

A *front end* owns connections, TLS, keys, messages, validation, tokens and the words of answers. The *engine
process* is the server as it is without front ends, with another door (`engine_door`): admission, fairness,
queue, cache, models, metrics and reports are there and nowhere else. Whatever a front end can't settle (a
request that will be refused, an admin's call) travels as it came, and is answered by the same lines of code
as without front ends. `service.fronts.ring` and `records` are pure; `channel` is one pair of processes.
"""
