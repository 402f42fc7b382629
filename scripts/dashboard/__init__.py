"""The Grafana dashboard: `python -m scripts.dashboard` writes k8s/monitoring/dashboard.json.

panels   what a panel is, and how Grafana writes it down
rows     which panels there are, in the order in which an SRE asks
"""
