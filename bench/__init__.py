"""Benchmarks: workloads.py -> peers.py -> measure.py -> report.py; see README.md."""
