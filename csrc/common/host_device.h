// Functions that run on a CPU, and on a GPU where a compiler for it reads them.
#pragma once

#if defined(__CUDACC__)
#define DL_HOST_DEVICE __host__ __device__
#else
#define DL_HOST_DEVICE
#endif
