// From displaced vertices to the face image; the networks work between these kernels.
#include "frame.cuh"

// Nearest float16, ties to even.
__device__ half_bits to_half(float value) {
    unsigned bits = __float_as_uint(value);
    unsigned sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return half_bits(sign | 0x7e00u);   // no number
    if (magnitude >= 0x477ff000u) return half_bits(sign | 0x7c00u);  // rounds to infinity
    if (magnitude < 0x33000001u) return half_bits(sign);             // rounds to zero
    unsigned exponent = magnitude >> 23;
    unsigned mantissa = (magnitude & 0x7fffffu) | 0x800000u;
    unsigned lost = exponent < 113u ? 126u - exponent : 13u;  // bits of the mantissa; more if the half is denormal
    unsigned base = exponent < 113u ? 0u : (exponent - 113u) << 10;
    unsigned kept = mantissa >> lost, rest = mantissa & ((1u << lost) - 1u), tie = 1u << (lost - 1u);
    if (rest > tie || (rest == tie && (kept & 1u))) kept++;
    return half_bits(sign | (base + kept));  // the mantissa's leading one, or a carry, steps the exponent
}

// vertices = neutral + displacement, 3 values each.
KERNEL displace(const float* neutral, const float* displacement, float* vertices, int values) {
    int i = across();
    if (i >= values) return;
    vertices[i] = neutral[i] + displacement[i];
}

// One point's values leave in pieces of this size: tensor cores want rows that are multiples of it anyway.
struct alignas(16) Piece {
    half_bits values[8];
};

// Pixels of the box that the mesh covers and the mask lets through: each takes the next free row, writes its number
// (y * width + x) to `index` and gamma of its position to `encoded`, [capacity, padded]. `*count` must be 0 before.
//
//     positions   float [frame height, frame_width, 4]: object space, cm, and coverage
//     mask        float [height, width]
//     low, high   corners of the template's box, cm, that the networks see as -1 and 1
//     frequencies L: for x, y, z in turn the sines of 2^k pi p, k = 0 .. L - 1; then the cosines likewise; then zeros
KERNEL gather(const float* positions, int frame_width, const int* place, const float* mask, const float* low,
              const float* high, int width, int height, int frequencies, int padded, int capacity, int* count,
              int* index, half_bits* encoded) {
    int x = across(), y = down();
    if (x >= width || y >= height) return;
    int pixel = y * width + x;
    const float* position = positions + 4 * (size_t(place[1] + y) * size_t(frame_width) + size_t(place[0] + x));
    if (!(position[3] > 0.0f && mask[pixel] > 0.0f)) return;
    int row = atomicAdd(count, 1);
    if (row >= capacity) return;
    index[row] = pixel;
    float scaled[3];
    for (int axis = 0; axis < 3; axis++)
        scaled[axis] = (position[axis] - low[axis]) / (high[axis] - low[axis]) * 2.0f - 1.0f;
    Piece* out = reinterpret_cast<Piece*>(encoded + size_t(row) * size_t(padded));
    int sines = 3 * frequencies;
    for (int start = 0; start < padded; start += 8) {
        Piece piece;
        for (int i = 0; i < 8; i++) {
            int value = start + i, wave = value < sines ? value : value - sines;
            if (wave >= sines) {
                piece.values[i] = 0;
                continue;
            }
            // In units of pi, less whole turns, the angle is exact in float32; 2^15 pi p would have lost seven thousandths.
            float turns = scaled[wave / frequencies] * (0.5f * float(1u << (wave % frequencies)));
            float angle = 2.0f * (turns - rintf(turns));
            piece.values[i] = to_half(value < sines ? sinpif(angle) : cospif(angle));
        }
        out[start / 8] = piece;
    }
}

// Colours of the points that `gather` found -> face, RGBA [height, width]; all of `face` must be 0 before.
KERNEL scatter(const float* rgb, const int* index, const int* count, byte* face, int capacity) {
    int i = across();
    if (i >= *count || i >= capacity) return;
    byte* pixel = face + 4 * size_t(index[i]);
    for (int channel = 0; channel < 3; channel++) pixel[channel] = clamped(int(rintf(rgb[3 * i + channel] * 255.0f)));
    pixel[3] = 255;
}
