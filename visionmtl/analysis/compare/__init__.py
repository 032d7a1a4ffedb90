"""Comparing finished runs: did sharing or balancing help, or is it the noise of the seeds?

Run folders -> ``Run`` (reading) -> ``Group`` of seeds (groups) -> gains over the baseline (gains)
-> tables.
"""
