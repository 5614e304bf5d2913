"""What a prefill and a choice of tokens cost.

MACs of tower, projector, LLM and method, latency, and the keep ratio at which two methods cost the
same. Imported by the evaluations alone.
"""
