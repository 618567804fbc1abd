// What the kernels share. Every thread works alone, without shared memory or barriers, so that the same source compiles
// as C++ and is tested on any machine. Sizes that change from frame to frame (the box's place, how many points there
// are) are read from memory, since a CUDA graph keeps the arguments that it was captured with.
//
//     box      the even inpaint box, width x height pixels; `place` is its left, top, right, bottom in the frame
//     layers   float [6, height, width]: the eroded source, then the face over it
//     known    1 where either says what is there
//     cells    float [4, rows, columns]: means of what is known, times the share of the cell that is known; that share
//     small    float [6, side, side]: the layers as the composition network takes them
#pragma once

typedef unsigned char byte;
typedef unsigned short half_bits;  // of an IEEE float16

#define KERNEL extern "C" __global__ void

__device__ inline int across() { return int(blockIdx.x * blockDim.x + threadIdx.x); }

__device__ inline int down() { return int(blockIdx.y * blockDim.y + threadIdx.y); }

__device__ inline float unit(byte value) { return float(value) * (1.0f / 255.0f); }

__device__ inline byte clamped(int value) { return byte(value < 0 ? 0 : value > 255 ? 255 : value); }

// The source samples of one output sample when `before` of them are resampled to `after`, and what each weighs: linear,
// averaged when there are fewer after than before: `weights_of` of realtime/face/resize.py. Distances are counted in
// halves of a sample of either side, so they are whole numbers.
struct Taps {
    int after, centre, reach, first, end;
    float total;

    __device__ Taps(int index, int before, int after)
        : after(after), centre((2 * index + 1) * before), reach(2 * (before > after ? before : after)) {
        int low = centre - reach, high = centre + reach;
        first = low < 0 ? 0 : (low / after + 1) / 2;
        end = (high + after - 1) / after / 2;
        if (end > before) end = before;
        int sum = 0;
        for (int i = first; i < end; i++) sum += share(i);
        total = float(sum);
    }

    __device__ int share(int i) const {
        int distance = (2 * i + 1) * after - centre;
        return reach - (distance < 0 ? -distance : distance);
    }

    __device__ float weight(int i) const { return float(share(i)) / total; }
};
