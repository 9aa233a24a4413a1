"""Benchmarks: fastbp against its peers on the same job, and its kernels against the hardware.

``python -m bench`` measures and writes the table; ``pytest bench/`` runs single rows under
pytest-benchmark.  Nothing here is imported by fastbp or by its tests.
"""
