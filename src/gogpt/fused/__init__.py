"""Our own autograd functions: what transformers' modules compute, in fewer passes and with fewer saved activations."""

from gogpt.fused.apply import Fused, fuse, unfuse
from gogpt.fused.head import PlainHead, linear_cross_entropy, plain_head
from gogpt.fused.memory import keep_memory

__all__ = ["Fused", "PlainHead", "fuse", "keep_memory", "linear_cross_entropy", "plain_head", "unfuse"]
