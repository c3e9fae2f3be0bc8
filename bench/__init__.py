"""Portway measured beside its peers, on this machine, in one run: `python -m bench` or `make bench`.

__main__.py takes the options, run.py goes through the measures in order, report.py prints. A measure takes a stage
(stage.py: backend, certificate, everything started in a temporary directory) and gives figures (figures.py).

Not a test: it fails only when nothing can be measured. What must hold is printed beside what was measured.
"""
