"""The autoscalers that people use today, each ported from its documented law with its default settings."""
