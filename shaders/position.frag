#version 330
// Position map: the interpolated value, and 1 where the mesh covers the pixel.
in vec3 interpolated;
layout(location = 0) out vec4 map;

void main() {
    map = vec4(interpolated, 1.0);
}
