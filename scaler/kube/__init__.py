"""The scaler on Kubernetes."""
