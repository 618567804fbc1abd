#version 330
// Blended over the baked skin: darker than head hair, soft at its edges and tip.
in vec2 v_across;
in float v_shade;
layout(location = 0) out vec4 color;

void main() {
    float cover = (1.0 - abs(v_across.x)) * smoothstep(0.0, 0.15, v_across.y) * smoothstep(1.0, 0.45, v_across.y);
    color = vec4(sqrt(vec3(0.060, 0.031, 0.018)), 0.90 * cover * v_shade);
}
