"""Finds engines by the Kubernetes API: pods by label, endpoints of services, InferencePools."""
