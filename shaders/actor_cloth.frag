#version 330
// A fine rib knit; uv in centimetres along and across the neckline.
#include light.glsl
in vec3 v_normal, v_rest, v_object;
in vec4 v_light;
in vec2 v_uv;
layout(location = 0) out vec4 color;

void main() {
    vec3 normal = normalize(v_normal);
    float collar = smoothstep(0.75, 0.60, v_uv.y);
    float rib = 0.5 + 0.5 * sin(v_uv.x * mix(9.0, 14.0, collar));
    vec3 albedo = vec3(0.052, 0.098, 0.110) * mix(1.0, 0.80 + 0.25 * rib, collar);
    albedo *= 1.0 - 0.35 * smoothstep(0.10, 0.0, abs(v_uv.y - 0.70));
    vec3 fuzz = vec3(0.05, 0.07, 0.075) * pow(1.0 - abs(normal.z), 3.0) * v_light.z;
    color = vec4(encode(albedo * diffuse(normal, v_light.xyz, vec3(0.25)) * 1.2 + fuzz), 1.0);
}
