#version 330
// Eyebrow hairs as quads in the face's chart.
in vec2 uv;
in vec2 across;   // -1 .. 1 over the hair, 0 .. 1 along it
in float shade;
out vec2 v_across;
out float v_shade;

void main() {
    v_across = across;
    v_shade = shade;
    gl_Position = vec4(uv * 2.0 - 1.0, 0.0, 1.0);
}
