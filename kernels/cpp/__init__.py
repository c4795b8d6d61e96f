"""C++17 kernels for the CPU, in one shared library behind a C ABI."""
