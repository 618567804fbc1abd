#version 330
// Skin: albedo, gloss and bump come from textures baked once; two wrapped lights whose terminator bleeds red.
#include light.glsl
#include view.glsl
uniform sampler2D albedo_map;   // linear RGB (stored as square root), gloss
uniform sampler2D bump_map;     // gradient of the relief in object space, [-1, 1] as [0, 1]; a: how much is lip
uniform mat4 head;
in vec3 v_normal;
in vec4 v_light;
in vec2 v_uv;
layout(location = 0) out vec4 color;

void main() {
    vec4 surface = texture(albedo_map, v_uv), relief = texture(bump_map, v_uv);
    vec3 albedo = surface.rgb * surface.rgb, view = towards_camera();
    vec3 smooth_normal = normalize(v_normal);
    vec3 bent = normalize(smooth_normal - mat3(head) * (relief.rgb * 2.0 - 1.0) * 0.65);
    vec3 soft = normalize(mix(smooth_normal, bent, 0.35));
    float inside = v_light.w * step(0.75, relief.a);
    vec3 light = mix(v_light.xyz, vec3(0.25), inside);
    vec3 shade = diffuse(soft, light, vec3(0.42, 0.26, 0.20));
    vec3 lit = albedo * shade * mix(vec3(1.0), vec3(1.03, 0.985, 0.97), 1.0 - light.z);
    lit += glints(bent, view, light, surface.a * 0.35, mix(14.0, 34.0, relief.a)) * (1.0 - inside);
    color = vec4(encode(lit * mix(1.0, 0.4, inside)), 1.0);
}
