#version 330
// The ribbon's colour was found at its vertices; the hairs in it differ a little.
in vec3 v_color;
in vec2 v_across;
layout(location = 0) out vec4 color;

void main() {
    float hairs = sin(v_across.x * 6.0 + v_across.y) + 0.7 * sin(v_across.x * 11.0 + v_across.y * 1.7);
    color = vec4(v_color * (0.93 + 0.11 * hairs), 1.0);
}
