#version 330
// Eyeballs: sclera, iris with a dark rim, pupil, and one soft catch light.
#include light.glsl
#include view.glsl
uniform vec3 eye_left, eye_right;   // centres, object space, cm
uniform float iris_radius;
in vec3 v_normal, v_rest, v_object;
in vec4 v_light;
in vec2 v_uv;
layout(location = 0) out vec4 color;

float hash(vec2 p) {
    return fract(sin(dot(p, vec2(127.1, 311.7))) * 43758.5453);
}

float noise(vec2 p) {
    vec2 i = floor(p), f = fract(p);
    f = f * f * (3.0 - 2.0 * f);
    return mix(mix(hash(i), hash(i + vec2(1, 0)), f.x), mix(hash(i + vec2(0, 1)), hash(i + vec2(1, 1)), f.x), f.y);
}

void main() {
    vec3 local = v_rest - (v_rest.x > 0.0 ? eye_left : eye_right);
    vec2 d = local.xy;
    float r = length(d) / iris_radius, turn = atan(d.y, d.x);
    vec3 normal = normalize(v_normal), view = towards_camera();
    if (dot(normal, view) < 0.0) normal = -normal;
    vec3 sclera = mix(vec3(0.58, 0.545, 0.53), vec3(0.60, 0.42, 0.38), smoothstep(1.35, 2.2, r) * 0.55);
    float fibre = noise(vec2(turn * 9.0 + 40.0, r * 3.0)) * 0.6 + noise(vec2(turn * 22.0 + 90.0, r * 5.0)) * 0.4;
    vec3 iris = mix(vec3(0.23, 0.125, 0.045), vec3(0.085, 0.075, 0.042), smoothstep(0.42, 0.80, r + 0.14 * (fibre - 0.5)));
    iris *= 0.55 + 0.9 * fibre;
    iris *= 1.0 - 0.75 * smoothstep(0.80, 1.02, r);
    iris *= 1.0 + 0.9 * smoothstep(0.25, -0.75, d.y / iris_radius);      // light gathers opposite the key
    vec3 albedo = mix(iris, sclera, smoothstep(0.93, 1.06, r));
    albedo = mix(vec3(0.006), albedo, smoothstep(0.36, 0.43, r));
    vec3 light = v_light.xyz * v_light.xyz * (0.5 + 0.5 * v_light.xyz) * 1.05;
    light = max(light, vec3(0.10));
    vec3 lit = albedo * diffuse(normal, light, vec3(0.35));
    vec3 catch_at = vec3(-0.16, 0.30, 0.0) * iris_radius * 1.2;
    float catch_light = smoothstep(0.24, 0.13, length((d - catch_at.xy) * vec2(1.0, 0.85) / iris_radius));
    lit += vec3(1.0, 0.98, 0.95) * catch_light * 1.1 + glints(normal, view, light, 0.08, 60.0);
    color = vec4(encode(lit), 1.0);
}
