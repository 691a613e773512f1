//! Blocks and kernels over slices. No tensor names, files, threads or allocation.
