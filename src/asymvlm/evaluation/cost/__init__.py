"""Costs of a prefill and of choosing its tokens.

MACs of tower, projector, LLM and method, latency, and the keep ratio at which two methods cost the
same.
"""
