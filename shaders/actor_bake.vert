#version 330
// Lays a part of the skin out in its own chart; `nudge` fills the gutter around the islands.
uniform vec2 chart;    // the chart's lower left corner (u, v)
uniform vec3 nudge;    // a shift in clip space; its depth puts the gutter behind the island
in vec3 rest;
in float scalp;      // radians behind the hairline
in vec2 uv;
out vec3 v_rest;
out float v_scalp;

void main() {
    v_rest = rest;
    v_scalp = scalp;
    gl_Position = vec4((uv - chart) * 2.0 - 1.0 + nudge.xy, nudge.z, 1.0);
}
