"""Telemetry: what happens in one environment, told to the extensions in it that asked for it (Telemetry API and Logs API)."""
