#version 330
// Lashes: dark, matt; u is their opacity.
#include light.glsl
in vec3 v_normal, v_rest, v_object;
in vec4 v_light;
in vec2 v_uv;
layout(location = 0) out vec4 color;

void main() {
    color = vec4(encode(vec3(0.016, 0.011, 0.009)), v_uv.x);
}
