"""Looks at everything a worker depends on and says what to do about what is wrong.

`python -m worker.doctor`, or `kd doctor`. Reads the same ``KD_`` settings as the services, changes
nothing that stays, and never imports torch.
"""
