"""Benchmarks: how fast a config reads data, predicts, trains and evaluates on this machine, and
what it costs; and what balancing the gradients costs, on a network of its own.

All weights are random, nothing is downloaded. A number is the median over repetitions after a
warm-up, and ``quartiles`` holds the 25th and 75th percentile. Whatever is compared is measured in
turn, in one run, so that other work on the machine meets both sides alike.
"""
