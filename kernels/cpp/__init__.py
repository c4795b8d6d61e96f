"""C++ for the CPU: a certified int8 screen, and exact settling of what it can't decide.

`screen.h` derives the bound; `settle.h` decides among the candidates; `residual_search.cpp` walks
the levels. Every source with kernels is compiled once per instruction set, chosen at run time.
"""

from .operations import *  # noqa: F403  (its functions are the operations)
