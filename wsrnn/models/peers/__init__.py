"""The models that WARP is compared with: one model, one file; `base` is what they share.

A new one is a config with its sizes and a `Peer` with `hidden`, `mixing` and `carried`.
"""
