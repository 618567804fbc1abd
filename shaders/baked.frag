#version 330
// colour(u, v, b) = C0(u, v) + sum_k c_k(b) C_k(u, v): the mean is sharp and fixed, the sum is coarser and new in every frame.
precision highp float;
in vec2 at;
uniform sampler2D mean_color;
uniform sampler2D change;
layout(location = 0) out vec4 color;

// Texture coordinates whose ends are the centres of the first and the last texel: those lie on grid vertices.
vec2 centred(vec2 uv, ivec2 size) {
    return (uv * vec2(size - 1) + 0.5) / vec2(size);
}

void main() {
    vec3 sum = texture(mean_color, centred(at, textureSize(mean_color, 0))).rgb
             + texture(change, centred(at, textureSize(change, 0))).rgb;
    color = vec4(clamp(sum, 0.0, 1.0), 1.0);
}
