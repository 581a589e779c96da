"""Traces and metrics for collectors of OpenTelemetry, beside the data path."""
