// Around the composition network: `Compositor.compose` of realtime/face/compositor.py.
#include "frame.cuh"

// The layers at the size that the network takes, [6, side, side].
KERNEL shrink(const float* layers, float* small, int width, int height, int side) {
    int column = across(), row = down();
    if (column >= side || row >= side) return;
    Taps vertical(row, height, side), horizontal(column, width, side);
    float sum[6] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    for (int y = vertical.first; y < vertical.end; y++)
        for (int x = horizontal.first; x < horizontal.end; x++) {
            float weight = vertical.weight(y) * horizontal.weight(x);
            for (int channel = 0; channel < 6; channel++)
                sum[channel] += weight * layers[(channel * height + y) * width + x];
        }
    for (int channel = 0; channel < 6; channel++) small[(channel * side + row) * side + column] = sum[channel];
}

// The finished box, RGB [height, width]: the face over the source, blended in by the mask. What the network changes is
// smooth, so its change, `refined` [3, side, side] minus what it was given, is added to the sharp face; with `refine`
// 0 it is left out, and neither `small` nor `refined` is read.
KERNEL blend(const float* layers, const byte* rgb, const float* small, const float* refined, const float* mask,
             byte* painted, int width, int height, int side, int refine) {
    int x = across(), y = down();
    if (x >= width || y >= height) return;
    int pixel = y * width + x, plane = side * side;
    float change[3] = {0.0f, 0.0f, 0.0f};
    if (refine) {
        Taps vertical(y, side, height), horizontal(x, side, width);
        for (int row = vertical.first; row < vertical.end; row++)
            for (int column = horizontal.first; column < horizontal.end; column++) {
                float weight = vertical.weight(row) * horizontal.weight(column);
                int cell = row * side + column;
                for (int channel = 0; channel < 3; channel++)
                    change[channel] += weight * (refined[channel * plane + cell] - small[(3 + channel) * plane + cell]);
            }
    }
    for (int channel = 0; channel < 3; channel++) {
        float source = unit(rgb[3 * pixel + channel]);
        float composed = layers[(3 + channel) * width * height + pixel] + change[channel];
        float value = ((composed - source) * mask[pixel] + source) * 255.0f + 0.5f;
        painted[3 * pixel + channel] = byte(fminf(fmaxf(value, 0.0f), 255.0f));
    }
}
