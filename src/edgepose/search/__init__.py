"""Search: the best network for a device, found among the subnets of one supernet (LitePose, CVPR 2022, section 4).

`plan.py` says how, `space.py` among what, `supernet.py` trains all subnets at once, `cost.py` prices them, `score.py`
judges them, `evolve.py` finds the best. `edgepose search` (`run.py`) puts them together.
"""
