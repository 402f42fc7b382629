"""Answers that are known already: what is kept (`memory`, `redis_store`), under which key (`keys`), who waits
for whom (`flights`), and what of it a request is told (`known`). `opening` makes it from the settings.
"""
