"""Methods side by side: tasks, metrics, costs, latency, report."""
