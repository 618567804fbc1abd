#version 330
// colour(u, v, b) = C0(u, v) + sum_k c_k(b) C_k(u, v): the mean is sharp and fixed, the sum is coarser and new in every frame.
precision highp float;
in vec2 at_mean;
in vec2 at_change;
uniform sampler2D mean_color;
uniform sampler2D change;  // 128 of 255 is no change
layout(location = 0) out vec4 color;

void main() {
    vec3 sum = texture(mean_color, at_mean).rgb + texture(change, at_change).rgb - 128.0 / 255.0;
    color = vec4(clamp(sum, 0.0, 1.0), 1.0);
}
