"""Stubs of KEDA's external scaler contract; `make proto` writes them from proto/keda/."""
