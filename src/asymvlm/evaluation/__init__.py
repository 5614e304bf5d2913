"""Methods side by side: answers, metrics, costs, latency, report.

Everything behind `python eval.py`. Training may import it, to make its table at the end; it imports
whatever it measures, and nothing imports it besides.
"""
