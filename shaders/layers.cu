// What the composition network is given: `layers_of` and `fill_unknown` of realtime/face/compositor.py.
#include "frame.cuh"

#define LEAST_SHARE 1e-3f  // of a cell that must be known, or its neighbours fill it

// The source without what is inside of the inpaint region, and the same with the face on it; which pixels either knows.
//
//     rgb     [height, width, 3]        face   RGBA [height, width]: colour and coverage
//     mask    [height, width]: 1 in the inpaint region, falling to 0 outside of it
KERNEL layers(const byte* rgb, const byte* face, const float* mask, float* layers, byte* known, int width, int height) {
    int x = across(), y = down();
    if (x >= width || y >= height) return;
    int plane = width * height, pixel = y * width + x;
    bool covered = face[4 * pixel + 3] > 0, outside = mask[pixel] < 1.0f, painted = covered && mask[pixel] > 0.0f;
    for (int channel = 0; channel < 3; channel++) {
        float eroded = outside ? unit(rgb[3 * pixel + channel]) : 0.0f;
        layers[channel * plane + pixel] = eroded;
        layers[(3 + channel) * plane + pixel] = painted ? unit(face[4 * pixel + channel]) : eroded;
    }
    known[pixel] = covered || outside;
}

// The face over the source, and what is known of it, resampled to cells of about four by four pixels.
KERNEL shrink_to_cells(const float* layers, const byte* known, float* cells, int width, int height, int rows,
                       int columns) {
    int column = across(), row = down();
    if (column >= columns || row >= rows) return;
    Taps vertical(row, height, rows), horizontal(column, width, columns);
    int plane = width * height;
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int y = vertical.first; y < vertical.end; y++) {
        float line[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        for (int x = horizontal.first; x < horizontal.end; x++) {
            float weight = horizontal.weight(x);
            int pixel = y * width + x;
            for (int channel = 0; channel < 3; channel++) line[channel] += weight * layers[(3 + channel) * plane + pixel];
            if (known[pixel]) line[3] += weight;
        }
        for (int channel = 0; channel < 4; channel++) sum[channel] += vertical.weight(y) * line[channel];
    }
    for (int channel = 0; channel < 4; channel++) cells[(channel * rows + row) * columns + column] = sum[channel];
}

// One pass: empty cells take the sum of the nine cells around them, others stay. Where anything is known, every pass
// moves it one cell on, so max(rows, columns) - 1 passes leave no cell empty, and further ones change nothing.
KERNEL fill_cells(const float* from, float* to, int rows, int columns) {
    int column = across(), row = down();
    if (column >= columns || row >= rows) return;
    int plane = rows * columns, cell = row * columns + column;
    bool empty = from[3 * plane + cell] < LEAST_SHARE;
    for (int channel = 0; channel < 4; channel++) {
        const float* values = from + channel * plane;
        float value = values[cell];
        if (empty) {
            value = 0.0f;
            for (int r = row - 1; r <= row + 1; r++)
                for (int c = column - 1; c <= column + 1; c++)
                    if (r >= 0 && r < rows && c >= 0 && c < columns) value += values[r * columns + c];
        }
        to[channel * plane + cell] = value;
    }
}

// Pixels that are not known take the mean of the known ones around them, from the filled cells; in place. Where nothing
// at all is known they stay as they are.
KERNEL fill_unknown(float* layers, const byte* known, const float* cells, int width, int height, int rows,
                    int columns) {
    int x = across(), y = down();
    if (x >= width || y >= height) return;
    int pixel = y * width + x;
    if (known[pixel]) return;
    Taps vertical(y, rows, height), horizontal(x, columns, width);
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int row = vertical.first; row < vertical.end; row++)
        for (int column = horizontal.first; column < horizontal.end; column++) {
            float weight = vertical.weight(row) * horizontal.weight(column);
            for (int channel = 0; channel < 4; channel++)
                sum[channel] += weight * cells[(channel * rows + row) * columns + column];
        }
    if (!(sum[3] > 0.0f)) return;
    for (int channel = 0; channel < 3; channel++)
        layers[(3 + channel) * width * height + pixel] = sum[channel] / sum[3];
}
