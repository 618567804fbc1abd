#version 330
// A room far out of focus.
in vec2 v_uv;
layout(location = 0) out vec4 color;

float disc(vec2 at, float radius) {
    return smoothstep(radius, radius * 0.55, length(v_uv - at));
}

void main() {
    vec2 p = v_uv;
    vec3 wall = mix(vec3(0.235, 0.265, 0.285), vec3(0.50, 0.515, 0.505), smoothstep(-0.1, 1.1, p.y * 0.75 + 0.35 * p.x));
    wall = mix(wall, vec3(0.60, 0.57, 0.50), 0.55 * smoothstep(0.24, 0.0, abs(p.x - 0.93)) * smoothstep(0.05, 0.5, p.y));
    wall = mix(wall, vec3(0.20, 0.25, 0.24), 0.45 * smoothstep(0.30, 0.05, abs(p.x - 0.06)) * smoothstep(0.9, 0.2, p.y));
    wall += vec3(0.17, 0.125, 0.07) * (0.6 * disc(vec2(0.82, 0.72), 0.13) + 0.45 * disc(vec2(0.95, 0.50), 0.11) + 0.3 * disc(vec2(0.76, 0.44), 0.08));
    wall += vec3(0.07, 0.10, 0.10) * (0.6 * disc(vec2(0.12, 0.66), 0.14) + 0.4 * disc(vec2(0.03, 0.36), 0.12) + 0.35 * disc(vec2(0.24, 0.86), 0.10));
    vec2 off = p - 0.5;
    float grain = fract(sin(dot(floor(p * 512.0), vec2(12.9898, 78.233))) * 43758.5453) - 0.5;
    color = vec4(wall * (1.0 - 0.35 * dot(off, off)) + grain / 255.0, 1.0);
}
