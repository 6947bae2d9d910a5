"""Architectures to export: networks in plain torch and configurations of transformers, with their sample inputs.

Only `benchmarks.export_models` imports them; torch and transformers are needed by nothing else.
"""
