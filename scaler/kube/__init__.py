"""The Kubernetes fleet: policies, targets and pods through the API server."""
