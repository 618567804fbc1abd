#version 330
// Teeth, gums and tongue: no hard shadow in the mouth, light fades smoothly with the depth behind the lips.
#include light.glsl
#include view.glsl
uniform vec3 lips;      // object space: y of the upper lip's inner rim, z of the lips, opening of the mouth (cm)
uniform float teeth;    // 1 for teeth, 0 for gums and tongue
in vec3 v_normal, v_rest, v_object;
in vec4 v_light;
in vec2 v_uv;
layout(location = 0) out vec4 color;

void main() {
    vec3 normal = normalize(v_normal), view = towards_camera();
    if (dot(normal, view) < 0.0) normal = -normal;
    vec3 albedo = mix(vec3(0.50, 0.175, 0.165), vec3(0.86, 0.74, 0.58), teeth);
    float depth = max(lips.y - 0.9 - v_object.z, 0.0) + 0.24 * abs(v_object.x);
    float open = smoothstep(0.0, 1.1, lips.z);
    float reach = mix(0.9, 1.6, open) * mix(1.35, 0.9, teeth);
    float fade = exp(-pow(depth / reach, 1.5));
    fade *= mix(0.62, 1.0, smoothstep(-0.15, 0.75, lips.x - v_object.y));    // under the upper lip
    fade *= mix(0.55, 1.0, open);
    vec3 light = vec3(0.80, 0.75, 0.85) * fade;
    vec3 lit = albedo * diffuse(normal, light, vec3(0.55));
    lit += glints(normal, view, light, mix(0.16, 0.22, teeth), 40.0) * fade;
    color = vec4(encode(lit * mix(0.80, 0.86, teeth)), 1.0);
}
