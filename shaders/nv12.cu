// Between the frame, NV12, BT.709, limited range, and the box, RGB: swscale's integer arithmetic on x86, rounding
// included, which realtime/face/yuv.py uses through PyAV.
//
//     frame   frame_height rows of Y, `pitch` bytes each, then half as many rows of U and V, interleaved
#include "frame.cuh"

// Upper half of a product of 16-bit numbers: rounds down, as the processor's instruction does.
__device__ inline int high_product(int a, int b) { return a * b >> 16; }

// The frame's box -> RGB [height, width]. Four pixels share their colour without interpolation.
KERNEL nv12_to_rgb(const byte* frame, int pitch, int frame_height, const int* place, byte* rgb, int width, int height) {
    int x = across(), y = down();
    if (x >= width || y >= height) return;
    size_t left = size_t(place[0] + x), top = size_t(place[1] + y);
    const byte* color = frame + (size_t(frame_height) + top / 2) * size_t(pitch) + (left & ~size_t(1));
    int luma = high_product((frame[top * size_t(pitch) + left] - 16) * 8, 9539);  // 255 / 219 * 2^13
    int u = (color[0] - 128) * 8, v = (color[1] - 128) * 8;
    byte* pixel = rgb + 3 * (y * width + x);
    pixel[0] = clamped(luma + high_product(v, 14686));
    pixel[1] = clamped(luma + high_product(u, -1747) + high_product(v, -4366));
    pixel[2] = clamped(luma + high_product(u, 17305));
}

// Weighted sum of two neighbours' colours, as U or V times 2^7.
__device__ inline int chroma(const byte* pair, int red, int green, int blue) {
    int sum = (pair[0] + pair[3]) * red + (pair[1] + pair[4]) * green + (pair[2] + pair[5]) * blue;
    return (sum + (256 << 15) + (1 << 9)) >> 10 << 1;
}

// RGB [height, width] -> the frame's box, but only where the mask is above 0 (U and V: where any of their four pixels
// is); elsewhere the frame stays exactly as it was. One thread for two by two pixels.
KERNEL rgb_to_nv12(const byte* painted, const float* mask, const int* place, byte* frame, int pitch, int frame_height,
                   int width, int height) {
    int x = 2 * across(), y = 2 * down();
    if (x >= width || y >= height) return;
    bool changed = false;
    for (int i = 0; i < 4; i++) {
        int column = x + (i & 1), row = y + (i >> 1);
        if (!(mask[row * width + column] > 0.0f)) continue;
        changed = true;
        const byte* pixel = painted + 3 * (row * width + column);
        int luma = pixel[0] * 5983 + pixel[1] * 20127 + pixel[2] * 2032 + (16 << 15) + (1 << 8);
        frame[size_t(place[1] + row) * size_t(pitch) + size_t(place[0] + column)] = byte(((luma >> 9) + 32) >> 6);
    }
    if (!changed) return;
    // Bicubic from eight rows to one, weights times 2^12; rows beyond the box are its first or last one. Every product
    // is rounded down, and 7 makes up for it, but in the box's last row, which swscale computes in another way.
    const int weights[8] = {-58, -172, 492, 1786, 1786, 492, -172, -58};
    int shift = y + 2 < height ? 16 : 0;
    int u = shift ? 7 : 1 << 18, v = u;
    for (int tap = 0, weight = 0; tap < 8; tap++) {
        int row = y - 3 + tap;
        weight += weights[tap];
        if (tap < 7 && (row < 0 || row >= height - 1)) continue;
        row = row < height ? row : height - 1;
        const byte* pair = painted + 3 * (row * width + x);
        u += chroma(pair, -3298, -11094, 14392) * weight >> shift;
        v += chroma(pair, 14392, -13073, -1320) * weight >> shift;
        weight = 0;
    }
    byte* color = frame + (size_t(frame_height) + size_t(place[1] + y) / 2) * size_t(pitch) + size_t(place[0] + x);
    color[0] = clamped(u >> (19 - shift));
    color[1] = clamped(v >> (19 - shift));
}
